"""From Moodle's database to the topics: MariaDB, Debezium in Kafka Connect, Avro, Kafka, a worker. All real."""

from __future__ import annotations

import itertools
import json
import shutil
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
from stack import mariadb
from tests.support import golden_cases
from tests.support.cluster import TIMEOUT_S, Deployment, run_async, until
from tools.e2e.connector import CONNECT, hosts, register
from tools.e2e.oracle import differences, expected_tables
from tools.e2e.read_topic import Record
from tools.replay import debezium

pytestmark = pytest.mark.cdc

RECORDED = Path(__file__).with_name("debezium")
TABLE = f"{mariadb.DATABASE}.{mariadb.TABLE}"
#: the demo's rows (userid, timecreated [ms]); each came from this event
SEED = [(2, 1561975200000), (3, 1561975200000), (3, 1561975300000)]
EVENT = r"\\core\\event\\course_viewed"
#: a connector's number, which no other replica of a MariaDB may have
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

    def follow(self, mode: str = "tombstone") -> None:
        """Register the connector as it ships: only hosts, names and the mode of deletes are other ones."""
        changes = {
            **hosts(self.servers),
            "database.server.id": next(numbers),
            "topic.prefix": self.prefix,
            "schema.history.internal.kafka.topic": f"{self.prefix}.history",
            "transforms.unwrap.delete.tombstone.handling.mode": mode,
        }
        shipped = shutil.copy(CONNECT / "source-mariadb.json", self.directory / f"{self.prefix}.json")
        register(self.servers.connect, shipped, changes)  # a connector's name is its file's

    def leave(self) -> None:
        """Remove the connector; its topics stay."""
        httpx.delete(f"{self.servers.connect}/connectors/{self.prefix}", timeout=TIMEOUT_S)

    def sql(self, statements: str) -> str:
        return mariadb.execute(self.servers.directory, statements)

    def insert(self, *visits: tuple[int, int]) -> None:
        """Rows of the log, in one transaction."""
        rows = ",".join(f"('{EVENT}',{student},{at})" for student, at in visits)
        self.sql(f"INSERT INTO {TABLE} (eventname, userid, timecreated) VALUES {rows}")

    def records(self, count: int) -> list[Record]:
        """What is in the topic, as soon as there are so many records."""
        until(lambda: run_async(self._end()), lambda end: end >= count)
        return self.deployment().read(self.topic)

    async def _end(self) -> int:
        """The end of the topic; 0 while Connect has not created it."""
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
        """A worker's deployment, reading this log."""
        variables = {"RISK_SOURCE_TOPIC": self.topic, "RISK_EMIT": "changes", "RISK_MODEL": "none", **variables}
        return Deployment.new(self.servers, self.directory, **variables)

    def versions(self) -> list[int]:
        """The versions of the value's schema."""
        url = f"{self.servers.registry}/subjects/{self.topic}-value/versions"
        found: list[int] = httpx.get(url, timeout=TIMEOUT_S).json()
        return found


def bare(message: bytes | None) -> bytes | None:
    """A key or a value without the id of its schema, which is the registry's affair."""
    return None if message is None else message[:1] + message[HEADER:]


#: how a delete is written -> the recording of it (`tombstone` is Debezium's default) and how many of its records
MODES = {
    "tombstone": ("default", 6),
    "rewrite": ("rewrite", 6),
    "rewrite-with-tombstone": ("rewrite-with-tombstone", 7),
    # nothing is written, so it ends before the tombstone
    "drop": ("default", 5),
    "delete-to-tombstone": ("default", 6),
}


def recorded(mode: str) -> list[tuple[bytes | None, bytes | None]]:
    """Keys and values that another Debezium wrote, ids aside (tests/debezium/PROVENANCE.md)."""
    name, count = MODES[mode]
    found = json.loads((RECORDED / f"{name}.records.json").read_text())["records"][:count]
    pairs = ((bytes.fromhex(one["key_hex"]), one["value_hex"]) for one in found)
    return [(bare(key), bare(bytes.fromhex(value)) if value else None) for key, value in pairs]


def wrong(deployment: Deployment, visits: list[tuple[int, int]], events: int) -> list[str]:
    """What differs in the topics of a worker from a recount of the visits, after so many records."""
    with deployment.worker() as worker:
        worker.wait_idle(timeout=TIMEOUT_S, events=events)
    return differences(expected_tables(visits), deployment.outputs(), scored=False)


def renewed(servers: stack.Environment, *logs: Log) -> Iterator[tuple[Log, ...]]:
    """An empty table, and logs whose connectors are removed in the end."""
    mariadb.execute(servers.directory, f"DROP TABLE {TABLE}; {mariadb.CREATE}")
    yield logs
    for log in logs:
        log.leave()


@pytest.fixture
def log(chain: stack.Environment, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Log]:
    """An empty log, followed by nobody; its prefix is `demo`, or what the test is parametrized with."""
    for (one,) in renewed(chain, Log(chain, getattr(request, "param", "demo"), tmp_path)):
        yield one


