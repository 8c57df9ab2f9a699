"""connect/: the shipped configurations, the command that registers them, and the documents that sinks write."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from tests.support import golden_cases, risk_course
from tests.support.sink_documents import REPLACE_FIELD, Document, Record, documents, index_of
from tools.parity import cases
from tools.parity import recorded as parity

CONNECT = Path(__file__).parent.parent / "connect"
CONFIGS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(CONNECT.glob("s*-*.json"))
}
SINKS = {name: config for name, config in CONFIGS.items() if name.startswith("sink-")}
SOURCES = {name: config for name, config in CONFIGS.items() if name.startswith("source-")}
#: sinks of events, not of tables: one document per record, with its topic, partition and offset as id
EVENTS = {"sink-predictions-history", "sink-risk-alerts"}
#: sinks that use the record's key as the document's id
KEYED = {name: config for name, config in SINKS.items() if name not in EVENTS}
TEMPLATE = json.loads((CONNECT / "index-template.json").read_text())
NAMES = Settings().topic_names


def fields_of(topic: str) -> set[str]:
    """Return the fields of a topic's rows, those inside an array by their path."""
    case = {NAMES.sessions: "p07_bridge_two", NAMES.agg: "p07_bridge_two"}.get(topic, "p38_prediction_threshold")
    recorded = NAMES.in_risk if topic == NAMES.prediction else topic
    if topic == NAMES.risk:
        rows = [value for _, value in risk_course.written().risk]
    elif topic == NAMES.risk_alerts:
        rows = [value for _, value in risk_course.written().alerts]
    else:
        rows = [row["value"] for row in golden_cases.load(case)["expected"][recorded]]
    return {path for row in rows for path in _paths(json.loads(row or "{}"))}


def _paths(document: Document, prefix: str = "") -> Iterator[str]:
    for name, value in document.items():
        if isinstance(value, list):
            for inner in value:
                yield from _paths(inner, f"{prefix}{name}.")
        else:
            yield prefix + name


def typed(properties: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return path -> type of the template's fields, those of objects and further forms of a field included."""
    types: dict[str, str] = {}
    for name, kind in properties.items():
        path = prefix + name
        types |= {path: kind["type"]} if "type" in kind else typed(kind["properties"], f"{path}.")
        types |= typed(kind.get("fields", {}), f"{path}.")
    return types


# --- the files ---


def test_sinks_read_the_apps_topics_and_sources_write_the_one_it_reads() -> None:
    assert {config["topics"] for config in SINKS.values()} == {
        NAMES.sessions,
        NAMES.agg,
        NAMES.prediction,
        NAMES.in_risk,
        NAMES.risk,
        NAMES.risk_alerts,
    }
    for config in SOURCES.values():
        assert f"{config['topic.prefix']}.{config['table.include.list']}" == NAMES.source


def test_every_sink_has_its_own_index_which_matches_the_template() -> None:
    indices = {name: index_of(config) for name, config in SINKS.items()}
    assert len(set(indices.values())) == len(SINKS)
    assert indices["sink-predictions-latest"] == "moodle_logs_prediction_latest"
    assert indices["sink-risk-alerts"] == "moodle_risk_alerts"
    patterns = TEMPLATE["index_patterns"]
    assert all(any(fnmatch(index, pattern) for pattern in patterns) for index in indices.values())


def test_the_template_types_every_field_the_app_writes() -> None:
    """Times and days are dates, ids are keywords: dynamic mapping would make all numbers long, and texts full texts."""
    properties = TEMPLATE["template"]["mappings"]["properties"]
    written = set().union(*(fields_of(config["topics"]) for config in SINKS.values()))
    types = typed(properties)
    days = {"SINCE", "AS_OF", "DAY", "OPENED"}
    assert written == types.keys() - {f"{day}.day" for day in days}
    assert {name for name, kind in types.items() if kind == "date"} == days | {
        name for name in written if name.endswith("_DATE")
    }
    # a day as it was written: Kibana shows a date in the reader's zone, where it may be the day before
    assert all(properties[day]["fields"] == {"day": {"type": "keyword"}} for day in days)
    assert properties["USERID"] == {"type": "keyword"}
    # without courses COURSEID is null, and a table with a column for it would be empty
    assert properties["COURSEID"] == {"type": "keyword", "null_value": "all"}


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


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_refused_by_a_connect_that_would_send_rows_again(name: str) -> None:
    """Rows and their offsets are one transaction for each poll, the only boundary that Debezium supports."""
    assert (SOURCES[name]["exactly.once.support"], SOURCES[name]["transaction.boundary"]) == ("required", "poll")


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


@pytest.mark.parametrize("site", [False, True], ids=["per course", "site"])
def test_the_risk_of_each_student_and_course_is_one_document_and_each_alert_another(site: bool) -> None:
    """Who is forgotten has no document; the alerts stay."""
    rows = risk_course.written(site=site)
    risk = documents(SINKS["sink-risk"], [*enumerate(rows.risk), *enumerate(rows.risk)])
    assert counted(list(risk.values())) == counted(final(rows.risk))
    assert risk.keys() == {
        f"{document['USERID']}" + (f"|{document['COURSEID']}" if not site else "") for document in risk.values()
    }
    assert len(risk) < len({key for key, _ in rows.risk})
    assert len(documents(SINKS["sink-risk-alerts"], [*enumerate(rows.alerts)] * 2)) == len(rows.alerts)
