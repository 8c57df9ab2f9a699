"""connect/: the shipped configurations, the command that registers them, and the documents that sinks write."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from connect import rebuild, register
from tests.support import golden_cases
from tests.support.connect_stub import SinkStub
from tests.support.sink_documents import REPLACE_FIELD, Document, Record, documents, index_of
from tests.support.stub_server import StubServer, running
from tools.parity import cases
from tools.parity import recorded as parity

CONNECT = Path(__file__).parent.parent / "connect"
CONFIGS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(CONNECT.glob("s*-*.json"))
}
SINKS = {name: config for name, config in CONFIGS.items() if name.startswith("sink-")}
SOURCES = {name: config for name, config in CONFIGS.items() if name.startswith("source-")}
#: sinks of events, not of tables: one document per record, with its topic, partition and offset as id
EVENTS = {"sink-predictions-history"}
#: sinks that use the record's key as the document's id
KEYED = {name: config for name, config in SINKS.items() if name not in EVENTS}
TEMPLATE = json.loads((CONNECT / "index-template.json").read_text())
NAMES = Settings().topic_names


def fields_of(case: str, topic: str) -> set[str]:
    return {name for row in golden_cases.load(case)["expected"][topic] for name in json.loads(row["value"] or "{}")}


# --- the files ---


def test_sinks_read_the_apps_topics_and_sources_write_the_one_it_reads() -> None:
    assert {config["topics"] for config in SINKS.values()} == {
        NAMES.sessions,
        NAMES.agg,
        NAMES.prediction,
        NAMES.in_risk,
    }
    for config in SOURCES.values():
        assert f"{config['topic.prefix']}.{config['table.include.list']}" == NAMES.source


def test_every_sink_has_its_own_index_which_matches_the_template() -> None:
    indices = {name: index_of(config) for name, config in SINKS.items()}
    assert len(set(indices.values())) == len(SINKS)
    assert indices["sink-predictions-latest"] == "moodle_logs_prediction_latest"
    (pattern,) = TEMPLATE["index_patterns"]
    assert all(index.startswith(pattern.removesuffix("*")) for index in indices.values())


def test_the_template_types_every_field_the_app_writes() -> None:
    """Times are dates and a student's id is a keyword: dynamic mapping would make all of them long."""
    properties = TEMPLATE["template"]["mappings"]["properties"]
    written = (
        fields_of("p07_bridge_two", NAMES.sessions)
        | fields_of("p07_bridge_two", NAMES.agg)
        | fields_of("p38_prediction_threshold", NAMES.in_risk)
    )
    assert written == set(properties)
    assert {name for name, kind in properties.items() if kind["type"] == "date"} == {
        name for name in written if name.endswith("_DATE")
    }
    assert properties["USERID"] == {"type": "keyword"}


@pytest.mark.parametrize("name", SINKS)
def test_a_sink_reads_committed_records_from_the_beginning_and_keeps_bad_ones_as_dead_letters(name: str) -> None:
    config = SINKS[name]
    assert config["consumer.override.isolation.level"] == "read_committed"
    assert config["consumer.override.auto.offset.reset"] == "earliest"
    assert config["errors.tolerance"] == "all"
    assert config["errors.deadletterqueue.topic.name"] == f"{name}-dead-letters"
    # without these two, a record that is not a valid document fails the task even with a dead-letter queue
    assert config["drop.invalid.message"] == "true"
    assert config["behavior.on.malformed.documents"] == "warn"
    # an update would not use the offset as the document's version
    assert config["write.method"] == "INSERT"
    # a transform that renames the topic loses offsets without it
    routed = any(key.endswith(".type") and value.endswith("RegexRouter") for key, value in config.items())
    assert routed == (config.get("flush.synchronously") == "true")
    # a value that is JSON but no object would be sent again and again; this leaves out no field, and refuses it
    assert config["transforms"].split(",")[0] == "objects"
    assert config["transforms.objects.type"] == REPLACE_FIELD
    assert config["transforms.objects.exclude"] == "-"
    # after kill -9 its consumer is missed for 45 s by default; the broker's own lower limit is 6 s
    assert 6_000 <= int(config["consumer.override.session.timeout.ms"]) <= 10_000


