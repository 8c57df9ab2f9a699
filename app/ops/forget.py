"""Forgetting students while workers run: `faust -A app forget`.

    look      a worker must run; the ends of all topics are noted
    ask       a request, which is a visit batch with the students' ids, into the partition of each: it has its place
              among their visits
    wait      each worker applies it in one transaction: no state, tombstones for whatever it knows (agents/forget.py);
              the changelog says that it has. `alert` passes the tombstones of predictions on
    read      the output topics from their beginning: keys that no state knows any more (sessions that have expired)
              get tombstones too, then nothing from before the request has a value
    erase     dead letters, and the visit batches that have been applied

What advisers did about them (the topic of the cases) gets tombstones as well, also what they do meanwhile. The page's
audit of who has looked at whom is kept: it is there for the students' sake, and its retention ends it.

Whenever it is killed, it can be run again. What a student does later counts as that of one who was never seen.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError

from app.errors import ConfigError
from app.kafka import acls, topics
from app.kafka.acls import Right
from app.kafka.clients import new_consumer, new_producer
from app.kafka.group import members
from app.kafka.producer import last_offset, send_rows
from app.ops import forgotten_letters
from app.ops.preflight import connect
from app.ops.traces import Traces, owners
from app.settings import Settings
from app.upstream.aiokafka import topic_operations
from codec.record import NO_HEADERS, Row
from codec.tombstones import of_keys
from models import forgotten
from models.forgotten import Forgotten
from models.murmur2 import partitions_of
from models.visit_batch import VisitBatch, encode

#: most students of one request
_IDS = 1_000
#: how often keys that appear while the command deletes are deleted too
_ROUNDS = 3
#: behind all offsets: nothing that advisers do about a student is newer than the request
CASES_BEFORE = 1 << 62
#: interval at which the workers' progress is looked at [s]
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests that have been sent, by visits partition."""

    #: where the changelog ended before, and the offset behind the last request
    begins: Mapping[TopicPartition, int]
    next_offsets: Mapping[int, int]


