"""From Moodle's database to the topics, all real: MariaDB, Debezium in Kafka Connect, Avro, Kafka, a worker."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

import stack
from app.kafka import topics
from codec.avro import HEADER
from connect import rebuild
from stack import mariadb
from tests.support import golden_cases
from tests.support.cluster import TIMEOUT_S, Deployment, row, run_async, until
from tests.support.connect_stub import IndexStub
from tests.support.stub_server import running
from tests.test_connect import SINKS
from tools.e2e.connector import CONNECT, hosts, register
from tools.e2e.oracle import differences, expected_tables
from tools.e2e.read_topic import Record
from tools.replay import debezium
from tools.replay.log_rows import ALL_COLUMNS, NULLABLE

pytestmark = pytest.mark.cdc

RECORDED = Path(__file__).with_name("debezium")
TABLE = f"{mariadb.DATABASE}.{mariadb.TABLE}"
#: the demo's rows (userid, timecreated [ms]); all have this event
SEED = [(2, 1561975200000), (3, 1561975200000), (3, 1561975300000)]
EVENT = r"\\core\\event\\course_viewed"
#: server ids of connectors; no two replicas of a MariaDB may have the same
numbers = itertools.count(5401)


@dataclass(frozen=True)
class Log:
    """Moodle's log in MariaDB, and a connector that follows it into topics that begin with `prefix`."""

    servers: stack.Environment
    prefix: str
    directory: Path

    @property
    def topic(self) -> str:
        return f"{self.prefix}.{TABLE}"

    def follow(self, mode: str = "tombstone", **more: str) -> None:
        """Register the connector as it ships, except for hosts, names, the mode of deletes and `more` properties."""
        changes = {
            **hosts(self.servers),
            "database.server.id": next(numbers),
            "topic.prefix": self.prefix,
            "schema.history.internal.kafka.topic": f"{self.prefix}.history",
            "transforms.unwrap.delete.tombstone.handling.mode": mode,
        }
        shipped = json.loads((CONNECT / "source-mariadb.json").read_text(encoding="utf-8"))
        file = self.directory / f"{self.prefix}.json"  # a connector's name is its file's
        file.write_text(json.dumps({**shipped, **more}), encoding="utf-8")
        register(self.servers.connect, file, changes)

    def leave(self) -> None:
        """Remove the connector; its topics stay."""
        httpx.delete(f"{self.servers.connect}/connectors/{self.prefix}", timeout=TIMEOUT_S)

    def sql(self, statements: str) -> str:
        return mariadb.execute(self.servers.directory, statements)

    def insert(self, *visits: tuple[int, int]) -> None:
        """Insert rows into the log, in one transaction."""
        rows = ",".join(f"('{EVENT}',{student},{at})" for student, at in visits)
        self.sql(f"INSERT INTO {TABLE} (eventname, userid, timecreated) VALUES {rows}")

    def rows(self) -> dict[int, tuple[int, int]]:
        """Return log id -> (userid, timecreated) of all rows in the database."""
        lines = self.sql(f"SELECT id, userid, timecreated FROM {TABLE}").splitlines()
        return {number: (student, at) for number, student, at in (map(int, line.split()) for line in lines)}

    def records(self, count: int) -> list[Record]:
        """Wait for `count` committed records in the topic, and return all of them."""
        until(lambda: run_async(self._end()), lambda end: end >= count)
        # the end is behind the markers of Connect's transactions too
        return until(lambda: self.deployment().read(self.topic), lambda records: len(records) >= count)

    async def _end(self) -> int:
        """Return the end offset of the topic; 0 while Connect has not created it."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers.broker)
        await admin.start()
        try:
            if self.topic not in await topics.partitions_of(admin, [self.topic]):
                return 0
        finally:
            await admin.close()
        async with AIOKafkaConsumer(bootstrap_servers=self.servers.broker) as consumer:
            (end,) = (await consumer.end_offsets([TopicPartition(self.topic, 0)])).values()
            return int(end)

    def deployment(self, **variables: str) -> Deployment:
        """Return a deployment whose workers read this log."""
        variables = {"RISK_SOURCE_TOPIC": self.topic, "RISK_EMIT": "changes", "RISK_MODEL": "none", **variables}
        return Deployment.new(self.servers, self.directory, **variables)

    def versions(self) -> list[int]:
        """Return the versions of the value schema."""
        url = f"{self.servers.registry}/subjects/{self.topic}-value/versions"
        versions: list[int] = httpx.get(url, timeout=TIMEOUT_S).json()
        return versions


def without_id(message: bytes | None) -> bytes | None:
    """Return a key or value without its schema id, which depends on the registry."""
    return None if message is None else message[:1] + message[HEADER:]


#: mode of deletes -> its recording (`tombstone` is Debezium's default), and the number of records in that mode
MODES = {
    "tombstone": ("default", 6),
    "rewrite": ("rewrite", 6),
    "rewrite-with-tombstone": ("rewrite-with-tombstone", 7),
    # a delete writes nothing, so the records end before the tombstone
    "drop": ("default", 5),
    "delete-to-tombstone": ("default", 6),
}


def recorded(mode: str) -> list[tuple[bytes | None, bytes | None]]:
    """Return keys and values that another Debezium wrote, without schema ids (tests/debezium/PROVENANCE.md)."""
    name, count = MODES[mode]
    records = json.loads((RECORDED / f"{name}.records.json").read_text())["records"][:count]
    pairs = ((bytes.fromhex(record["key_hex"]), record["value_hex"]) for record in records)
    return [(without_id(key), without_id(bytes.fromhex(value)) if value else None) for key, value in pairs]


def process(deployment: Deployment, visits: list[tuple[int, int]], events: int) -> list[str]:
    """Let a worker process `events` records; return the differences of its topics from a recount of the visits."""
    with deployment.worker() as worker:
        worker.wait_idle(timeout=TIMEOUT_S, events=events)
    return differences(expected_tables(visits), deployment.outputs(), scored=False)


def fresh(servers: stack.Environment, *logs: Log) -> Iterator[tuple[Log, ...]]:
    """Empty the table, yield the logs, and remove their connectors."""
    mariadb.execute(servers.directory, f"DROP TABLE {TABLE}; {mariadb.CREATE}")
    yield logs
    for log in logs:
        log.leave()


@pytest.fixture
def log(chain: stack.Environment, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Log]:
    """An empty log without a connector; its prefix is `demo`, or the test's parameter."""
    for (log,) in fresh(chain, Log(chain, getattr(request, "param", "demo"), tmp_path)):
        yield log


