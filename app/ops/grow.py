"""Growing the app's own topics: the students are divided among more partitions, in one transaction.

    lock       join the consumer group as its only member, so that no worker can
    fence      take over the transactional ids that wrote the partitions, so that no worker that was suspended can write
    drain      unless all partitions are at the same source offsets and ticks: unlock, run a draining worker, begin
               again
    rewind     commit these offsets: whatever was sent beyond them is read again, and what the visits topic still holds
               is for the old number of partitions, and dropped
    create     add partitions to the visits topic and the changelog; from here on workers refuse to start
    move       one transaction: each student's records to its new partition, and the new position and the ticks to all
               of them; the new partitions have reached the day of these ticks, with no students. The cohort sums of the
               days up to it stay those of the former partitions

Whenever it is killed, it can be run again: the positions state among how many partitions the students are divided. If
it is suspended and loses the lock, a worker that starts takes over the transactional id of its transaction.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import KafkaError

from app.errors import ConfigError
from app.kafka import topics
from app.kafka.claims import fence, former_ids
from app.kafka.clients import new_consumer, new_producer
from app.kafka.group import locked, wait_until_idle
from app.kafka.group_offsets import read_claims
from app.kafka.producer import last_offset, send_rows, wait_for_partitions
from app.kafka.reader import read_chunks
from app.model_file import load_models
from app.ops.failpoints import failpoints
from app.ops.preflight import PATIENCE_S, connect
from app.settings import Settings
from app.state.stored_positions import divided_by, read_positions, read_ticks
from codec.record import NO_HEADERS, Row
from models import growth, log_ids
from models import position as positions
from models import ticks as stored_ticks
from models.cohort_keys import reached_key
from models.position import Position
from models.rules import Int64s
from models.state import StateError
from models.state_keys import OF_PARTITION, is_student
from models.ticks import Ticks

#: how often a draining worker is run before giving up: once is enough unless one is killed
_ATTEMPTS = 3
#: how long the transaction may take [ms]: the most that a broker allows by default
_TRANSACTION_MS = 900_000
#: records of one read
_ROWS = 50_000


async def grow(
    settings: Settings, partitions: int, drain: Callable[[], Awaitable[None]], say: Callable[[str], object]
) -> None:
    """Divide the students among `partitions`.

    drain: runs a draining worker to its end; say: is called with a line of progress. Raises ConfigError with one line.
    """
    admin = await connect(settings)
    try:
        for attempt in range(_ATTEMPTS):
            await wait_until_idle(admin, settings)
            async with locked(settings) as lock:
                if await _try_to_grow(settings, admin, lock, partitions, say):
                    return
            say(f"making the positions of all partitions even (attempt {attempt + 1} of {_ATTEMPTS}) …")
            await drain()
        raise ConfigError("the positions of the partitions are still not even: see what the worker above says")
    except KafkaError as error:
        raise ConfigError(f"{settings.broker} (RISK_BROKER) refused: {error}") from error
    except StateError as error:
        raise ConfigError(
            f"topic {settings.topic_names.students_changelog}: {error}; nothing has been moved: start a worker, which "
            "says what to do"
        ) from error
    finally:
        await admin.close()


async def _try_to_grow(
    settings: Settings,
    admin: AIOKafkaAdminClient,
    lock: AIOKafkaConsumer,
    partitions: int,
    say: Callable[[str], object],
) -> bool:
    """Grow if all positions are even; return whether they were."""
    names = settings.topic_names
    counts = await topics.partitions_of(admin, [names.visits, names.students_changelog])
    if len(counts) < 2:
        raise ConfigError(
            f"topic {names.visits} or {names.students_changelog} does not exist: start a worker, which creates both "
            f"with as many partitions as topic {names.source} has"
        )
    if partitions < max(counts.values()):
        raise ConfigError(f"--partitions: there are {max(counts.values())} already, and partitions cannot be removed")
    async with _fencing(settings, admin, partitions) as producer:
        records = await read_positions(settings, counts[names.students_changelog])
        before = divided_by(records)
        if before == partitions == min(counts.values()):
            say(f"the students are divided among {partitions} partitions already")
            return True
        current = [positions.unpack(record, 0) for record in records[:before] if record is not None]
        if before and (len(current) < before or not growth.is_even(current)):
            return False
        ticks = await read_ticks(settings, before) if before else []
        if before and _with_risk(settings) and not growth.are_even(ticks):
            return False
        if not before and await _has_records(settings, counts[names.visits]):
            return False
        new = {topic: NewPartitions(partitions) for topic, count in counts.items() if count < partitions}
        if new:
            await admin.create_partitions(new, validate_only=True)  # both, or none
        if current:
            await _rewind(lock, names.source, current[0])
        await failpoints.at("rewound")
        for topic in (names.visits, names.students_changelog):
            if topic in new:
                await admin.create_partitions({topic: new[topic]})
            await failpoints.at("created")
        if current:
            await wait_for_partitions(producer, names.students_changelog, partitions, PATIENCE_S)
            await _move(settings, producer, current, partitions, growth.merge_ticks(ticks), say)
        await failpoints.at("divided")
    say(f"the students are divided among {partitions} partitions: start the workers")
    return True


def _with_risk(settings: Settings) -> bool:
    """Whether workers run ticks: only they make them even."""
    models = load_models(settings.model)
    return models is not None and models.standing is not None


@asynccontextmanager
async def _fencing(settings: Settings, admin: AIOKafkaAdminClient, partitions: int) -> AsyncIterator[AIOKafkaProducer]:
    """Fence the owners of all partitions; yield a producer that any worker which takes over partition 0 fences."""
    claims = await read_claims(admin, settings.app_id, settings.topic_names.visits, PATIENCE_S)
    own = f"{settings.app_id}-0"
    await fence(settings, former_ids(settings.app_id, range(partitions), claims) - {own})
    producer = new_producer(settings, transactional_id=own, transaction_timeout_ms=_TRANSACTION_MS)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def _has_records(settings: Settings, partitions: int) -> bool:
    tps = [TopicPartition(settings.topic_names.visits, number) for number in range(partitions)]
    async with new_consumer(settings) as consumer:
        return any((await consumer.end_offsets(tps)).values())


async def _rewind(lock: AIOKafkaConsumer, source: str, position: Position) -> None:
    """Commit the source offsets of the position. Raises KafkaError if the lock has been lost."""
    offsets = {TopicPartition(source, number): offset for number, offset in enumerate(position.offsets.tolist())}
    await lock.commit({tp: offsets[tp] for tp in lock.assignment() & offsets.keys()})


async def _move(
    settings: Settings,
    producer: AIOKafkaProducer,
    current: list[Position],
    partitions: int,
    ticks: Ticks | None,
    say: Callable[[str], object],
) -> None:
    """Move the students' records, and write the new position and `ticks` to all partitions, in one transaction."""
    topic, now = settings.topic_names.students_changelog, time.time_ns() // 1_000_000
    students, moved = np.zeros(partitions, np.int64), 0
    applied_ids: list[dict[bytes, bytes]] = []
    await producer.begin_transaction()
    for number in range(len(current)):
        state = await read_state(settings, topic, number)
        applied_ids.append({key: state.pop(key) for key in list(filter(log_ids.is_key, state))})
        target = growth.divide(state, partitions)
        named = np.fromiter(map(is_student, state), np.bool_, len(state))
        students += np.bincount(target[named], minlength=partitions)
        sent = []
        for to, changes in _rows(state, target, number, now).items():
            sent += await send_rows(producer, topic, to, changes)
        await last_offset(sent)
        await failpoints.at("moving")
        moves = int((target[named] != number).sum())
        moved += moves
        say(f"partition {number}: {int(named.sum()):,} students, {moves:,} of them to others")
    # which students the applied log ids belong to is not kept: every partition gets all of them
    all_ids = [(now, key, record, NO_HEADERS) for key, record in log_ids.union(applied_ids).items()]
    for number in range(partitions if all_ids else 0):
        await last_offset(await send_rows(producer, topic, number, all_ids))
    sent = []
    for number, position in enumerate(growth.with_students(growth.merge(current), students)):
        rows: list[Row] = [(now, positions.KEY, positions.pack(position), NO_HEADERS)]
        if ticks is not None:
            rows.append((now, stored_ticks.KEY, stored_ticks.pack(ticks), NO_HEADERS))
        sent += await send_rows(producer, topic, number, rows)
    if ticks is not None:
        reached = [(now, reached_key(number), b"%d" % ticks.reached, NO_HEADERS) for number in range(partitions)]
        sent += await send_rows(producer, settings.topic_names.cohorts, 0, reached)
    await last_offset(sent)
    await failpoints.at("moved")
    await producer.commit_transaction()
    say(f"{moved:,} of {int(students.sum()):,} students have moved")


