"""The replay writes every row once, in its partition, in order of id, however often it is interrupted."""

import asyncio
import io
import json
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.partitioner import DefaultPartitioner
from rich.console import Console
from schema_registry.client import AsyncSchemaRegistryClient

from app.errors import ConfigError
from app.settings import Settings
from stack import Environment
from tools.replay import debezium, oulad, sender
from tools.replay.log_rows import LogRows
from tools.replay.progress import replay
from tools.replay.sender import ReplayError

IDS = (3, 4)


@pytest.fixture(scope="module")
def log() -> LogRows:
    return oulad.generate(["AAA-2013J"], last_day=3, limit=60_000)


def record(rows: LogRows, index: int, partition: int, *, value: bytes | None = b"") -> ConsumerRecord:
    """A row as the last record of its partition, optionally with another value."""
    row = rows.take(slice(index, index + 1))
    key, body = debezium.keys(row, IDS[0])[0], debezium.values(row, IDS[1])[0]
    return ConsumerRecord("t", partition, 41, 0, 0, key, body if value == b"" else value, None, 0, 0, ())


def test_partitions_equal_kafkas_default_partitioner(log: LogRows) -> None:
    part = log.take(slice(0, 300))
    default = [DefaultPartitioner()(key, [0, 1, 2], []) for key in debezium.keys(part, 3)]
    assert sender.assign_partitions(part, 3, 3).tolist() == default


def test_rows_after_the_last_record_are_not_yet_written(log: LogRows) -> None:
    rows = log.take(slice(0, 10))
    partition = np.array([0, 1] * 5)
    last = {0: record(rows, 4, 0)}
    assert sender.not_yet_written(rows, partition, last, IDS).tolist() == [False, True] * 3 + [True] * 4
    assert sender.not_yet_written(rows, partition, {}, IDS).all()


def test_log_with_later_ids_only_continues_another(log: LogRows) -> None:
    """Two consecutive exports: the last row of the first one is not in the second one."""
    later = log.take(slice(10, 20))
    assert sender.not_yet_written(later, np.zeros(10, np.int64), {0: record(log, 5, 0)}, IDS).all()


def test_log_with_earlier_ids_only_is_written_already(log: LogRows) -> None:
    earlier = log.take(slice(0, 5))
    assert not sender.not_yet_written(earlier, np.zeros(5, np.int64), {0: record(log, 9, 0)}, IDS).any()


@pytest.mark.parametrize("value", [None, b"\0\0\0\0\4\2\2a\2\2"])
def test_last_record_that_differs_from_its_row_is_refused(log: LogRows, value: bytes | None) -> None:
    rows = log.take(slice(0, 10))
    with pytest.raises(ReplayError, match="t, partition 0, offset 41: this is not row 5"):
        sender.not_yet_written(rows, np.zeros(10, np.int64), {0: record(rows, 4, 0, value=value)}, IDS)


def test_a_log_replayed_in_another_unit_is_recognised(log: LogRows) -> None:
    """The same rows, but timecreated was written in ms, and now RISK_TIME_UNIT=s."""
    rows = log.take(slice(0, 10))
    with pytest.raises(ReplayError, match="was replayed in ms: set RISK_TIME_UNIT=ms"):
        sender.not_yet_written(rows, np.zeros(10, np.int64), {0: record(rows, 4, 0)}, IDS, unit_ms=1000)


def test_last_record_in_another_partition_than_its_row_is_refused(log: LogRows) -> None:
    """The other log has another number of partitions, or other ids."""
    rows = log.take(slice(0, 10))
    with pytest.raises(ReplayError, match="this is not row 5"):
        sender.not_yet_written(rows, np.array([0, 1] * 5), {1: record(rows, 4, 1)}, IDS)


def test_keys_of_another_schema_id_are_refused(log: LogRows) -> None:
    """The partition depends on the schema id in the key: with another id, rows would get other partitions."""
    rows = log.take(slice(0, 10))
    with pytest.raises(ReplayError, match="a replay with schema id 8 does not write this key"):
        sender.not_yet_written(rows, np.zeros(10, np.int64), {0: record(rows, 4, 0)}, (8, 4))