def test_the_demos_rows_give_ksqls_rows(log: Log) -> None:
    """Three rows in the database result in the rows that KSQL wrote for them (p01): keys, values, times, order."""
    log.insert(*SEED)
    log.follow()
    log.records(len(SEED))
    deployment = log.deployment()
    with deployment.worker() as worker:
        worker.wait_idle(timeout=TIMEOUT_S, events=len(SEED))
    case = golden_cases.load("p01_seed_rows")
    outputs = deployment.outputs()
    assert outputs.pop("MOODLE_LOGS_PREDICTION") == []
    assert outputs.keys() == case["expected"].keys()
    for topic, records in outputs.items():
        rows = golden_cases.expected(case, topic)
        assert [(r.key, r.value, r.at) for r in records] == [(key, value, at) for _, key, value, at in rows], topic


@pytest.fixture(scope="module")
def deleted(chain: stack.Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Log]]:
    """mode -> a log with the inserts, the update and the delete that were recorded in tests/debezium."""
    logs = {mode: Log(chain, f"cdc_{mode.replace('-', '_')}", tmp_path_factory.mktemp(mode)) for mode in MODES}
    for _ in fresh(chain, *logs.values()):
        first = logs["tombstone"]
        first.insert(*SEED)
        for mode, log in logs.items():
            log.follow(mode)
            log.records(len(SEED))
        first.insert((5, 1561975400000))
        first.sql(f"UPDATE {TABLE} SET userid = 6 WHERE id = 4")
        first.sql(f"DELETE FROM {TABLE} WHERE id = 4")
        for mode, log in logs.items():
            log.records(len(recorded(mode)))
    return logs  # no connector reads the table any more: other tests may use it