def _rows(state: dict[bytes, bytes], target: Int64s, number: int, now: int) -> dict[int, list[Row]]:
    """The rows to write, by partition: the records of the students that move, and tombstones where they were."""
    rows: dict[int, list[Row]] = {}
    for (key, value), to in zip(state.items(), target.tolist(), strict=True):
        if to != number:
            rows.setdefault(to, []).append((now, key, value, NO_HEADERS))
            rows.setdefault(number, []).append((now, key, None, NO_HEADERS))
    return rows


async def read_state(settings: Settings, topic: str, number: int) -> dict[bytes, bytes]:
    """Read the records of students, and of log ids, of one partition of the changelog.

    Raises ConfigError if a record batch cannot be read.
    """
    tp, state = TopicPartition(topic, number), dict[bytes, bytes]()
    consumer = new_consumer(settings, max_partition_fetch_bytes=1 << 22)
    await consumer.start()
    try:
        consumer.assign([tp])
        await consumer.seek_to_beginning(tp)
        end = (await consumer.end_offsets([tp]))[tp]
        while await consumer.position(tp) < end:
            for chunk in await read_chunks(consumer, [tp], 1.0, _ROWS):
                if unreadable := chunk.unreadable("the state is incomplete without it: nothing has been moved"):
                    raise ConfigError(unreadable)
                state.update(zip(chunk.keys, chunk.values, strict=True))  # type: ignore[arg-type]
    finally:
        await consumer.stop()
    for key in OF_PARTITION:
        state.pop(key, None)
    return {key: value for key, value in state.items() if value is not None}