async def test_slices_are_full_without_a_speed_limit() -> None:
    n, step = 50_000, sender.SLICE
    parts = [part async for part in sender.due_slices(np.arange(n), None)]
    assert parts == [(0, step), (step, 2 * step), (2 * step, n)]
    assert [part async for part in sender.due_slices(np.arange(0), None)] == []


@pytest.mark.parametrize("speed", [1.0, 10.0])
async def test_rows_are_sent_when_they_are_due(speed: float) -> None:
    """The waits are the gaps of the log divided by the speed, but not shorter than the minimum."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    written = np.array([5_000, 5_000, 5_010, 65_000])
    parts = [p async for p in sender.due_slices(written, speed, clock=lambda: sum(waits), sleep=sleep)]
    assert parts == [(0, 2), (2, 3), (3, 4)]
    assert waits == pytest.approx([0.05, 60 / speed - 0.05])


def settings(cluster: Environment, topic: str) -> Settings:
    return Settings(broker=cluster.broker, schema_registry=cluster.registry, source_topic=topic)


async def read_topic(where: Settings, partitions: int) -> dict[int, list[ConsumerRecord]]:
    """Return all records of the topic, by partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=where.broker, fetch_max_wait_ms=20)
    await consumer.start()
    result: dict[int, list[ConsumerRecord]] = {p: [] for p in range(partitions)}
    try:
        parts = [TopicPartition(where.source_topic, p) for p in range(partitions)]
        consumer.assign(parts)
        await consumer.seek_to_beginning()
        end = await consumer.end_offsets(parts)
        for part in parts:
            while await consumer.position(part) < end[part]:
                for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                    result[tp.partition] += records
    finally:
        await consumer.stop()
    return result


async def assert_complete(where: Settings, rows: LogRows, partitions: int) -> None:
    """Assert that the topic has every row once, in its partition, in order of id."""
    plan = await sender.prepare(where, rows, partitions=partitions)
    assert (len(plan.rows), plan.already_written) == (0, len(rows))
    keys, partition = debezium.keys(rows, plan.ids[0]), sender.assign_partitions(rows, plan.ids[0], partitions)
    for p, records in (await read_topic(where, partitions)).items():
        assert [r.key for r in records] == [keys[i] for i in np.flatnonzero(partition == p)]


@pytest.mark.broker
async def test_topic_contains_what_debezium_would_write(cluster: Environment, log: LogRows) -> None:
    where, rows = settings(cluster, "replay-bytes"), log.take(slice(0, 5_000))
    plan = await sender.prepare(where, rows, partitions=3)
    assert plan.created
    await sender.produce(plan)
    await assert_complete(where, rows, 3)
    records = await read_topic(where, 3)
    values = {r.value for of_partition in records.values() for r in of_partition}
    assert values == set(debezium.values(rows, plan.ids[1]))
    client = AsyncSchemaRegistryClient(cluster.registry)
    for kind, text in vars(debezium.schemas_of(where.source_topic, rows)).items():
        subject = f"{cluster.registry}/subjects/{where.source_topic}-{kind}/versions/latest"
        assert (await client.request(subject)).json()["schema"] == text


@pytest.mark.broker
@pytest.mark.parametrize("after", [1, 20_000])
async def test_cancelled_replay_continues_where_it_stopped(cluster: Environment, log: LogRows, after: int) -> None:
    where, done = settings(cluster, f"replay-cancelled-{after}"), 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        if done >= after:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await sender.produce(await sender.prepare(where, log, partitions=4), advance=advance)
    plan = await sender.prepare(where, log, partitions=4)
    assert done <= plan.already_written < len(log)
    await sender.produce(plan)
    await assert_complete(where, log, 4)


KILLED = """
import asyncio, sys
from app.settings import Settings
from tools.replay import oulad, sender
where = Settings(broker=sys.argv[1], schema_registry=sys.argv[2], source_topic=sys.argv[3])
rows = oulad.generate(["AAA-2013J"], last_day=10)
plan = asyncio.run(sender.prepare(where, rows, partitions=4))
asyncio.run(sender.produce(plan, advance=lambda n: print(n, flush=True)))
"""


