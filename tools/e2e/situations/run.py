"""Run one situation with a real worker on a real Kafka, and judge how it ended."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewPartitions, NewTopic

import stack
from app.errors import ConfigError
from app.kafka.clients import new_admin, new_producer
from app.settings import Settings
from tools.e2e.read_topic import read_topic
from tools.e2e.situations.grammar import Situation
from tools.e2e.situations.rows import RowSpec
from tools.e2e.situations.schemas import RegistryStub
from tools.e2e.workers import Worker, is_idle

#: longest time until a worker has ended, or has read everything [s]
END_S = 90.0
#: settings of every worker that the situation does not choose: what takes long otherwise
QUICK = {"RISK_STALL_TIMEOUT": "15", "RISK_REGISTRY_PATIENCE": "3", "RISK_SESSION_TIMEOUT": "2"}
#: how often the worker is looked at [s]
_POLL_S = 0.2


class SilentFailure(Exception):
    """A situation that ended neither with every good row counted nor with one clear line and a failed exit."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a situation ended well."""

    #: the worker's last line if it refused or gave up, else empty
    refusal: str
    #: number of visits counted, refused as late, and of dead letters
    counted: int = 0
    late: int = 0
    rejected: int = 0


def run(
    situation: Situation,
    servers: stack.Environment,
    directory: Path,
    worker: Callable[[Mapping[str, str], Path], Worker] = Worker,
) -> Outcome:
    """Run a situation. Raises SilentFailure."""
    tag = f"situation{situation.seed}.{time.time_ns() // 1_000_000}"
    topic, now_ms = f"{tag}.log", time.time_ns() // 1_000_000
    with RegistryStub(topic, situation.registry, situation.seed) as registry:
        known = {f.metadata["variable"] for f in fields(Settings)}
        variables = {
            "RISK_BROKER": servers.broker,
            "RISK_SCHEMA_REGISTRY": registry.url,
            "RISK_APP_ID": tag,
            "RISK_SOURCE_TOPIC": topic,
            "RISK_TOPIC_PREFIX": f"{tag}-",
            "RISK_DATADIR": str(directory / tag),
            **{name: value for name, value in QUICK.items() if name in known},
        }
        plain = Settings.from_env(variables)
        if "RISK_TOPIC_PREFIX" in situation.settings:
            variables["RISK_TOPIC_PREFIX"] += situation.settings["RISK_TOPIC_PREFIX"]
        variables |= {k: v for k, v in situation.settings.items() if k != "RISK_TOPIC_PREFIX"}
        asyncio.run(_prepare(situation, plain, variables, now_ms))
        log = directory / f"{tag}.log"
        with worker(variables, log) as process:
            before = [row for row in situation.rows if row.partition < situation.partitions]
            stats = _end(process, len(before))
            if stats is not None and situation.added:
                asyncio.run(_grow(situation, plain, now_ms))
                stats = _end(process, len(situation.rows))
            code = process.process.returncode if stats is None else process.stop()
        text = log.read_text("utf-8", "replace")
        if stats is None or code:
            return _refusal(code, text)
        return _judge(situation, variables, stats, text, now_ms)


async def _prepare(situation: Situation, plain: Settings, variables: Mapping[str, str], now_ms: int) -> None:
    """Create the topics of the situation, and write the rows of the partitions that its source topic has at first."""
    source = NewTopic(
        plain.source_topic,
        situation.partitions,
        1,
        topic_configs={"retention.ms": "-1", "max.message.bytes": "2000000"},
    )
    new = [source]
    try:
        names = Settings.from_env(variables).topic_names
    except ConfigError:
        names = None  # the worker refuses
    for field, (partitions, config) in situation.topics.items() if names is not None else ():
        needed = situation.partitions if field in ("visits", "students_changelog") else 1
        new.append(NewTopic(getattr(names, field), partitions or needed, 1, topic_configs=dict(config)))
    admin = new_admin(plain)
    await admin.start()
    try:
        await admin.create_topics(new)
    finally:
        await admin.close()
    await _produce(situation, plain, now_ms, range(situation.partitions))


async def _grow(situation: Situation, plain: Settings, now_ms: int) -> None:
    """Add partitions to the source topic, and write their rows."""
    partitions = situation.partitions + situation.added
    admin = new_admin(plain)
    await admin.start()
    try:
        await admin.create_partitions({plain.source_topic: NewPartitions(partitions)})
    finally:
        await admin.close()
    await _produce(situation, plain, now_ms, range(situation.partitions, partitions))