@pytest.mark.parametrize("mode", MODES)
def test_records_are_the_recorded_bytes(deleted: dict[str, Log], mode: str) -> None:
    """Another Debezium (for MySQL, with Confluent's converter) wrote the same bytes, except for schema ids."""
    expected = recorded(mode)
    records = deleted[mode].records(len(expected))
    assert [(without_id(r.key), without_id(r.value)) for r in records] == expected
    assert not any(r.headers for r in records)


@pytest.mark.parametrize("mode", MODES)
def test_schemas_are_the_recorded_texts(deleted: dict[str, Log], mode: str) -> None:
    log = deleted[mode]
    log.records(len(SEED))
    schemas = json.loads((RECORDED / f"{MODES[mode][0]}.schemas.json").read_text())
    for subject, schema in schemas.items():
        url = f"{log.servers.registry}/subjects/{subject.replace('demo', log.prefix, 1)}/versions/1/schema"
        text = httpx.get(url, timeout=TIMEOUT_S).text
        assert json.loads(text) == json.loads(schema["schema"].replace("demo.demo", f"{log.prefix}.demo"))


#: one of those that delete, and one that rewrites
_SHORT = ("drop", "rewrite")


@pytest.mark.parametrize(
    "mode", [pytest.param(mode, marks=[] if mode in _SHORT else [pytest.mark.long]) for mode in MODES]
)
def test_updates_and_deletes_count_as_rows_or_have_no_effect(deleted: dict[str, Log], mode: str) -> None:
    """The log is an append-only stream: an update or a row rewritten for a delete counts once more, a tombstone has no
    effect."""
    log = deleted[mode]
    events = len(log.records(len(recorded(mode))))
    visits = [*SEED, (5, 1561975400000), (6, 1561975400000), *[(6, 1561975400000)] * mode.startswith("rewrite")]
    assert process(log.deployment(), visits, events) == []


@pytest.mark.long
@pytest.mark.parametrize("log", ["cdc_column"], indirect=True)
def test_a_nullable_column_may_be_added_while_a_worker_runs(log: Log) -> None:
    """Rows of both versions of the schema count, without a restart of the worker."""
    log.insert(*SEED)
    log.follow()
    log.records(len(SEED))
    deployment = log.deployment()
    with deployment.worker() as worker:
        worker.wait_idle(timeout=TIMEOUT_S, events=len(SEED))
        log.sql(f"ALTER TABLE {TABLE} ADD COLUMN origin VARCHAR(10) NULL")
        new = f"('{EVENT}', 7, 1561975500000, 'web')"
        log.sql(f"INSERT INTO {TABLE} (eventname, userid, timecreated, origin) VALUES {new}")
        log.insert((2, 1561975600000))
        records = log.records(5)
        worker.wait_idle(timeout=TIMEOUT_S, events=5)
    assert log.versions() == [1, 2]
    assert (records[3].value or b"").endswith(b"\x02\x06web")
    assert (records[4].value or b"").endswith(b"\x00")
    visits = [*SEED, (7, 1561975500000), (2, 1561975600000)]
    assert differences(expected_tables(visits), deployment.outputs(), scored=False) == []


#: rows of a transaction while Connect is killed or stopped
ROWS = 3


