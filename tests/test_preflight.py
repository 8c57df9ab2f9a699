"""A worker that cannot start prints one line that says what to set, and ends at once with exit code 1."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from tempfile import TemporaryDirectory
from threading import Thread

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from app.errors import ConfigError
from app.kafka import topics
from app.model_file import load_model
from app.ops import preflight
from app.settings import Settings
from app.state.place import take
from tests.support.cluster import RETAINED, START, TIMEOUT_S, Deployment, run_async, visit
from tools.e2e.workers import ROOT, free_port

#: the longest a refusal may take on a busy machine, ten seconds of which it may wait for a silent server [s]
REFUSED_S = 25.0
INT_TIME = {
    "type": "record",
    "name": "Value",
    "namespace": "x",
    "fields": [{"name": n, "type": t} for n, t in (("id", "long"), ("userid", "long"), ("timecreated", "int"))],
}
ENVELOPE = {
    "type": "record",
    "name": "Envelope",
    "fields": [{"name": n, "type": "string"} for n in ("before", "after", "op")],
}


def start(variables: dict[str, str], *arguments: str) -> tuple[int, list[str]]:
    """Start a worker that should refuse to start; return its exit code and the lines on stderr."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "faust", "-A", "app", "worker", "-l", "warn", *arguments],
        env={**os.environ, "RISK_WEB_PORT": str(free_port()), **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2 * REFUSED_S,
        check=False,
    )
    assert time.monotonic() - began < REFUSED_S
    return done.returncode, [line for line in done.stderr.splitlines() if line.strip()]


def refused(variables: dict[str, str], *words: str) -> list[str]:
    """Check that a worker exits with code 1 after one line that contains all `words`; return the line."""
    code, lines = start(variables)
    assert code == 1
    assert len(lines) == 1, lines
    for word in words:
        assert word in lines[0], (word, lines[0])
    return lines


def check_start(variables: dict[str, str]) -> None:
    """Run the checks of a starting worker up to the connection to the broker, in this process."""
    with TemporaryDirectory() as directory:
        settings = Settings.from_env({"RISK_WEB_PORT": "0", "RISK_DATADIR": directory, **variables})
        os.close(take(settings.datadir, settings.app_id).lock)
    preflight.check_machine(settings)
    load_model(settings.model)
    asyncio.run(preflight.connect(settings))


def refusal(**variables: str) -> str:
    """Return the error with which a worker with these settings refuses to start."""
    with pytest.raises(ConfigError) as error:
        check_start(variables)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RISK_BROKER", "nowhere"),
        ("RISK_BROKER", "no-such-host.invalid:9092"),
        ("RISK_EMIT", "all"),
        ("RISK_TIME_UNIT", "us"),
        ("RISK_TIME_UNIT", "minutes"),
        ("RISK_SCHEMA_REGISTRY", "127.0.0.1:8081"),
        ("RISK_SCHEMA_REGISTRY", "http://127.0.0.1:port"),
        ("RISK_SCHEMA_REGISTRY", "http://no-such-host.invalid:8081"),
        ("RISK_DATADIR", "/proc/nothing/can/be/written"),
        ("RISK_WEB_PORT", "99999"),
    ],
)
def test_an_invalid_setting_is_named(variable, value):
    """An invalid value stops the start with one line that names the variable."""
    assert variable in refusal(**{variable: value})


def test_an_invalid_setting_ends_the_worker_with_one_line():
    """The error reaches the user: one line on stderr, exit code 1, no traceback."""
    refused({"RISK_EMIT": "all"}, "RISK_EMIT")


def test_a_broker_that_does_not_answer_is_named():
    """Without a broker there is one line instead of tracebacks of connection errors."""
    refused({"RISK_BROKER": f"127.0.0.1:{free_port()}"}, "RISK_BROKER", "127.0.0.1")


