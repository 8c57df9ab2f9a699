# The worker, and the advisers' page (target `page`): `docker compose up` builds both and runs them as docker-compose.yml
# says.

FROM python:3.11.13-slim-bookworm AS base
WORKDIR /src
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# Without sources the package is empty, and only its dependencies are installed: a layer that no change of code rebuilds.
COPY setup.cfg pyproject.toml ./
RUN pip install .

FROM base AS build
COPY README.md LICENSE ./
COPY models models
COPY codec codec
COPY agents agents
COPY app app
RUN pip install --no-deps .

FROM base AS build-page
RUN pip install '.[page]'
COPY README.md LICENSE ./
COPY models models
COPY codec codec
COPY agents agents
COPY app app
COPY page page
RUN pip install --no-deps .

FROM python:3.11.13-slim-bookworm AS runtime
# /data belongs to the user in the image, because a new volume takes the owner of the directory it is mounted on; and to
# group 0, because OpenShift runs images under a user id of its own, in that group. /data is also a home for such a user.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin risk && install -d -o risk -g root -m 775 /data
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/data RISK_DATADIR=/data
# a number: Kubernetes cannot tell whether a name is root
USER 10001
WORKDIR /data

FROM runtime AS page
COPY --from=build-page /opt/venv /opt/venv
ENV RISK_PAGE_DATADIR=/data
EXPOSE 6080
CMD ["faust", "-A", "app", "page"]

# the last one is what `docker build .` makes
FROM runtime AS worker
COPY --from=build /opt/venv /opt/venv
EXPOSE 6066
CMD ["faust", "-A", "app", "worker", "-l", "info"]