@pytest.mark.long
@pytest.mark.parametrize(
    ("log", "ends"),
    [("cdc_killed", ["kill", "kill"]), ("cdc_stopped", ["stop"])],
    indirect=["log"],
)
def test_each_row_is_sent_once_when_connect_is_killed_or_stopped(log: Log, ends: list[str]) -> None:
    """After kill -9 or SIGTERM amid inserts, committed readers see each log id once, and a worker counts it once."""
    log.insert(*SEED)
    log.follow()
    log.records(len(SEED))
    done = threading.Event()

    def insert() -> int:
        for n in itertools.count():
            if done.is_set():
                return n
            log.insert(*[(n % 50, 1561975700000 + n)] * ROWS)

    with ThreadPoolExecutor(1) as pool:
        inserts = pool.submit(insert)
        try:
            for end in ends:
                log.records(len(log.records(0)) + 10 * ROWS)
                if end == "kill":
                    stack.kill("connect", log.servers.directory)
                stack.restart("connect", log.servers.directory)  # sends SIGTERM if it is running
            log.records(len(log.records(0)) + 10 * ROWS)
        finally:
            done.set()
        count = len(SEED) + inserts.result() * ROWS
    written = log.rows()
    assert len(written) == count
    assert sorted(ids(log.records(count))) == sorted(written)
    assert process(log.deployment(), list(written.values()), count) == []


#: rows of a snapshot that is killed, and its size of a fetch and of a transaction
SNAPSHOT_ROWS, SMALL = 12_000, "300"


