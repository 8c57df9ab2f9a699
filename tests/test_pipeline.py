"""The whole pipeline over a log in memory: behaviour that no golden case covers."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agents.alert import Alert
from agents.ports import Delivery
from app.errors import MissingRecords
from app.kafka.queue import QueuedChunk
from app.model_file import load_model
from app.settings import Settings
from app.state.table import StateTable
from codec.avro_schema import DeclaredColumns
from codec.moodle_log import LogDecoder
from models.chunk import Chunk, RefusedRange
from models.risk import RiskModel
from models.visit_batch import UNKNOWN_BEGIN, SourceRange, VisitBatch, encode
from models.visits import Visits
from tools.replay import debezium
from tools.replay.log_rows import LogRows
from tools.test_driver import KnownSchemas, TopologyTestDriver

SETTINGS = Settings(app_id="test", model="none")
NOW = 1_561_975_200_000
MINUTE = 60_000
SCHEMAS = KnownSchemas({1: json.loads(debezium.schemas(SETTINGS.source_topic).value)})


def new_driver(settings: Settings = SETTINGS, model: RiskModel | None = None) -> TopologyTestDriver:
    """Return a test driver for the log's four columns."""
    declared = DeclaredColumns({"ID": "BIGINT", "EVENTNAME": "STRING", "USERID": "BIGINT", "TIMECREATED": "BIGINT"})
    return TopologyTestDriver(settings, LogDecoder(SCHEMAS, declared, unit_ms=settings.unit_ms), model)


def log_rows(*visits: tuple[int, int]) -> list[bytes | None]:
    """Encode log rows (userid, timecreated) as Debezium does."""
    student, at = (np.array(c, np.int64) for c in zip(*visits, strict=True))
    rows = LogRows(np.arange(1, len(visits) + 1), np.zeros(len(visits), np.int64), ("e",), student, at)
    return list(debezium.values(rows, 1))


async def feed(m: TopologyTestDriver, values: Sequence[bytes | None], topic: str | None = None) -> None:
    await m.feed(topic or m.names.source, [None] * len(values), values)


def rows(m: TopologyTestDriver, topic: str) -> list[Any]:
    return [None if w.value is None else json.loads(w.value) for w in m.topics.get(topic, [])]


async def test_bad_records_become_dead_letters_with_their_origin():
    """Each is counted and kept with topic, partition, offset and reason; the good records around it are processed."""
    good = log_rows((1, NOW), (1, NOW + MINUTE))
    async with new_driver() as m:
        await feed(m, [b"\1garbage", good[0], b"\0\0\0\0\x63x", None, good[1][:9], good[1], *log_rows((1, -5))])
    assert [(x.offset, x.reason) for x in m.dead_letters] == [
        (0, "bad-magic"),
        (2, "unknown-schema"),
        (4, "truncated"),
        (6, "negative-time"),
    ]
    assert m.metrics.reasons("rejected") == {
        "bad-magic": 1, "unknown-schema": 1, "truncated": 1, "negative-time": 1,
    }  # fmt: skip
    assert m.metrics["source_tombstones"] == 1
    assert [r["ACTIVITIES"] for r in rows(m, m.names.agg)] == [2]
    at, key, value, headers = m.dead_letters[0].row
    assert (at, key, value) == (None, None, b"\1garbage")
    assert dict(headers)["dead-letter.topic"] == m.names.source.encode()
    assert dict(headers)["dead-letter.offset"] == b"0"


async def test_a_prediction_whose_key_is_no_id_becomes_a_dead_letter():
    """Its key would stop the sink of the in-risk topic; the rest goes on."""
    value = b'{"USERID":1,"PREDICTION":0.9,"CREATED_DATE":5}'
    async with new_driver() as m:
        await m.feed(m.names.prediction, [b"x" * 513, b"x" * 512], [value, value])
    assert [record.key for record in m.topics[m.names.in_risk]] == [b"x" * 512]
    (dead_letter,) = m.topics["test-dead-letters"]
    assert (dead_letter.key, dead_letter.value) == (b"x" * 513, value)
    assert m.metrics.reasons("rejected") == {"key too long": 1}