def test_the_demos_rows_give_ksqls_rows(log: Log) -> None:
    """Three rows in the database become the very rows KSQL wrote for them (p01): keys, values, times, order."""
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
    """mode -> a log that saw the inserts, the update and the delete that were recorded in tests/debezium."""
    logs = {mode: Log(chain, f"cdc_{mode.replace('-', '_')}", tmp_path_factory.mktemp(mode)) for mode in MODES}
    for _ in renewed(chain, *logs.values()):
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
    return logs  # nobody follows the table any more: other tests may use it


@pytest.mark.parametrize("mode", MODES)
def test_records_are_the_recorded_bytes(deleted: dict[str, Log], mode: str) -> None:
    """Another Debezium (for MySQL, with Confluent's converter) wrote the same, but for the ids of schemas."""
    expected = recorded(mode)
    records = deleted[mode].records(len(expected))
    assert [(bare(r.key), bare(r.value)) for r in records] == expected
    assert not any(r.headers for r in records)


@pytest.mark.parametrize("mode", MODES)
def test_schemas_are_the_recorded_texts(deleted: dict[str, Log], mode: str) -> None:
    log = deleted[mode]
    log.records(len(SEED))
    found = json.loads((RECORDED / f"{MODES[mode][0]}.schemas.json").read_text())
    for subject, one in found.items():
        url = f"{log.servers.registry}/subjects/{subject.replace('demo', log.prefix, 1)}/versions/1/schema"
        text = httpx.get(url, timeout=TIMEOUT_S).text
        assert json.loads(text) == json.loads(one["schema"].replace("demo.demo", f"{log.prefix}.demo"))


@pytest.mark.parametrize("mode", MODES)
def test_updates_and_deletes_count_as_rows_or_have_no_effect(deleted: dict[str, Log], mode: str) -> None:
    """It is an append stream: an update counts once more, a tombstone has no effect, a row rewritten for a delete
    counts once more."""
    log = deleted[mode]
    events = len(log.records(len(recorded(mode))))
    visits = [*SEED, (5, 1561975400000), (6, 1561975400000), *[(6, 1561975400000)] * mode.startswith("rewrite")]
    assert wrong(log.deployment(), visits, events) == []


@pytest.mark.parametrize("log", ["cdc_column"], indirect=True)
def test_a_nullable_column_may_be_added_while_a_worker_runs(log: Log) -> None:
    """Rows of both versions of the schema count, in a worker that runs all the while."""
    log.insert(*SEED)
    log.follow()
    log.records(len(SEED))
    deployment = log.deployment()
    with deployment.worker() as worker:
        worker.wait_idle(timeout=TIMEOUT_S, events=len(SEED))
        log.sql(f"ALTER TABLE {TABLE} ADD COLUMN ip VARCHAR(45) NULL")
        log.sql(f"INSERT INTO {TABLE} (eventname, userid, timecreated, ip) VALUES ('{EVENT}', 7, 1561975500000, '::1')")
        log.insert((2, 1561975600000))
        records = log.records(5)
        worker.wait_idle(timeout=TIMEOUT_S, events=5)
    assert log.versions() == [1, 2]
    assert (records[3].value or b"").endswith(b"\x02\x06::1")
    assert (records[4].value or b"").endswith(b"\x00")
    visits = [*SEED, (7, 1561975500000), (2, 1561975600000)]
    assert differences(expected_tables(visits), deployment.outputs(), scored=False) == []


#: transactions, and rows in each, while Connect dies
TRANSACTIONS, ROWS = 150, 3


@pytest.mark.parametrize(("log", "end"), [("cdc_killed", "kill"), ("cdc_stopped", "stop")], indirect=["log"])
def test_no_row_is_lost_when_connect_is_killed_or_stopped(log: Log, end: str) -> None:
    """kill -9 or SIGTERM in the middle; started again, it goes on where it was: every log id is in the topic."""
    log.insert(*SEED)
    log.follow()
    log.records(len(SEED))
    with ThreadPoolExecutor(1) as pool:
        many = [pool.submit(log.insert, *[(n, 1561975700000 + n)] * ROWS) for n in range(TRANSACTIONS)]
        log.records(len(SEED) + 10 * ROWS)
        assert not many[-1].done(), "all was written before the end"
        if end == "kill":
            stack.kill("connect", log.servers.directory)
        stack.restart("connect", log.servers.directory)  # which sends SIGTERM to one that runs
        for one in many:
            one.result()
    written = {int(line) for line in log.sql(f"SELECT id FROM {TABLE}").split()}
    assert len(written) == len(SEED) + TRANSACTIONS * ROWS
    until(lambda: written - ids(log.records(len(written))), lambda lost: not lost)
    records = log.records(len(written))
    print(f"{len(records) - len(written)} of {len(written)} rows were sent again")
    assert ids(records) == written


def ids(records: list[Record]) -> set[int]:
    """The log ids in the keys."""
    keys = [record.key or b"" for record in records]
    return {debezium.id_of(key, int.from_bytes(key[1:HEADER], "big")) or 0 for key in keys}
