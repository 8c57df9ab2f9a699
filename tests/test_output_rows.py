"""Output rows are the same, written one by one or in columns: timestamps, keys, values and headers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.score import Scores, score
from agents.sessionize import Sessionized, sessionize
from app.model_file import load_model
from codec import output_rows
from codec.record import Row
from codec.record_batch import OutputColumns, Rows
from models import state
from models.chunk import Headers
from models.murmur2 import keys_of
from models.position import Position
from models.predictions import MAX_ID_BYTES
from models.totals import Rollup, roll_up
from models.visit_batch import SourceRange, VisitBatch
from models.visits import StudentDictionary, Visits
from tests.support.effort import examples

MODEL = load_model("")
MODEL_HEADERS: Headers = [("model", MODEL.sha256.encode())]
MINUTE = 60_000
NOW = 1_561_975_200_000


class Students:
    """The state of one partition, in a dict."""

    def __init__(self) -> None:
        self.position = Position.start(1)
        self.next_offset = 0
        self.records: dict[bytes, bytes] = {}

    def load(self, students: StudentDictionary) -> Sequence[bytes | None]:
        return [self.records.get(key) for key in keys_of(students.student, students.null)]

    async def flush(self, *_: object) -> bool:
        raise NotImplementedError

    def keep(self, flushed: Flushed) -> None:
        """Store records and position, as a flush does."""
        batch = flushed.batch
        self.records |= zip(flushed.keys, state.pack(flushed.rollup.totals, batch.sessions), strict=True)
        self.position = batch.position


@dataclass(frozen=True)
class Flushed:
    """The results that the process agent writes for a batch of visits."""

    batch: Sessionized
    rollup: Rollup
    scores: Scores
    #: key of each student [u]
    keys: list[bytes]

    def sessions(self) -> Rows:
        return output_rows.sessions(self.batch.changes, self.batch.students, self.keys, self.batch.visits.headers)

    def totals(self) -> Rows:
        return output_rows.totals(self.rollup, self.batch.students, self.keys, self.batch.visits.headers)

    def predictions(self) -> Rows:
        owner, at, risk = self.scores.owner, self.scores.at, self.scores.risk
        return output_rows.predictions(owner, at, risk, self.batch.students, self.keys, MODEL_HEADERS)


#: userids: null, or any 64-bit number, also huge and negative ones
STUDENT = st.one_of(st.sampled_from([1, 2, 3, None]), st.sampled_from([0, -7, 2**63 - 1, -(2**63), 40_000]))
#: minutes since the previous visit: within a session, merging two, starting a new one, days late, a day ahead
SINCE = st.one_of(st.integers(-40, 40), st.sampled_from([-2 * 1440, 1440, 0]))
HEADERS = st.sampled_from([(), (("a", b"1"),), (("a", None), ("a", b""))])
BATCHES = st.lists(st.lists(st.tuples(STUDENT, SINCE, HEADERS), max_size=25), min_size=1, max_size=3)


def flushes(
    log: list[list[tuple[int | None, int, Headers]]], *, emit_every_change: bool, with_headers: bool
) -> Iterator[Flushed]:
    """Apply batches of visits one after another."""
    students = Students()
    at, offset = NOW, 0
    for rows in log:
        n = len(rows)
        ats = np.cumsum([at, *(since * MINUTE + i for i, (_, since, _) in enumerate(rows))])[1:]
        at = int(ats[-1]) if n else at
        visits = Visits(
            np.array([student or 0 for student, _, _ in rows], np.int64),
            np.array([student is None for student, _, _ in rows], np.bool_),
            ats,
            np.arange(offset, offset + n),
            [headers for _, _, headers in rows] if with_headers else None,
        )
        watermark = int(ats.max(initial=-1))
        visit_batch = VisitBatch(1, [SourceRange(0, offset, offset + n, watermark, False, visits)])
        batch = sessionize(students, [visit_batch], emit_every_change=emit_every_change)
        rollup = roll_up(batch.totals, batch.changes, emit_every_change=emit_every_change)
        keys = keys_of(batch.students.student, batch.students.null)
        flushed = Flushed(batch, rollup, score(rollup, batch.students, MODEL), keys)
        yield flushed
        students.keep(flushed)
        offset += n


def both(make: Callable[[], Rows]) -> list[Row]:
    """Check that the rows are the same one by one and in columns, and return them."""
    written: list[list[Row]] = []
    with pytest.MonkeyPatch.context() as patch:
        for row_wise_max in (10**9, -1):
            patch.setattr(output_rows, "ROW_WISE_MAX", row_wise_max)
            rows = make()
            assert isinstance(rows, OutputColumns) == (row_wise_max < 0)
            assert len(rows) == len(list(rows))
            written.append([(at, key, value, list(headers)) for at, key, value, headers in rows])
    assert written[0] == written[1]
    return written[0]


@given(BATCHES, st.booleans(), st.booleans())
@settings(max_examples=examples(150))
def test_rows_are_the_same_one_by_one_and_in_columns(log, emit_every_change, with_headers):
    """Sessions and tombstones, totals (DURATION null without sessions), predictions; also for the null student."""
    for flushed in flushes(log, emit_every_change=emit_every_change, with_headers=with_headers):
        sessions, totals, risks = both(flushed.sessions), both(flushed.totals), both(flushed.predictions)
        check_sessions(flushed.batch, sessions)
        for at, key, value, _ in totals:
            fields = json.loads(value or b"")
            assert at is not None
            assert str(fields["USERID"]).encode() == key or (fields["USERID"] is None and key == b"null")
            assert (fields["DURATION"] is None) == (fields["SESSIONS"] == 0)
        # every key can be a document's id: as ISO-8859-1, which the sinks read, and then UTF-8, which they send
        keys = [key or b"" for _, key, _, _ in [*sessions, *totals, *risks]]
        assert max((len(key.decode("latin-1").encode()) for key in keys), default=0) <= 20 + 2 * 16 < MAX_ID_BYTES
        assert [json.loads(value or b"")["CREATED_DATE"] for _, _, value, _ in risks] == [at for at, *_ in risks]
        assert all(headers == MODEL_HEADERS for *_, headers in risks)
        if not with_headers:
            assert all(headers == [] for *_, headers in [*sessions, *totals])


def check_sessions(batch: Sessionized, written: list[Row]) -> None:
    """Key and value name the same window; a removed session is a tombstone."""
    deltas = batch.changes.delta[batch.changes.written].tolist()
    assert [value is None for _, _, value, _ in written] == [delta < 0 for delta in deltas]
    for at, key, value, _ in written:
        assert key is not None
        assert int.from_bytes(key[-16:-8], "big") == at
        if value is not None:
            fields = json.loads(value)
            assert (fields["END_DATE"], fields["START_DATE"]) == (at, int.from_bytes(key[-8:], "big"))
            assert fields["DURATION"] == (fields["END_DATE"] - fields["START_DATE"]) // 1000


def test_the_generated_rows_have_every_kind():
    """Tombstones, totals without sessions, a null student and headers: the test above would prove nothing otherwise."""
    log = [[(1, 0, (("a", b"1"),)), (None, 1, ()), (1, 5, ()), (1, -5, ())], [(1, 10, ()), (None, 60, ())]]
    written: list[Row] = []
    for flushed in flushes(log, emit_every_change=True, with_headers=True):
        written += both(flushed.sessions) + both(flushed.totals)
    values = [value for _, _, value, _ in written]
    assert None in values
    assert b'{"USERID":1,"ACTIVITIES":0,"DURATION":null,"SESSIONS":0}' in values
    assert any(key == b"null" for _, key, _, _ in written)
    assert any(headers == [("a", b"1")] for *_, headers in written)