class Forgetting:
    """One run of the command, over clients that are connected."""

    def __init__(
        self,
        settings: Settings,
        ids: Sequence[int],
        timeout_s: float,
        say: Callable[[str], object],
        clients: tuple[AIOKafkaAdminClient, AIOKafkaConsumer, AIOKafkaProducer],
    ) -> None:
        self._settings, self._names, self._say = settings, settings.topic_names, say
        self._admin, self._consumer, self._producer = clients
        self._ids = sorted(set(ids))
        self._keys = [b"%d" % student for student in self._ids]
        self._timeout_s, self._give_up = timeout_s, time.monotonic() + timeout_s
        #: whether the app writes predictions itself
        self._scoring = settings.model != "none"

    async def run(self) -> list[str]:
        """Forget the students; return what could not be reached, one line each. Raises ConfigError, KafkaError."""
        if not await members(self._admin, self._settings.app_id):
            raise ConfigError(
                f"no worker of consumer group {self._settings.app_id} (RISK_APP_ID) runs, and only workers can forget: "
                "start one, then run this again"
            )
        names = self._names
        hidden = await topics.hidden(self._admin, [names.cases, names.page_audit])
        wanted = [names.visits, names.students_changelog, names.dead_letters, names.page_audit, *owners(names)]
        existing = await topics.partitions_of(self._admin, [topic for topic in wanted if topic not in hidden])
        await self._check(existing)
        outputs = [topic for topic in owners(names) if topic in existing]
        before = await self._ends(outputs)
        before |= {topic: CASES_BEFORE for topic in outputs if topic == names.cases}
        requests = await self._ask(existing[names.visits])
        done = await self._wait(requests)
        if not self._scoring:
            await self._send(names.prediction, of_keys(self._keys, 0))
        partitions = dict(zip(self._keys, partitions_of(self._keys, existing[names.visits]).tolist(), strict=True))

        def stream_time(student: bytes) -> int:
            return done[partitions[student]].stream_time

        traces = [await self._clean(topic, before[topic], stream_time) for topic in outputs]
        lines = await self._kept(traces, has_audit=names.page_audit in existing)
        lines += [
            f"topic {topic}: no right to Describe it; if advisers use the page, grant Read and Write and run this again"
            for topic in hidden
            if topic == names.cases
        ]
        lines += await self._erase_letters() if names.dead_letters in existing else []
        lines += await self._erase_visits(existing[names.visits], requests)
        return lines

    async def _check(self, existing: Mapping[str, int]) -> None:
        """Raise ConfigError for a missing topic, an unfinished growth, or a missing right."""
        names = self._names
        internal = {topic: existing.get(topic, 0) for topic in (names.visits, names.students_changelog)}
        if missing := [topic for topic, count in internal.items() if not count]:
            raise ConfigError(f"topic {missing[0]} does not exist: check RISK_APP_ID")
        if unfinished := topics.unfinished_growth(internal):
            raise ConfigError(unfinished)
        both = (Right.READ, Right.WRITE)
        wanted: dict[str, tuple[Right, ...]] = {names.visits: (Right.WRITE,), names.students_changelog: (Right.READ,)}
        wanted |= {topic: both for topic in (*owners(names), names.dead_letters) if topic in existing}
        operations = await topic_operations(self._admin, list(wanted))
        if denied := list(acls.denied(wanted, operations)):
            raise ConfigError(
                f"{self._settings.broker} (RISK_BROKER) does not grant the user this command runs as the rights "
                f"{', '.join(denied)}: grant them (kafka-acls --add)"
            )

    async def _ends(self, wanted: Sequence[str]) -> dict[str, int]:
        ends = await self._consumer.end_offsets([TopicPartition(topic, 0) for topic in wanted])
        return {tp.topic: end for tp, end in ends.items()}

    async def _ask(self, partitions: int) -> Requests:
        """Send the ids to the visits partitions of the students."""
        target = partitions_of(self._keys, partitions)
        numbers = np.unique(target).tolist()
        changelog = [TopicPartition(self._names.students_changelog, number) for number in numbers]
        begins = await self._consumer.end_offsets(changelog)
        next_offsets = {}
        for number in numbers:
            ids = np.array(self._ids, np.int64)[target == number]
            for low in range(0, len(ids), _IDS):
                request = VisitBatch(0, (), partitions=partitions, forget=ids[low : low + _IDS])
                row = (None, None, encode(request), NO_HEADERS)
                sent = await send_rows(self._producer, self._names.visits, number, [row])
                next_offsets[number] = await last_offset(sent) + 1
        self._say(f"asked the workers to forget them, in {len(numbers)} of {partitions} partitions")
        return Requests(begins, next_offsets)

    async def _wait(self, requests: Requests) -> dict[int, Forgotten]:
        """Wait until all requests are applied; return what the partitions say then."""
        self._consumer.assign(list(requests.begins))
        for tp, begin in requests.begins.items():
            self._consumer.seek(tp, begin)
        done: dict[int, Forgotten] = {}
        while len(done) < len(requests.next_offsets):
            for tp, records in (await self._consumer.getmany(timeout_ms=int(1000 * _POLL_S))).items():
                for record in records:
                    if record.key == forgotten.KEY and record.value:
                        last = forgotten.unpack(record.value)
                        if last.next_offset >= requests.next_offsets[tp.partition]:
                            done.setdefault(tp.partition, last)
            if len(done) < len(requests.next_offsets):
                missing = sorted(requests.next_offsets.keys() - done.keys())
                self._require_time(f"partitions {missing} of topic {self._names.visits} have not applied the request")
        return done

    def _require_time(self, what: str) -> None:
        """Raise ConfigError if the time is over."""
        if time.monotonic() > self._give_up:
            raise ConfigError(
                f"after {self._timeout_s:g} s {what}: see whether the workers work (/health, /stats), then run this "
                "again, with a longer --timeout if they have a backlog"
            )

    async def _send(self, topic: str, rows: Sequence[Row]) -> None:
        await last_offset(await send_rows(self._producer, topic, 0, rows))

    async def _clean(self, topic: str, before: int, stream_time: Callable[[bytes], int]) -> Traces:
        """Read an output topic, delete what is left from before the request, and read on until nothing is."""
        traces = Traces(topic, owners(self._names)[topic], frozenset(self._keys), before)
        await traces.read(self._consumer)
        if topic == self._names.in_risk:
            while len(traces.marked) < len(self._keys):
                self._require_time(f"topic {topic} has not got all tombstones")
                await asyncio.sleep(_POLL_S)
                await traces.read(self._consumer)
        for _ in range(_ROUNDS):
            if not (old := traces.old(stream_time)):
                break
            await self._send(topic, traces.tombstones(old, stream_time))
            await traces.read(self._consumer)
        if left := traces.old(stream_time):
            raise ConfigError(f"topic {topic} still has keys of these students ({len(left)}): run this again")
        self._say(f"topic {topic}: no key of these students has a value from before")
        return traces

    async def _kept(self, traces: Sequence[Traces], *, has_audit: bool) -> list[str]:
        """What remains in the topics that are not compacted, and how often there are rows since the request."""
        audit = self._names.page_audit
        configs = await topics.configs_of(self._admin, [*(t.topic for t in traces), audit])
        of_page = topics.of_page(self._names, self._settings.page_audit_days)
        wanted = {t.name: t.configs for t in (*topics.wanted(self._names, 1), *of_page)}
        lines = []
        for trace in traces:
            config = configs.get(trace.topic) or wanted[trace.topic]
            if "compact" in config["cleanup.policy"].split(",") or not trace.records:
                continue
            until = _retention(config)
            lines.append(
                f"topic {trace.topic} is not compacted and keeps {trace.records} superseded rows of these students "
                f"{until}, the last at offset {trace.last}: see docs/operations.md"
            )
        if has_audit:
            until = _retention(configs.get(audit) or wanted[audit])
            lines.append(f"topic {audit} keeps {until} which adviser looked at which student, these among them")
        begun = {trace.students[key] for trace in traces for key in trace.alive}
        if begun:
            lines.append(
                f"{len(begun)} of the students have rows again: they came after the request, and count anew; delete "
                "them at their source, then run this again"
            )
        return lines

    async def _erase_letters(self) -> list[str]:
        """Write the dead letters anew without the students'; return a line if that is not allowed."""
        topic = self._names.dead_letters
        letters = await forgotten_letters.read(self._settings, self._consumer, self._ids)
        if letters.unchanged:
            self._say(f"topic {topic}: no dead letter names these students")
            return []
        what = f"{letters.dropped} dead letters that name these students, and {letters.emptied} that cannot be read"
        begin = {TopicPartition(topic, 0): RecordsToDelete(0)}
        try:
            await self._admin.delete_records(begin)  # whether it may delete, before anything is written twice
            await self._send(topic, letters.rows)
            await self._admin.delete_records({tp: RecordsToDelete(letters.end) for tp in begin})
        except KafkaError as error:
            return [f"topic {topic} keeps {what}: {error}; see docs/operations.md"]
        self._say(f"topic {topic}: erased {what}")
        return []

    async def _erase_visits(self, partitions: int, requests: Requests) -> list[str]:
        """Delete the visit batches that have been applied, those of the students and the requests among them."""
        topic, group = self._names.visits, self._settings.app_id
        tps = [TopicPartition(topic, number) for number in range(partitions)]
        while True:
            committed = await self._admin.list_consumer_group_offsets(group, partitions=tps)
            offsets = {tp: committed[tp].offset if tp in committed else -1 for tp in tps}
            if all(offsets[TopicPartition(topic, n)] >= offset for n, offset in requests.next_offsets.items()):
                break
            self._require_time(f"the workers have not committed their offsets in topic {topic}")
            await asyncio.sleep(_POLL_S)
        try:
            await self._admin.delete_records({tp: RecordsToDelete(o) for tp, o in offsets.items() if o > 0})
        except KafkaError as error:
            return [f"topic {topic} keeps visits of these students for up to 30 days: {error}"]
        self._say(f"topic {topic}: deleted the visit batches that have been applied")
        return []


async def forget(settings: Settings, ids: Sequence[int], timeout_s: float, say: Callable[[str], object]) -> list[str]:
    """Forget the students `ids`; return what could not be reached, one line each.

    timeout_s: how long the workers may take [s]; say: is called with a line of progress. Raises ConfigError with one
    line if it failed.
    """
    admin = await connect(settings)
    consumer = new_consumer(settings, max_partition_fetch_bytes=1 << 22)
    producer = new_producer(settings)
    try:
        await consumer.start()
        await producer.start()
        return await Forgetting(settings, ids, timeout_s, say, (admin, consumer, producer)).run()
    except KafkaError as error:
        raise ConfigError(f"{settings.broker} (RISK_BROKER) refused: {error}") from error
    finally:
        await producer.stop()
        await consumer.stop()
        await admin.close()


def _retention(config: Mapping[str, str]) -> str:
    days = int(config.get("retention.ms", "-1")) / 86_400_000
    return "for ever" if days < 0 else f"for {days:g} days"