#: the sink's own properties that the configurations use, all in the reference of version 16.0
SINK_KEYS = {
    *("connection.url", "connection.timeout.ms", "read.timeout.ms", "max.retries", "max.in.flight.requests"),
    *("schema.ignore", "write.method", "key.ignore", "behavior.on.null.values", "behavior.on.malformed.documents"),
    *("drop.invalid.message", "flush.synchronously"),
}
#: what Kafka Connect itself reads
CONNECT_KEYS = (
    "connector.class",
    "tasks.max",
    "topics",
    "key.",
    "value.",
    "transforms",
    "errors.",
    "consumer.override.",
)


def test_sinks_have_only_properties_of_the_version_that_the_image_pins() -> None:
    """Connect ignores a property that a connector does not have."""
    dockerfile = (CONNECT.parent / "docker/connect/Dockerfile").read_text()
    assert "kafka-connect-elasticsearch-16.0." in dockerfile
    used = {key for config in SINKS.values() for key in config if key in SINK_KEYS or not key.startswith(CONNECT_KEYS)}
    assert used == SINK_KEYS


@pytest.mark.parametrize("name", KEYED)
def test_a_keyed_sink_uses_the_keys_bytes_as_id_and_deletes_on_tombstones(name: str) -> None:
    config = KEYED[name]
    assert config["key.ignore"] == "false"
    assert config["behavior.on.null.values"] == "delete"
    assert config["key.converter"] == "org.apache.kafka.connect.storage.StringConverter"
    assert config["key.converter.converter.encoding"] == "ISO-8859-1"
    # with more, a request repeated after an outage may come after the delete that superseded it
    assert config["max.in.flight.requests"] == "1"


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_a_sink_of_events_keeps_every_record_regardless_of_its_key(name: str) -> None:
    """A keyed sink would keep only the last prediction of a student; the first warning would be lost."""
    assert SINKS[name]["key.ignore"] == "true"
    assert SINKS[name]["behavior.on.null.values"] == "ignore"


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_has_no_secret_and_no_property_that_debezium_3_ignores(name: str) -> None:
    config = SOURCES[name]
    assert (config["database.user"], config["database.password"]) == ("${env:CDC_USER}", "${env:CDC_PASSWORD}")
    old = {"drop.tombstones", "delete.handling.mode", "database.server.name", "database.whitelist", "table.whitelist"}
    assert not {key.removeprefix("transforms.unwrap.") for key in config} & old


def test_both_sources_write_the_same_records() -> None:
    """They differ in the connector and its connection to the database, not in anything that affects records."""
    mariadb, mysql = (SOURCES[f"source-{kind}"] for kind in ("mariadb", "mysql"))
    differing = {key for key in {*mariadb, *mysql} if mariadb.get(key) != mysql.get(key)}
    assert differing == {
        "connector.class",
        "database.hostname",
        "database.ssl.mode",
        "schema.history.internal.kafka.topic",
    }


# --- the documents of a sink ---


def final(records: Sequence[Record]) -> list[Document]:
    """Return the table that a topic represents: the last value of each key, without tombstones."""
    table = dict(records)
    return [json.loads(value) for value in table.values() if value is not None]


def counted(rows: Sequence[Document]) -> Counter[str]:
    return Counter(json.dumps(row) for row in rows)


async def emitted(name: str, emit: str) -> dict[str, list[Record]]:
    """Return the output for a recorded case: every revision, as KSQL wrote it, or the app's batches of two."""
    case = cases.load(golden_cases.GOLDEN / "public" / f"{name}.json")
    rows = case.expected if emit == "changes" else await parity.run(case, "batch", 2)
    return {topic: [(row.key, row.value) for row in rows[topic]] for topic in (NAMES.sessions, NAMES.agg)}


@pytest.mark.parametrize("emit", ["changes", "batch"])
@pytest.mark.parametrize("case", ["p07_bridge_two", "p08_bridge_chain", "p32_multi_user"])
async def test_documents_are_the_final_sessions_despite_redelivery(case: str, emit: str) -> None:
    """Sessions that grow and merge leave one document each, in both modes, after a replay and in reverse order."""
    written = await emitted(case, emit)
    for sink, topic in (("sink-sessions", NAMES.sessions), ("sink-agg", NAMES.agg)):
        records = list(enumerate(written[topic]))
        once = documents(SINKS[sink], records)
        assert counted(list(once.values())) == counted(final(written[topic]))
        assert documents(SINKS[sink], [*records, *records]) == once
        assert documents(SINKS[sink], [*reversed(records), *records]) == once