async def test_predictions_that_are_not_strict_json_become_dead_letters():
    """Predictions that `alert` can read are forwarded."""
    async with new_driver() as m:
        await feed(m, [b'{"USERID":1,"PREDICTION":0.9,"CREATED_DATE":5}', b"{nonsense", b'{"prediction":0.8}'],
                   m.names.prediction)  # fmt: skip
    assert [r["PREDICTION"] for r in rows(m, m.names.in_risk)] == [0.9, 0.8]
    (dead_letter,) = m.topics["test-dead-letters"]
    assert dead_letter.value == b"{nonsense"
    assert m.metrics["rejected"] == 1


async def test_seconds_are_converted_and_a_suspicious_unit_is_counted():
    """RISK_TIME_UNIT=s is Moodle's own unit; values that are implausible in the unit are counted."""
    seconds = dataclasses.replace(SETTINGS, time_unit="s")
    async with new_driver(seconds) as m:
        await feed(m, log_rows((1, NOW // 1000), (1, NOW // 1000 + 900), (1, NOW // 1000 + 1801)))
        assert m.metrics["suspicious_unit"] == 0
    assert rows(m, m.names.sessions)[0]["DURATION"] == 900
    async with new_driver() as wrong:
        await feed(wrong, log_rows((1, NOW // 1000)))
        assert wrong.metrics["suspicious_unit"] == 1


async def test_a_batch_writes_one_row_per_key_and_tombstones_only_for_written_rows():
    """emit=batch: a session that appears and disappears within one batch is not written."""
    async with new_driver() as m:
        await feed(m, log_rows((1, NOW), (1, NOW + 20 * MINUTE), (1, NOW + 10 * MINUTE)))
        assert [r["ACTIVITIES"] for r in rows(m, m.names.sessions)] == [3]
        await feed(m, log_rows((1, NOW + 30 * MINUTE)))
        tombstone, row = rows(m, m.names.sessions)[1:]
        assert tombstone is None
        assert row["ACTIVITIES"] == 4
        assert len(rows(m, m.names.agg)) == 2


async def test_a_chunk_larger_than_a_batch_takes_several_flushes():
    """RISK_BATCH_ROWS limits the size of a flush and does not change the result."""
    small = dataclasses.replace(SETTINGS, batch_rows=3)
    visits = [(1 + i % 3, NOW + i * MINUTE) for i in range(20)]
    async with new_driver(small) as m:
        await feed(m, log_rows(*visits))
        assert m.metrics["flushes"] >= 6
        last = {r["USERID"]: r["ACTIVITIES"] for r in rows(m, m.names.agg)}
    assert last == {1: 7, 2: 7, 3: 6}


async def test_every_student_with_changed_totals_is_scored():
    """MOODLE_LOGS_PREDICTION: key, CREATED_DATE and timestamp of the roll-up row, the model's hash as header."""
    model = load_model("")
    async with new_driver(model=model) as m:
        await feed(m, log_rows((7, NOW), (7, NOW + MINUTE), (8, NOW)))
        agg, predictions = m.topics[m.names.agg], m.topics[m.names.prediction]
        assert (
            [(w.key, w.at) for w in predictions] == [(w.key, w.at) for w in agg] == [(b"7", NOW + MINUTE), (b"8", NOW)]
        )
        for w in predictions:
            row = json.loads(w.value or b"")
            assert row["CREATED_DATE"] == w.at
            assert 0 < row["PREDICTION"] < 1
            assert list(w.headers) == [("model", model.sha256.encode())]


async def test_with_emit_changes_a_student_is_scored_once_per_visit():
    """Totals between a subtraction and the addition that follows are intermediate, and not scored."""
    changes = dataclasses.replace(SETTINGS, emit="changes")
    async with new_driver(changes, load_model("")) as m:
        await feed(m, log_rows((7, NOW), (7, NOW + MINUTE), (7, NOW + 2 * MINUTE)))
        assert len(m.topics[m.names.agg]) == 5
        assert [json.loads(w.value or b"")["CREATED_DATE"] for w in m.topics[m.names.prediction]] == [
            NOW, NOW + MINUTE, NOW + 2 * MINUTE,
        ]  # fmt: skip


async def test_an_invalid_visit_batch_is_a_dead_letter():
    """Invalid records in the internal topic do not affect the others."""
    async with new_driver() as m:
        await feed(m, log_rows((1, NOW)))
        await m.feed(m.names.visits, [None], [b"rubbish"])
        await feed(m, log_rows((1, NOW + MINUTE)))
    assert [x.reason for x in m.dead_letters] == ["bad-frame"]
    assert rows(m, m.names.agg)[-1]["ACTIVITIES"] == 2


@pytest.mark.parametrize("topic", ["source", "visits", "prediction"])
async def test_a_record_batch_that_cannot_be_read_is_a_dead_letter_with_its_offsets(topic):
    """The batches before and behind the records of a chunk; the records count, and the chunk is processed."""
    m, done = new_driver(), list[Chunk]()
    m.processed = appending(done)  # type: ignore[method-assign]
    name = getattr(m.names, topic)
    agent = {"source": m.pipeline.repartition, "visits": m.pipeline.process, "prediction": m.pipeline.alert}[topic]
    value = {"source": log_rows((1, NOW))[0], "visits": encode(VisitBatch(1, ())), "prediction": b"{}"}[topic]
    refused = (RefusedRange(0, 3, "too large"), RefusedRange(4, 9, "too large"))
    chunk = Chunk(name, 0, [3], [b"1"], [value], 0, 9, 9, refused=refused)
    await agent.run(delivered(m, chunk))
    assert done == [chunk]
    assert m.metrics.reasons("rejected") == {"unreadable-batch": 2}
    written = [x.row for x in m.dead_letters] or [w[:4] for w in m.topics[m.names.dead_letters]]
    assert [(key, value) for _, key, value, _ in written] == [(None, b"")] * 2
    assert [dict(h)["dead-letter.offset"] for *_, h in written] == [b"0", b"4"]
    assert dict(written[1][3])["dead-letter.detail"] == b"record batch of offsets 4 to 8: too large"


async def test_a_changelog_that_cannot_be_read_ends_the_worker():
    """State is never guessed at."""
    chunk = Chunk("students-changelog", 2, [], [], [], 0, 9, 9, refused=(RefusedRange(4, 9, "too large"),))
    event = SimpleNamespace(message=SimpleNamespace(value=QueuedChunk(chunk)))
    table: Any = StateTable.__new__(StateTable)
    with pytest.raises(MissingRecords, match=r"topic students-changelog partition 2: .* offset 4 cannot be read"):
        table.apply_changelog_batch([event])


async def test_a_visit_batch_that_is_delivered_twice_is_applied_once():
    """The second delivery, as after a restart, changes nothing and writes nothing."""
    async with new_driver() as m:
        await feed(m, log_rows((1, NOW), (2, NOW)))
        sent: list[bytes] = []
        original = m.send_visits

        async def spy(visit_batches: Sequence[Sequence[bytes]]) -> None:
            sent.extend(visit_batches[0])
            await original(visit_batches)

        m.send_visits = spy  # type: ignore[method-assign]
        await feed(m, log_rows((1, NOW + MINUTE)))
        before = {topic: len(written) for topic, written in m.topics.items()}
        await m.feed(m.names.visits, [None] * len(sent), sent)
        assert {topic: len(written) for topic, written in m.topics.items()} == before
        assert m.metrics["repeated"] == 1


async def test_an_error_other_than_a_bad_record_ends_the_agent():
    """Only bad records are tolerated."""

    async def broken(*_: object, **__: object) -> bool:
        raise RuntimeError("disk")

    async def run() -> None:
        async with new_driver() as m:
            m.students(0).flush = broken  # type: ignore[method-assign]
            await feed(m, log_rows((1, NOW)))

    with pytest.raises(RuntimeError, match="disk"):
        await run()


async def test_a_chunk_is_processed_only_after_its_visit_batches_are_acknowledged():
    """A chunk of visit batches is processed only after the flush: committed earlier, it would be lost in a crash."""
    steps: list[str] = []
    async with new_driver() as m:
        real_send_visits, real_processed, real_flush = m.send_visits, m.processed, m.students(0).flush

        async def send_visits(visit_batches: Sequence[Sequence[bytes]]) -> None:
            steps.append("visit batches")
            await real_send_visits(visit_batches)

        async def flush(*args: Any, **more: Any) -> bool:
            steps.append("flush")
            return await real_flush(*args, **more)

        async def processed(chunk: Any) -> None:
            steps.append(f"processed {chunk.topic}")
            await real_processed(chunk)

        m.send_visits, m.processed, m.students(0).flush = send_visits, processed, flush  # type: ignore[method-assign]
        await feed(m, log_rows((1, NOW)))
    assert steps == ["visit batches", f"processed {m.names.source}", "flush", f"processed {m.names.visits}"]


async def test_what_was_fetched_before_a_takeover_is_not_applied_after_it() -> None:
    """The agent of a partition that stays goes on through a rebalance; the partition begins anew before its chunk."""
    m = new_driver()
    done: list[Any] = []
    m.processed, m.students(0).generation = appending(done), 2  # type: ignore[method-assign]
    visits = Visits(np.array([5]), np.zeros(1, np.bool_), np.array([1_000]), np.array([7]))
    batch = VisitBatch(1, [SourceRange(0, UNKNOWN_BEGIN, 8, 1_000, False, visits)])
    chunk = Chunk(m.names.visits, 0, [0], [None], [encode(batch)], 0, 1, 1)
    await m.pipeline.process.run(delivered(m, chunk))
    assert (done, m.students(0).position.offsets.tolist()) == ([], [0])
    m.students(0).generation = 1
    await m.pipeline.process.run(delivered(m, chunk))
    assert (done, m.students(0).position.offsets.tolist()) == ([chunk], [8])


async def test_a_chunk_without_a_flush_is_not_processed():
    """Another worker owns the partition now, and must find the visit batches uncommitted."""
    m = new_driver()
    done: list[Any] = []

    async def lost(*_: Any, **more: Any) -> bool:
        return False

    m.students(0).flush, m.processed = lost, appending(done)  # type: ignore[method-assign]
    chunk = Chunk(m.names.visits, 0, [0], [None], [encode(VisitBatch(1, ()))], 0, 1, 1)
    await m.pipeline.process.run(delivered(m, chunk))
    assert done == []


async def test_predictions_that_are_read_twice_are_forwarded_once():
    """The next offset is written with the rows, so that reading the same chunk after a crash forwards nothing."""
    m = new_driver()
    values = [b'{"USERID":1,"PREDICTION":0.9,"CREATED_DATE":5}', b'{"USERID":2,"PREDICTION":0.8,"CREATED_DATE":6}']
    done: list[Any] = []
    m.processed = appending(done)  # type: ignore[method-assign]
    short, whole = (
        Chunk(m.names.prediction, 0, range(n), [None] * n, values[:n], 0, n, n, None) for n in (1, len(values))
    )
    await m.pipeline.alert.run(delivered(m, short, whole, whole))
    assert [r["USERID"] for r in rows(m, m.names.in_risk)] == [1, 2]
    assert done == [short, whole, whole]


async def test_predictions_that_have_arrived_share_a_flush_followed_by_a_pause():
    """One transaction for all, a pause only at the end of the topic; chunks of an older generation are dropped."""
    m = new_driver()
    agent = Alert(m, m.names, m.metrics, pause_s=0.05)
    steps: list[Any] = []
    real_flush = m.alerts().flush

    async def flush(*args: Any) -> bool:
        steps.append("flush")
        return await real_flush(*args)

    async def processed(chunk: Chunk) -> None:
        steps.append(chunk.start)

    m.alerts().flush, m.processed = flush, processed  # type: ignore[method-assign]
    value = b'{"USERID":%d,"PREDICTION":0.9,"CREATED_DATE":5}'
    ends = (9, 9, 3, 9, 9)
    chunks = [Chunk(m.names.prediction, 0, [n], [None], [value % n], n, n + 1, end) for n, end in enumerate(ends)]
    has_next, generations = (True, True, False, True, False), (1, 2, 2, 2, 2)

    async def deliveries() -> AsyncIterator[Delivery]:
        for chunk, more, generation in zip(chunks, has_next, generations, strict=True):
            began = time.monotonic()
            yield Delivery(chunk, generation, frozenset({0}), more)
            steps.append(time.monotonic() - began > 0.04)

    await agent.run(deliveries())
    assert steps == [False, False, "flush", 1, 2, True, False, "flush", 3, 4, False]
    assert [r["USERID"] for r in rows(m, m.names.in_risk)] == [1, 2, 3, 4]


def appending(chunks: list[Any]) -> Callable[[Chunk], Awaitable[None]]:
    """Return a `processed` that appends the chunks to a list."""

    async def processed(chunk: Chunk) -> None:
        chunks.append(chunk)

    return processed


async def delivered(m: TopologyTestDriver, *chunks: Chunk) -> AsyncIterator[Delivery]:
    """Yield chunks as deliveries of one generation, each with nothing behind it."""
    for chunk in chunks:
        yield Delivery(chunk, 1, frozenset({0}))
