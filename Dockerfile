# The worker: `docker compose up` builds and runs it; docker-compose.yml says how.

FROM python:3.11.13-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# requirements first: they change less often than the code
COPY setup.cfg docker/runtime.py ./
RUN python runtime.py > requirements.txt && pip install -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY agents agents
COPY app app
COPY stack stack
RUN pip install --no-deps .

FROM python:3.11.13-slim-bookworm
COPY --from=build /opt/venv /opt/venv
# the state's directory belongs to the user before a volume is put there: a new volume takes that over
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin risk && install -d -o risk -g risk /data
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 RISK_DATADIR=/data
USER risk
WORKDIR /data
EXPOSE 6066
CMD ["faust", "-A", "app", "worker", "-l", "info"]