@pytest.mark.parametrize("emit", ["changes", "batch"])
async def test_unlike_the_original_demos_sink_ours_counts_each_session_once(emit: str) -> None:
    """With key.ignore=true and ignored tombstones, every revision of a session stays as a document of its own."""
    records = list(enumerate((await emitted("p07_bridge_two", emit))[NAMES.sessions]))
    ours = SINKS["sink-sessions"]
    demo = {**ours, "key.ignore": "true", "behavior.on.null.values": "ignore"}
    sessions = final([record for _, record in records])
    assert len(documents(ours, records)) == len(sessions) == 2
    assert len(documents(demo, records)) == {"changes": 7, "batch": 5}[emit]
    activities = sum(document["ACTIVITIES"] for document in documents(demo, records).values())
    assert activities > sum(document["ACTIVITIES"] for document in sessions)


def test_ids_of_session_keys_are_one_to_one_in_latin_1_and_not_in_utf_8() -> None:
    """The key ends in two eight-byte times. As UTF-8, two sessions share a document, and deletes hit the wrong one."""
    ends = range(1_561_975_200_000, 1_561_975_200_000 + 2_000_000, 1_000)
    keys = [b"12" + end.to_bytes(8, "big") + (end - 7_000).to_bytes(8, "big") for end in ends]
    records: list[tuple[int, Record]] = [(i, (key, b"{}")) for i, key in enumerate(keys)]
    ours = SINKS["sink-sessions"]
    assert len(documents(ours, records)) == len(keys)
    assert max(len(name.encode()) for name in documents(ours, records)) <= 512  # Elasticsearch's limit for an id
    assert len(documents({**ours, "key.converter.converter.encoding": "UTF-8"}, records)) < len(keys)


@pytest.mark.parametrize("name", SINKS)
def test_a_value_that_is_no_object_is_no_document(name: str) -> None:
    """The no-op transform makes it a dead letter, on a real Connect in tests/test_cdc.py; without it the sink stands
    still."""
    values = [b'{"USERID":1}', b"5", b"[1]", b'"x"', b"{}"]
    records: list[tuple[int, Record]] = [(i, (b"%d" % i, value)) for i, value in enumerate(values)]
    assert list(documents(SINKS[name], records).values()) == [{"USERID": 1}, {}]


def test_predictions_are_kept_as_the_latest_per_student_and_as_a_history() -> None:
    def prediction(student: int, score: float, at: int) -> Record:
        value = {"USERID": student, "PREDICTION": score, "CREATED_DATE": at}
        return str(student).encode(), json.dumps(value).encode()

    records = list(enumerate([prediction(2, 0.9, 1), prediction(3, 0.4, 2), prediction(2, 0.1, 3)]))
    latest = documents(SINKS["sink-predictions-latest"], [*records, *records])
    assert {name: document["PREDICTION"] for name, document in latest.items()} == {"2": 0.1, "3": 0.4}
    assert len(documents(SINKS["sink-predictions-history"], [*records, *records])) == 3


# --- the command ---