@pytest.mark.long
@pytest.mark.parametrize("log", ["cdc_snapshot"], indirect=True)
def test_rows_of_a_killed_snapshot_come_again_and_count_once_with_log_ids(log: Log) -> None:
    """Debezium takes a first snapshot that was killed from its beginning: RISK_DEDUPLICATE=log-id drops the copies."""
    log.sql(
        f"INSERT INTO {TABLE} (eventname, userid, timecreated) "
        f"SELECT '{EVENT}', 1 + seq % 50, 1561975700000 + 1000 * seq FROM seq_1_to_{SNAPSHOT_ROWS}"
    )
    log.follow(**{"max.batch.size": SMALL, "max.queue.size": "600", "snapshot.fetch.size": SMALL})
    log.records(SNAPSHOT_ROWS // 10)
    stack.kill("connect", log.servers.directory)
    stack.restart("connect", log.servers.directory)
    written = log.rows()
    assert len(written) == SNAPSHOT_ROWS
    records = until(lambda: log.records(SNAPSHOT_ROWS), lambda records: set(ids(records)) == written.keys())
    assert len(records) > SNAPSHOT_ROWS, "the snapshot had ended before the kill, or Debezium continued it"
    deployment = log.deployment(RISK_DEDUPLICATE="log-id")
    with deployment.worker() as worker:
        stats = worker.wait_idle(timeout=TIMEOUT_S, events=len(records))
    assert stats["counts"]["duplicates"] == len(records) - SNAPSHOT_ROWS
    assert differences(expected_tables(written.values()), deployment.outputs(), scored=False) == []


def ids(records: list[Record]) -> list[int]:
    """Return the log ids in the keys."""
    keys = [record.key or b"" for record in records]
    return [debezium.id_of(key, int.from_bytes(key[1:HEADER], "big")) or 0 for key in keys]


#: Moodle's own table of 21 columns
MOODLES_TABLE = f"""\
DROP TABLE {TABLE};
CREATE TABLE {TABLE} (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, eventname VARCHAR(255) NOT NULL DEFAULT '',
  component VARCHAR(100) NOT NULL DEFAULT '', action VARCHAR(100) NOT NULL DEFAULT '',
  target VARCHAR(100) NOT NULL DEFAULT '', objecttable VARCHAR(50), objectid BIGINT,
  crud VARCHAR(1) NOT NULL DEFAULT '', edulevel TINYINT NOT NULL, contextid BIGINT NOT NULL,
  contextlevel BIGINT NOT NULL, contextinstanceid BIGINT NOT NULL, userid BIGINT NOT NULL, courseid BIGINT,
  relateduserid BIGINT, anonymous TINYINT NOT NULL DEFAULT 0, other LONGTEXT,
  timecreated BIGINT NOT NULL, origin VARCHAR(10), ip VARCHAR(45), realuserid BIGINT
);
"""
ADDRESS, OTHER = "203.0.113.77", "a name that somebody searched for"


@pytest.mark.long
@pytest.mark.parametrize("log", ["cdc_moodle"], indirect=True)
def test_only_the_columns_that_are_used_leave_the_database(log: Log) -> None:
    """Of Moodle's own table: no IP address and no free text, neither from the snapshot nor from the binlog."""

    names = "eventname, edulevel, contextid, contextlevel, contextinstanceid, userid, courseid, timecreated, other, ip"

    def insert(student: int) -> None:
        values = f"'{EVENT}', 2, 1, 50, 1, {student}, 3, 1561975200000, '{OTHER}', '{ADDRESS}'"
        log.sql(f"INSERT INTO {TABLE} ({names}) VALUES ({values})")

    log.sql(MOODLES_TABLE)
    insert(2)
    log.follow()
    log.records(1)
    insert(3)
    records = log.records(2)
    url = f"{log.servers.registry}/subjects/{log.topic}-value/versions/1/schema"
    columns = [column["name"] for column in httpx.get(url, timeout=TIMEOUT_S).json()["fields"]]
    used = [
        "id",
        "eventname",
        "userid",
        "courseid",
        "relateduserid",
        "anonymous",
        "timecreated",
        "origin",
        "realuserid",
    ]
    assert columns == used
    # the replay declares the same types; only its eventname has no default
    ours = json.loads(debezium.schemas(log.topic, NULLABLE, ALL_COLUMNS).value)["fields"]
    real = httpx.get(url, timeout=TIMEOUT_S).json()["fields"]
    assert [field for field in ours if field["name"] != "eventname"] == [
        field for field in real if field["name"] != "eventname"
    ]
    written = b"".join((record.key or b"") + (record.value or b"") for record in records)
    assert EVENT.replace("\\\\", "\\").encode() in written
    assert ADDRESS.encode() not in written
    assert OTHER.encode() not in written
    assert process(log.deployment(), [(2, 1561975200000), (3, 1561975200000)], 2) == []


def test_a_sink_keeps_what_is_no_object_as_dead_letters_and_reads_its_topic_again(
    chain: stack.Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sink that writes to a file, with the converters, transforms and error handling of those that ship. Connect
    knows its key `file`, which is in no configuration; `rebuild.py` sets it back to the beginning."""
    deployment, out = Deployment.new(chain, tmp_path), tmp_path / "out"
    shipped = SINKS["sink-agg"]
    ours = ("tasks", "key.converter", "value.converter", "transforms", "errors", "consumer.override")
    config = {key: value for key, value in shipped.items() if key.startswith(ours)}
    dead_letters = config["errors.deadletterqueue.topic.name"] = f"{tmp_path.name}-dead-letters"
    config |= {"topics": f"{tmp_path.name}-values", "connector.class": "FileStreamSink"}
    (tmp_path / "sink-file.json").write_text(json.dumps(config))
    deployment.declare(topics.Topic(config["topics"], 1, {}), topics.Topic(dead_letters, 1, {}))
    values = [b'{"USERID":1}', b"5", b"[1]", b'"x"', None, b'{"USERID":2}']
    deployment.send(config["topics"], [row(value) for value in values])

    def written() -> list[str]:
        return out.read_text().splitlines() if out.exists() else []

    register(chain.connect, tmp_path / "sink-file.json", {"file": out})
    try:
        once = ["{USERID=1}", "null", "{USERID=2}"]
        assert until(written, lambda lines: len(lines) >= len(once)) == once
        assert [record.value for record in deployment.read(dead_letters)] == [b"5", b"[1]", b'"x"']
        with running(IndexStub()) as index:
            command = [f"--url={chain.connect}", f"--elasticsearch={index.url}", f"--timeout={TIMEOUT_S}", "sink-file"]
            assert rebuild.main(command) == 0, capsys.readouterr().err
        assert until(written, lambda lines: len(lines) >= 2 * len(once)) == 2 * once
    finally:
        httpx.delete(f"{chain.connect}/connectors/sink-file", timeout=TIMEOUT_S)