async def _produce(situation: Situation, plain: Settings, now_ms: int, partitions: range) -> None:
    """Write the rows of some partitions."""
    rows = [row for row in situation.rows if row.partition in partitions]
    producer = new_producer(
        plain,
        transactional_id=plain.app_id + "-source" if situation.transactional else None,
        compression_type=situation.compression,
        max_request_size=2_000_000,
        max_batch_size=1_900_000,
    )
    await producer.start()
    try:
        await _write(rows, situation, producer, plain.source_topic, now_ms)
    finally:
        await producer.stop()


async def _write(
    rows: Sequence[RowSpec], situation: Situation, producer: AIOKafkaProducer, topic: str, now_ms: int
) -> None:
    unit_ms = _unit_ms(situation, written=True)
    if not situation.transactional:
        for row in rows:
            await _send(producer, topic, row, now_ms, unit_ms)
        return
    for i, row in enumerate(rows):
        if i % 7 == 3:  # written and aborted, as by a connector that was killed
            await producer.begin_transaction()
            await _send(producer, topic, row, now_ms, unit_ms)
            await producer.abort_transaction()
        async with producer.transaction():
            await _send(producer, topic, row, now_ms, unit_ms)


async def _send(producer: AIOKafkaProducer, topic: str, row: RowSpec, now_ms: int, unit_ms: int) -> None:
    value = row.value(now_ms, unit_ms)
    await producer.send_and_wait(topic, value, key=b"k", partition=row.partition, headers=list(row.headers))


def _unit_ms(situation: Situation, *, written: bool) -> int:
    """Unit of timecreated as it is set, or as it is written."""
    seconds = situation.settings.get("RISK_TIME_UNIT") == "s"
    return 1000 if seconds != (written and situation.wrong_unit) else 1


def _end(worker: Worker, events: int) -> dict[str, Any] | None:
    """Wait until the worker has read everything, and return its /stats; None if it ended.

    Raises SilentFailure if it does neither.
    """
    deadline = time.monotonic() + END_S
    seen: dict[str, Any] = {}
    while time.monotonic() < deadline:
        if not worker.running:
            return None
        stats = worker.stats()
        # a worker that can use no row at all says so in /health, and has read everything nevertheless
        if stats is not None and is_idle(stats, but="rejecting") and stats["counts"].get("events", 0) >= events:
            if seen and seen["counts"] == stats["counts"] and stats["lag_looks"] >= seen["lag_looks"] + 2:
                return stats
            if not seen or seen["counts"] != stats["counts"]:
                seen = stats
        time.sleep(_POLL_S)
    raise SilentFailure(
        f"after {END_S:g} s it has neither read everything nor ended: {worker.stats()}\n{worker.tail()}"
    )


def _refusal(code: int | None, text: str) -> Outcome:
    lines = [line for line in text.splitlines() if line.startswith("moodle-risk: ")]
    if not code:
        raise SilentFailure(f"it ended with exit code {code}:\n{text[-2_000:]}")
    if not lines:
        raise SilentFailure(f"it ended with exit code {code} and no line that says why:\n{text[-3_000:]}")
    if "gave up" not in lines[-1] and "Traceback" in text:
        raise SilentFailure(f"it refused to start with a traceback:\n{text[-3_000:]}")
    return Outcome(lines[-1])


def _judge(
    situation: Situation, variables: Mapping[str, str], stats: Mapping[str, Any], text: str, now_ms: int
) -> Outcome:
    settings = Settings.from_env(variables)
    set_unit, written_unit = _unit_ms(situation, written=False), _unit_ms(situation, written=True)

    def counts(row: RowSpec) -> bool:
        at = (now_ms + row.offset_ms) // written_unit * set_unit
        return row.counts and not (settings.max_ahead_ms and at > now_ms + settings.max_ahead_ms)

    good = Counter(_student(row.student) for row in situation.rows if counts(row))
    bad = sum(not counts(row) and row.kind != "tombstone" for row in situation.rows)
    records = asyncio.run(read_topic(settings, settings.topic_names.agg))
    last = {r.key: json.loads(r.value) for r in records if r.value}
    actual = Counter({_student(r["USERID"]): int(r["ACTIVITIES"]) for r in last.values()})
    late, rejected = stats["counts"].get("late", 0), sum(stats["counts"].get("rejected", {}).values())
    if actual - good:
        raise SilentFailure(f"too many visits of students {dict(actual - good)}, expected {dict(good)}")
    missing = sum((good - actual).values())
    if missing != late or (late and "it is late" not in text):
        raise SilentFailure(
            f"{missing} visits do not count, {late} of them late: {dict(actual)} instead of {dict(good)}"
        )
    if rejected != bad:
        raise SilentFailure(f"{rejected} dead letters instead of {bad}: {stats['counts'].get('rejected')}")
    return Outcome("", sum(actual.values()), late, rejected)


def _student(userid: int | None) -> str:
    return "null" if userid is None else str(userid)