class Stub(StubServer):
    """The part of Connect's REST API that the command uses; `script` lists the states of a connector."""

    def __init__(self) -> None:
        super().__init__()
        self.unmounted = 2
        self.busy = 1
        self.configs: dict[str, dict[str, str]] = {}
        self.seen: list[str] = []
        self.refusal: tuple[int, str] | None = None
        #: keys of every connector, as Connect lists them
        self.keys = ["connection.username", "connection.password", "elastic.security.protocol"]
        #: what a login has to be, and a response in place of JSON
        self.authorization: str | None = None
        self.page: tuple[int, bytes] | None = None
        #: state of the connector and of its tasks, one per poll; the last one repeats
        self.script: list[tuple[str, list[str]]] = [("UNASSIGNED", []), ("RUNNING", []), ("RUNNING", ["RUNNING"])]
        self.trace = (
            "org.apache.kafka.connect.errors.ConnectException: outer\n\tat A.b(C.java:1)\nCaused by: java.net.X: gone\n"
        )

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        if self.unmounted:
            self.unmounted -= 1
            return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}
        self.seen.append(f"{method} {path}")
        if headers.get("authorization") != self.authorization:
            return 401, {"message": "who are you?"}
        if path.startswith("/connector-plugins/"):
            return 200, [{"name": name, "type": "STRING"} for name in self.keys]
        if path == "/":
            return 200, {"version": "4.1.1", "commit": "x"}
        name = path.split("/")[2]
        if method == "PUT":
            return self._put(name, json.loads(body))
        if method == "POST":
            return 202, {}
        connector, tasks = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        states = [{"id": i, "state": state, "trace": self.trace} for i, state in enumerate(tasks)]
        return 200, {"name": name, "connector": {"state": connector}, "tasks": states}

    def _put(self, name: str, body: dict[str, str]) -> tuple[int, Any]:
        if self.page:
            return self.page
        if self.busy:
            self.busy -= 1
            return 409, {"message": "rebalance"}
        if self.refusal:
            return self.refusal[0], {"message": self.refusal[1]}
        status = 200 if name in self.configs else 201
        self.configs[name] = body
        return status, {"name": name}


@pytest.fixture
def rest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setattr(register, "POLL_S", 0.005)
    monkeypatch.setattr(register, "SETTLED_S", 0.02)
    with running(Stub()) as stub:
        yield stub


@pytest.fixture
def run(rest: Stub) -> Callable[..., int]:
    def command(*arguments: str, timeout: float = 20) -> int:
        return register.main([f"--url={rest.url}", f"--timeout={timeout:g}", *arguments])

    return command