@pytest.mark.broker
async def test_killed_replay_continues_where_it_stopped(cluster: Environment) -> None:
    where = settings(cluster, "replay-killed")
    for lines in (1, 5):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, where.broker, where.schema_registry, where.source_topic,
            stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()},
        )  # fmt: skip
        assert process.stdout is not None
        for _ in range(lines):
            assert await process.stdout.readline()
        process.kill()
        await process.communicate()
    rows = oulad.generate(["AAA-2013J"], last_day=10)
    plan = await sender.prepare(where, rows, partitions=4)
    assert 0 < plan.already_written < len(rows)
    await sender.produce(plan)
    await assert_complete(where, rows, 4)


@pytest.mark.broker
async def test_transaction_markers_do_not_hide_the_last_record(cluster: Environment, log: LogRows) -> None:
    where, rows = settings(cluster, "replay-markers"), log.take(slice(0, 50))
    plan = await sender.prepare(where, rows, partitions=1)
    await sender.produce(plan)
    async with AIOKafkaProducer(bootstrap_servers=where.broker, transactional_id="markers") as producer:
        for _ in range(20):
            await producer.begin_transaction()
            await producer.send_and_wait(where.source_topic, b"never committed")
            await producer.abort_transaction()
    plan = await sender.prepare(where, rows, partitions=1)
    assert plan.already_written == 50


@pytest.mark.broker
async def test_another_log_is_refused(cluster: Environment, log: LogRows) -> None:
    where = settings(cluster, "replay-other")
    await replay(where, log.take(slice(0, 1_000)), partitions=2, console=Console(file=io.StringIO()))
    other = oulad.generate(["AAA-2013J"], seed=2, last_day=3, limit=1_000)
    with pytest.raises(ReplayError, match=r"replay-other, partition 0, offset .* not row"):
        await replay(where, other, partitions=2, console=Console(file=io.StringIO()))


@pytest.mark.broker
async def test_plain_lines_report_the_replay(cluster: Environment, log: LogRows) -> None:
    where, output = settings(cluster, "replay-lines"), io.StringIO()
    for n in (700, 1_000):
        await replay(where, log.take(slice(0, n)), partitions=n // 300, console=Console(file=output, width=200))
    lines = output.getvalue().splitlines()
    assert lines[0] == "topic replay-lines created, 2 partitions"
    assert lines[1].startswith("700 rows sent in ")
    assert lines[2] == "topic replay-lines exists, 2 partitions (--partitions 3 applies to new topics only)"
    assert lines[3] == "700 rows already written, 300 to go"
    assert lines[4].startswith("300 rows sent in ")
    assert "\x1b" not in output.getvalue()


@pytest.mark.broker
async def test_nulls_result_in_a_nullable_schema(cluster: Environment, log: LogRows) -> None:
    where, rows = settings(cluster, "replay-nulls"), log.take(slice(0, 10))
    null = np.arange(10) == 3
    await sender.produce(await sender.prepare(where, rows, partitions=1))
    more = replace(rows, id=rows.id + 10, userid=rows.userid * ~null, nulls={**rows.nulls, "userid": null})
    plan = await sender.prepare(where, more, partitions=1)
    await sender.produce(plan)
    last = (await read_topic(where, 1))[0][13].value
    schema = json.loads(debezium.schemas_of(where.source_topic, more).value)
    assert schema["fields"][2]["type"] == ["null", "long"]
    assert last == debezium.values(more.take(slice(3, 4)), plan.ids[1])[0]


@pytest.mark.broker
async def test_unreachable_registry_is_named(cluster: Environment, log: LogRows) -> None:
    where = Settings(broker=cluster.broker, schema_registry="http://127.0.0.1:9", source_topic="replay-none")
    with pytest.raises(ReplayError, match="no schema registry answers at http:"):
        await sender.prepare(where, log, partitions=1)


async def test_unreachable_broker_is_named(log: LogRows) -> None:
    where = Settings(broker="127.0.0.1:9", source_topic="replay-none")
    with pytest.raises(ConfigError, match="no Kafka broker answers"):
        await sender.prepare(where, log, partitions=1)
