"""`python -m tests.matrix [--kafka VERSION…] [--steps STEP…]`: the same checks on each version of Kafka; JSON last.

Smoke, the tests in which workers and servers fail, and a short chaos run with one broker and with three. It takes
about a quarter of an hour for each version. The run on a bare machine (.ci/run) does the smoke on 4.1 if it has time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack.kafka_versions import VARIABLE, VERSIONS

ROOT = Path(__file__).parent.parent
#: tests in which a worker talks to a broker that matters
TESTS = (
    "test_stack",
    "test_worker_faults",
    "test_worker_deaths",
    "test_watchdog",
    "test_preflight",
    "test_preflight_rights",
    "test_worker_golden",
)
_FAUST = ("-m", "faust", "-A", "app")
#: step → arguments of Python
STEPS: Mapping[str, Sequence[str]] = {
    "smoke": (*_FAUST, "smoke"),
    "tests": ("-m", "pytest", "-q", "-m", "broker", *(f"tests/{name}.py" for name in TESTS)),
    "chaos": (*_FAUST, "chaos", "--minutes", "1"),
    "long tests": ("-m", "pytest", "-q", "-m", "long"),
    "three brokers": (*_FAUST, "chaos", "--brokers", "3", "--minutes", "3"),
}


def run(version: str, step: str) -> bool:
    """Run one step on one version and report it; return whether it succeeded."""
    began = time.monotonic()
    environment = {**os.environ, VARIABLE: version}
    code = subprocess.run([sys.executable, *STEPS[step]], cwd=ROOT, env=environment, check=False).returncode
    verdict = "ok" if code == 0 else f"FAILED with exit code {code}"
    print(f"Kafka {version}, {step}: {verdict}, {time.monotonic() - began:.0f} s", flush=True)
    return code == 0


def main() -> int:
    """Run all steps, also after one has failed; return 1 if any did."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--kafka", nargs="+", choices=list(VERSIONS), default=list(VERSIONS), help="versions")
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS), help="what to run")
    arguments = parser.parse_args()
    failed = [f"{version}: {step}" for version in arguments.kafka for step in arguments.steps if not run(version, step)]
    print(json.dumps({"kafka": {v: VERSIONS[v] for v in arguments.kafka}, "steps": arguments.steps, "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