def test_it_waits_for_connect_puts_the_files_and_waits_until_they_run(
    rest: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """It retries on 404 while Connect starts, on 409 during a rebalance, and while there are no tasks yet."""
    assert run("source-mariadb", "sink-sessions") == 0
    assert rest.configs == {name: CONFIGS[name] for name in ("source-mariadb", "sink-sessions")}
    out = capsys.readouterr().out.splitlines()
    assert out == [
        f"Kafka Connect 4.1.1 at {rest.url}",
        "source-mariadb: RUNNING, 1 task",
        "sink-sessions: RUNNING, 1 task",
    ]


def test_it_is_idempotent_and_restarts_only_failed_tasks(rest: Stub, run: Callable[..., int]) -> None:
    assert run("sink-agg") == 0
    once = dict(rest.configs)
    assert "POST" not in " ".join(rest.seen)
    assert run("sink-agg") == 0
    assert rest.configs == once
    assert "POST /connectors/sink-agg/restart?includeTasks=true&onlyFailed=true" in rest.seen


def test_a_failed_task_is_reported_on_one_line_with_its_root_cause_and_exit_code_1(
    rest: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is reported even if the task runs at first, since a sink fails only at its first batch."""
    rest.script = [("RUNNING", ["RUNNING"]), ("RUNNING", ["FAILED"])]
    assert run("sink-agg") == 1
    assert capsys.readouterr().err == "register: sink-agg: task 0 failed: java.net.X: gone\n"


def test_it_waits_for_a_restarting_task(rest: Stub, run: Callable[..., int]) -> None:
    rest.script = [("RUNNING", ["FAILED"]), ("RUNNING", ["RESTARTING"]), ("RUNNING", ["RUNNING"])]
    assert run("sink-agg") == 0


def test_a_rejected_configuration_is_reported_at_once(
    rest: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    rest.refusal = 400, "Connector configuration is invalid:\nno such host"
    assert run("sink-agg") == 1
    assert (
        capsys.readouterr().err == "register: sink-agg was rejected: Connector configuration is invalid: no such host\n"
    )


def test_it_times_out_if_a_connector_never_runs(
    rest: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    rest.script = [("RUNNING", [])]
    assert run("sink-agg", timeout=1) == 1
    assert capsys.readouterr().err == "register: sink-agg is not running: RUNNING, no tasks (timed out)\n"


def test_it_times_out_if_no_server_listens(capsys: pytest.CaptureFixture[str]) -> None:
    stub = Stub()
    stub.server_close()
    assert register.main([f"--url={stub.url}", "--timeout=0.05", "sink-agg"]) == 1
    assert f"{stub.url} is not ready: " in capsys.readouterr().err


def test_set_overrides_a_key_in_every_file_that_has_it(rest: Stub, run: Callable[..., int]) -> None:
    """Tests use it to register the shipped files with their own hosts and ports."""
    changes = ("--set=database.hostname=127.0.0.1", "--set=connection.url=http://127.0.0.1:1/?a=b")
    assert run(*changes, "source-mariadb", "sink-agg") == 0
    assert rest.configs["source-mariadb"] == CONFIGS["source-mariadb"] | {"database.hostname": "127.0.0.1"}
    assert rest.configs["sink-agg"] == CONFIGS["sink-agg"] | {"connection.url": "http://127.0.0.1:1/?a=b"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--set=x", "sink-agg"], "--set x: expected KEY=VALUE"),
        (["index-template"], "is not a connector's configuration: connector.class is missing"),
        (["sink-nothing"], "No such file"),
    ],
)
def test_wrong_usage_is_reported_on_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register.main(arguments) == 1
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1


def test_set_adds_a_key_that_connect_knows_and_refuses_any_other(
    rest: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """A login of Elasticsearch is in no file. A misspelt key would be read by nobody."""
    new = {
        "connection.username": "sink",
        "connection.password": "${env:ELASTICSEARCH_PASSWORD}",
        "elastic.security.protocol": "SSL",
        "consumer.override.max.poll.records": "10",
    }
    assert run(*(f"--set={key}={value}" for key, value in new.items()), "sink-agg") == 0
    assert rest.configs["sink-agg"] == CONFIGS["sink-agg"] | new
    capsys.readouterr()
    assert run("--set=conection.username=sink", "sink-agg", "sink-sessions") == 1
    why = "no such key in sink-agg, sink-sessions, and Connect knows none of that name"
    assert capsys.readouterr().err == f"register: --set conection.username: {why}\n"


def test_an_answer_that_is_no_json_is_quoted(
    rest: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    rest.page, rest.unmounted = (500, b"<html>\n<h1>Bad gateway</h1>"), 0
    assert run("sink-agg", timeout=1) == 1
    assert capsys.readouterr().err == (
        "register: sink-agg was rejected: HTTP 500: <html> <h1>Bad gateway</h1> (timed out)\n"
    )


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("how", ["variables", "file", "URL"])
def test_a_login_is_sent_and_never_printed(
    rest: Stub,
    how: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """User and password come from the environment, a file, or the URL, where special characters are quoted."""
    rest.authorization, rest.unmounted = basic("ada", "p/w:1"), 0
    url = rest.url
    if how == "URL":
        url = url.replace("//", "//ada:p%2Fw%3A1@")
    else:
        monkeypatch.setenv("CONNECT_USER", "ada")
    if how == "variables":
        monkeypatch.setenv("CONNECT_PASSWORD", "p/w:1")
    if how == "file":
        (tmp_path / "password").write_text("p/w:1\n")
        monkeypatch.setenv("CONNECT_PASSWORD_FILE", str(tmp_path / "password"))
    assert register.main([f"--url={url}", "--timeout=20", "sink-agg"]) == 0
    printed = capsys.readouterr()
    assert f"at {rest.url}\n" in printed.out
    assert "p/w" not in printed.out + printed.err
    assert "p%2Fw" not in printed.out + printed.err


@pytest.mark.parametrize(
    ("variables", "url", "line"),
    [
        ({}, "", "refuses the login (HTTP 401): set CONNECT_USER and CONNECT_PASSWORD"),
        ({"CONNECT_USER": "ada"}, "", "user ada has no password: set CONNECT_PASSWORD or CONNECT_PASSWORD_FILE"),
        ({"CONNECT_PASSWORD": "x"}, "", "CONNECT_PASSWORD without a user: set CONNECT_USER"),
        ({"CONNECT_USER": "a", "CONNECT_PASSWORD_FILE": "/none"}, "", "CONNECT_PASSWORD_FILE: /none: No such file"),
        ({"CONNECT_CA": "/none"}, "https://127.0.0.1:1", "CONNECT_CA: /none: "),
        ({}, "kafka:8083", "the URL is wrong: it has to begin with http:// or https:// and a host"),
        ({}, "http://ada:secret@h:port", "the URL is wrong: "),
    ],
)
def test_a_wrong_login_is_reported_on_one_line(
    rest: Stub,
    variables: dict[str, str],
    url: str,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rest.authorization, rest.unmounted = basic("ada", "pw"), 0
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert register.main([f"--url={url or rest.url}", "--timeout=20", "sink-agg"]) == 1
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1
    assert "secret" not in err


def test_a_proxy_is_for_other_machines_and_is_named(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("http_proxy", "http://ada:secret@127.0.0.1:9")
    assert run("sink-agg") == 0
    assert register.main(["--url=http://connect.example:8083", "--timeout=0.05", "sink-agg"]) == 1
    err = capsys.readouterr().err
    assert "(through the proxy 127.0.0.1; NO_PROXY lists hosts that need none)" in err
    assert "secret" not in err


# --- rebuilding an index ---


class Index(StubServer):
    """Elasticsearch as far as an index is rebuilt."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.status = 200

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        self.seen.append(f"{method} {path}")
        if method == "PUT":
            assert json.loads(body) == TEMPLATE
        return self.status, {"error": {"reason": "no"}} if self.status != 200 else {"acknowledged": True}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "POLL_S", 0.005)
    # the scripts import one another by their own names
    monkeypatch.setattr("register.POLL_S", 0.005)
    monkeypatch.setattr("register.SETTLED_S", 0.02)


@pytest.mark.parametrize("name", SINKS)
def test_rebuilding_stops_the_sink_and_reads_its_topic_from_the_beginning(
    quick: None, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It waits until the consumer has left its group. `tests/test_search.py` deletes a real index, and
    `tests/test_cdc.py` sets a real sink back."""
    index = index_of(SINKS[name])
    with running(SinkStub(name, SINKS[name])) as connect, running(Index()) as elasticsearch:
        command = [f"--url={connect.url}", f"--elasticsearch={elasticsearch.url}", "--timeout=20", name]
        assert rebuild.main(command) == 0
        assert connect.seen == ["PUT stop", "DELETE offsets", "PUT resume"]
        assert elasticsearch.seen == ["PUT /_index_template/moodle-risk", f"DELETE /{index}"]
        assert capsys.readouterr().out == f"{name}: {index} is being rebuilt; RUNNING, 1 task\n"


def test_a_sink_is_not_stopped_if_elasticsearch_refuses(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    with running(SinkStub("sink-agg", SINKS["sink-agg"])) as connect, running(Index()) as elasticsearch:
        elasticsearch.status = 401
        command = [f"--url={connect.url}", f"--elasticsearch={elasticsearch.url}", "--timeout=20", "sink-agg"]
        assert rebuild.main(command) == 1
        assert connect.seen == []
        err = capsys.readouterr().err
        assert err.startswith(f"rebuild: PUT {elasticsearch.url}/_index_template/moodle-risk: HTTP 401: ")
        assert err.count("\n") == 1


def test_a_source_and_a_sink_that_would_not_begin_at_the_beginning_are_refused(
    quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """An index would stay empty."""
    key = "consumer.override.auto.offset.reset"
    latest = SINKS["sink-agg"] | {key: "latest"}
    for name, config in (("source-mariadb", SOURCES["source-mariadb"]), ("sink-agg", latest)):
        with running(SinkStub(name, config)) as connect:
            assert rebuild.main([f"--url={connect.url}", "--timeout=20", name]) == 1
            assert connect.seen == []
    assert capsys.readouterr().err == (
        "rebuild: source-mariadb is not a sink: its configuration has no topics\n"
        f"rebuild: sink-agg would not begin at the beginning: {key} is not earliest\n"
    )


@pytest.mark.parametrize("script", ["connect/register.py", "connect/rebuild.py", "kibana/load.py"])
def test_a_script_needs_only_python(script: str) -> None:
    """The script runs isolated and without site-packages."""
    command = [sys.executable, "-I", "-S", str(CONNECT.parent / script), "--help"]
    assert subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