@contextmanager
def silent() -> Iterator[int]:
    """Yield a port that accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield listening.getsockname()[1]


@pytest.mark.parametrize("unroutable", [False, True])
def test_a_silent_broker_is_named(unroutable, monkeypatch):
    """A broker that never answers, and an address to which packets are dropped: the wait is limited."""
    monkeypatch.setattr(preflight, "PATIENCE_S", 1.0)
    with silent() as port:
        broker = "10.255.255.1:9092" if unroutable else f"127.0.0.1:{port}"
        error = refusal(RISK_BROKER=broker)
    # in some networks a proxy answers for any address
    assert "RISK_BROKER" in error or (unroutable and "RISK_KAFKA_SECURITY_PROTOCOL" in error)
    assert broker in error


def test_a_silent_name_service_does_not_delay_the_exit(tmp_path):
    """If the resolver hangs for minutes, the program must not wait for it before it exits."""
    (tmp_path / "sitecustomize.py").write_text(
        "import socket, time\n"
        "real = socket.getaddrinfo\n"
        "def slow(host, *args, **kwargs):\n"
        "    if host == 'slow.example':\n"
        "        time.sleep(60)\n"
        "    return real(host, *args, **kwargs)\n"
        "socket.getaddrinfo = slow\n"
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    refused({"PYTHONPATH": path, "RISK_BROKER": "slow.example:9092"}, "RISK_BROKER", "slow.example")


def test_models_that_cannot_be_read_are_named(tmp_path):
    """For any content the error says what is wrong with the file; no broker is needed."""
    shipped = json.loads(resources.files("app").joinpath("data/model-v1.json").read_text("utf-8"))

    def signed(**changed: object) -> bytes:
        fields = {**shipped, **changed}
        del fields["sha256"]
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return json.dumps({**fields, "sha256": hashlib.sha256(canonical.encode()).hexdigest()}).encode()

    path = tmp_path / "model.json"
    for raw, message in {
        b"": "not a risk model",
        b"not json": "not a risk model",
        b"[1, 2]": "not a risk model",
        b"[" * 100_000: "nested too deep",
        b"\xff\xfe{}": "utf-8",
        json.dumps({**shipped, "intercept": 9.0}).encode(): "altered",
        signed(version=2): "not a standing model",
        signed(version=3): "version 3 of the layout; this program reads 1 and 2: run the version",
        signed(version=0): "train it again",
        signed(version="x"): "train it again",
        signed(intercept=10**400): "too large",
        signed(features=5): "not a risk model",
        signed(center=[[1]] * len(shipped["center"])): "not a risk model",
        signed(scale=[0.0] * len(shipped["scale"])): "scale",
        signed(more=1): "not a risk model",
        signed(session_gap_ms="x"): "train it again",
    }.items():
        path.write_bytes(raw)
        with pytest.raises(ConfigError, match=message) as caught:
            load_model(str(path))
        assert str(caught.value).startswith(f"RISK_MODEL: {path} cannot be used: ")
        assert "\n" not in str(caught.value)


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"^RISK_MODEL: v3 is neither a file nor one of v1, v2, v2s$"):
        load_model("v3")


def test_an_unreadable_model_is_named(tmp_path):
    """An unreadable or altered model is refused before the worker connects to a broker."""
    path = tmp_path / "model.json"
    missing = refusal(RISK_MODEL=str(path))
    assert "RISK_MODEL" in missing
    assert str(path) in missing
    path.write_text("{}")
    assert "not a risk model" in refusal(RISK_MODEL=str(path))
    path.write_text("[" * 100_000)
    assert "nested too deep" in refusal(RISK_MODEL=str(path))
    assert "Is a directory" in refusal(RISK_MODEL=str(tmp_path))


@pytest.mark.broker
def test_a_source_topic_that_is_missing_is_named(deployment):
    """A worker without a source topic would idle for ever."""
    refused(dict(deployment.variables), deployment.names.source, "RISK_SOURCE_TOPIC")


@pytest.mark.broker
def test_a_registry_that_does_not_answer_is_named(deployment):
    """The registry is down, silent, or another server answers at its URL."""
    deployment.make_source()
    closed = f"http://me:secret@127.0.0.1:{free_port()}"
    lines = refused({**deployment.variables, "RISK_SCHEMA_REGISTRY": closed}, "RISK_SCHEMA_REGISTRY")
    assert "secret" not in lines[0]
    with silent() as port:
        hanging = {**deployment.variables, "RISK_SCHEMA_REGISTRY": f"http://127.0.0.1:{port}/x"}
        refused(hanging, "RISK_SCHEMA_REGISTRY", f"http://127.0.0.1:{port}/x", "silence")
    with pages() as url:
        refused({**deployment.variables, "RISK_SCHEMA_REGISTRY": url}, "RISK_SCHEMA_REGISTRY", url, "HTTP 404")


@contextmanager
def pages() -> Iterator[str]:
    """Yield the URL of a web server that is no registry: it answers everything with 404 and HTML."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.broker
