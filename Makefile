# Every target sets up what it needs: a virtual environment in .venv, servers in a per-user cache.
.DEFAULT_GOAL := help
.PHONY: help demo smoke check test parity chaos matrix situations evaluate remedies bench pictures lint up down clean

# another interpreter beside the first: make check PYTHON=python3.12 VENV=.venv-3.12
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# options of demo, smoke, chaos, matrix, remedies, bench (OPTS="--presentation BBB-2013J"), and of pytest (OPTS="-k avro")
OPTS   ?=
# effort of property tests and fuzzing (tests/support/effort.py) in `make check`, and in `make test`; 1: as written
EFFORT ?= 0.1
TEST_EFFORT ?= 0.04

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): setup.cfg pyproject.toml
	@echo "setting up $(VENV) …"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); \
	  echo "this Python has no venv: using virtualenv"; \
	  $(PYTHON) -m virtualenv --version >/dev/null 2>&1 || $(PYTHON) -m pip install --quiet --user --break-system-packages virtualenv || $(PYTHON) -m pip install --quiet --user virtualenv; \
	  $(PYTHON) -m virtualenv --quiet $(VENV); }
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -q -e '.[test]'
	@touch $@

demo: $(READY) ## real students, live, on a Kafka of its own; CDC=1: through MariaDB and Debezium
	@$(BIN)/faust -A app demo $(if $(CDC),--cdc) $(OPTS)

smoke: $(READY) ## the whole job on a real Kafka, every row recomputed; JSON last
	@$(BIN)/faust -A app smoke $(OPTS)

check: lint ## lint, types, import contracts, and all tests that need no server: the inner loop, about a minute
	TEST_EFFORT=$(EFFORT) $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder \
	  -m "not broker and not cdc and not search and not browser and not alone" $(OPTS)

test: lint ## lint, types, import contracts, and all tests, with real servers
	TEST_EFFORT=$(TEST_EFFORT) $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations=12 \
	  -m "not alone and not long" $(OPTS)
	$(BIN)/python -m pytest -m alone

parity: $(READY) ## what KSQL 5.3 wrote, byte for byte, without a broker
	@$(BIN)/faust -A app parity --differences tests/golden/differences.json \
	  $(filter-out %p37_sessions_topic_foreign.json,$(wildcard tests/golden/public/*))

chaos: $(READY) ## kill, wipe, suspend and join workers, stop servers; every row recomputed; JSON last
	@$(BIN)/faust -A app chaos $(OPTS)

matrix: $(READY) ## smoke, faults and chaos on each version of Kafka (OPTS="--kafka 4.1"); JSON last
	@$(BIN)/python -m tests.matrix $(OPTS)

situations: $(READY) ## 300 random situations of real sites: every good row counts, or one clear line; JSON last
	@$(BIN)/faust -A app situations $(OPTS)

evaluate: $(READY) ## the shipped models on students they were not trained on, by the worker's own agents; JSON last
	@$(BIN)/faust -A app evaluate $(OPTS)

remedies: $(READY) ## take each remedy against a fault out of a copy, and check that its tests fail; JSON last
	@$(BIN)/python -m tests.remedies $(OPTS)

bench: $(READY) ## speed on this machine, side by side: reading, the whole job, plain Faust, latency; JSON last
	@$(BIN)/python -m bench $(OPTS)

pictures: $(READY) ## the pictures of docs/adviser.md, from the real page; needs Debian's chromium
	@$(BIN)/python -m tests.pictures $(OPTS)

lint: $(READY) ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# `docker compose` if it is installed, else empty
COMPOSE = $(shell docker compose version >/dev/null 2>&1 && echo docker compose)

up: ## the whole stack with docker compose; without Docker: Kafka and a schema registry
	@if [ -n "$(COMPOSE)" ]; then $(PYTHON) docker/env.py && $(COMPOSE) up --detach --build; \
	else echo "no docker compose here: Kafka and a schema registry only, for \`faust -A app worker\`"; \
	  $(MAKE) --no-print-directory $(READY) && $(BIN)/python -m stack up .stack; fi

down: ## stop what `make up` started; data is kept
	@if [ -n "$(COMPOSE)" ]; then $(COMPOSE) --profile ksql down; fi
	@if [ -d .stack ]; then $(BIN)/python -m stack down .stack; fi

clean: ## remove the virtual environment and what demo and up left
	rm -rf $(VENV) .demo .stack