def test_a_log_in_another_unit_is_warned_about(deployment):
    """A log in seconds with RISK_TIME_UNIT=ms is no error, since the times may be right; a warning says what to set."""
    schema = deployment.make_source()
    deployment.send(deployment.names.source, [visit(schema, 7, START // 1000)])
    with deployment.worker() as worker:
        worker.wait_idle(timeout=TIMEOUT_S, events=1)
        assert worker.stats()["counts"]["suspicious_unit"] == 1
        worker.stop()
    assert "set RISK_TIME_UNIT=s" in worker.log.read_text()


@pytest.mark.broker
def test_a_subject_that_is_missing_is_named(deployment):
    """The topic exists, but no schema was ever registered for it."""
    deployment.declare(topics.Topic(deployment.names.source, 1, RETAINED))
    refused(dict(deployment.variables), f"{deployment.names.source}-value")


@pytest.mark.broker
@pytest.mark.parametrize(("schema", "message"), [(INT_TIME, "timecreated"), (ENVELOPE, "ExtractNewRecordState")])
def test_a_schema_that_ksql_refuses_is_refused(deployment, schema, message):
    """The subject's latest schema decides, as with CREATE STREAM."""
    deployment.declare(topics.Topic(deployment.names.source, 1, RETAINED))
    deployment.register(schema)
    refused(dict(deployment.variables), deployment.names.source, message)


def test_ids_that_are_text_cannot_be_deduplicated():
    """KSQL takes an id of any type, so that only RISK_DEDUPLICATE=log-id refuses it."""
    types = {"id": "string", "userid": "long", "timecreated": "long"}
    schema = {**INT_TIME, "fields": [{"name": name, "type": avro} for name, avro in types.items()]}
    assert preflight.check_schema(Settings(), schema, "subject s").columns["ID"] == "STRING"
    with pytest.raises(ConfigError, match=r"RISK_DEDUPLICATE: column id of topic .* is STRING and must be an integer"):
        preflight.check_schema(Settings(deduplicate="log-id"), schema, "subject s")
    schema["fields"][0]["type"] = "int"
    assert preflight.check_schema(Settings(deduplicate="log-id"), schema, "subject s").columns["ID"] == "INTEGER"


@pytest.mark.broker
def test_an_output_topic_of_two_partitions_is_refused(deployment):
    """Output topics have one partition each, as KSQL creates them with PARTITIONS=1."""
    deployment.make_source()
    deployment.declare(topics.Topic(deployment.names.agg, 2, {"cleanup.policy": "compact"}))
    refused(dict(deployment.variables), deployment.names.agg, "2 partitions")


@pytest.mark.broker
def test_a_changelog_that_deletes_is_refused(deployment):
    """Retention would delete state."""
    deployment.make_source()
    deployment.declare(topics.Topic(deployment.names.students_changelog, 1, {"cleanup.policy": "delete"}))
    refused(dict(deployment.variables), deployment.names.students_changelog, "compact")


def test_a_port_in_use_is_named(tmp_path):
    """A second worker on the same machine needs another port, and is told how to get a free one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused({"RISK_WEB_PORT": port, "RISK_DATADIR": str(tmp_path)}, "RISK_WEB_PORT", port, "or 0 for any that is")


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    refused({"RISK_DATADIR": str(tmp_path / "file")}, "RISK_DATADIR: cannot write to", str(tmp_path / "file"))


@pytest.mark.broker
def test_topics_are_declared_and_one_that_deletes_too_early_is_warned_about(deployment):
    """The app sets partitions and configuration of new topics; an existing topic's short retention is a warning."""
    deployment.make_source(3)
    deployment.declare(
        topics.Topic(
            deployment.names.sessions, 1, {"cleanup.policy": "delete", "retention.ms": "604800000", **topics.ANY_TIME}
        )
    )
    with deployment.worker() as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=TIMEOUT_S)
        worker.stop()
    text = worker.log.read_text()
    assert f"topic {deployment.names.sessions} has retention.ms=604800000" in text
    wanted = [t for t in topics.wanted(deployment.names, 3, risk=False) if t.name != deployment.names.sessions]
    partitions, configs = run_async(_describe(deployment, [t.name for t in wanted]))
    for topic in wanted:
        assert partitions[topic.name] == topic.partitions
        for name, value in topic.configs.items():
            assert configs[topic.name][name] == value, (topic.name, name)


@pytest.mark.broker
def test_an_output_that_was_deleted_is_said_to_be_made_anew(deployment):
    """Elasticsearch takes its new rows for older versions. At the first start, nothing is said."""

    async def declare(deleted: str | None = None) -> list[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=deployment.servers.broker)
        await admin.start()
        try:
            if deleted is not None:
                await admin.delete_topics([deleted])
            return await topics.declare(admin, topics.wanted(deployment.names, 1), 1)
        finally:
            await admin.close()

    assert run_async(declare()) == []
    assert run_async(declare()) == []
    (line,) = run_async(declare(deployment.names.agg))
    assert line.startswith(f"topic {deployment.names.agg} was missing and is made anew: an index of the former one")


async def _describe(deployment: Deployment, names: list[str]) -> tuple[dict[str, int], dict[str, dict[str, str]]]:
    admin = AIOKafkaAdminClient(bootstrap_servers=deployment.servers.broker)
    await admin.start()
    try:
        partitions = await topics.partitions_of(admin, names)
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, n) for n in names])
        return partitions, {r[3]: {e[0]: e[1] for e in r[4]} for a in answers for r in a.resources}
    finally:
        await admin.close()
