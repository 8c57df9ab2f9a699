"""Records of the output topics as the advisers' page reads them: those the worker writes, and hostile ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from codec.output_rows import session_key
from codec.record import Row
from codec.tombstones import forgotten_headers
from models.assessment import Band
from page.reader import parse
from page.reader.parse import Record, Unreadable
from page.reader.sources import Sources
from page.store.layout import SITE
from page.store.rows import AlertTombstone, Batch, RiskRow, RiskTombstone, SessionRow
from tests.support import page_rows, risk_course

SOURCES = Sources("risk", "alerts", "sessions", "letters", "cases")


def record(row: Row, offset: int = 7, *, value: bytes | None = None, headers: Sequence[Any] = ()) -> Record:
    """A row as it is read; value: another one than the row's."""
    at, key, own, own_headers = row
    return Record(offset, 5 if at is None else at, key, own if value is None else value, headers or own_headers)


def with_fields(row: Row, **fields: Any) -> Record:
    """A row with other fields; one with the value ... is left out."""
    values = {name: value for name, value in {**json.loads(row[2] or b""), **fields}.items() if value is not ...}
    return record(row, value=json.dumps(values).encode())


RISK = page_rows.risk_row(5, 7, 0.8123, "HIGH", ALERT=True, SINCE="2013-10-01", REASONS=[page_rows.REASON])


def test_a_row_of_the_risk() -> None:
    row = parse.risk(record(RISK))
    assert isinstance(row, RiskRow)
    assert (row.student, row.course, row.risk, row.band, row.alert) == (5, 7, 8_123, Band.HIGH, True)
    assert page_rows.day_text(row.since or 0) == "2013-10-01"
    assert json.loads(row.reasons) == [page_rows.REASON]
    assert (row.as_of, row.at, row.visit_days, row.submission_days) == (page_rows.TODAY, RISK[0], 0b1011, 0b1000)
    assert row.is_event
    site = parse.risk(record(page_rows.risk_row(5, None, None, "UNKNOWN")))
    assert (site.course, site.risk, site.since) == (SITE, None, None)  # type: ignore[union-attr]


def test_everything_that_the_worker_writes_is_read() -> None:
    written = risk_course.written()
    batch = Batch()
    for topic, rows in (("risk", written.risk), ("alerts", written.alerts)):
        SOURCES.add(batch, topic, [Record(i, 0, key, value, ()) for i, (key, value) in enumerate(rows)])
    assert not batch.unreadable
    assert len(batch.risks) == len(written.risk)
    assert len(batch.alerts) == len(written.alerts)
    for row, (_, value) in zip(batch.risks, written.risk, strict=True):
        if isinstance(row, RiskRow):
            fields = json.loads(value or b"")
            assert (row.risk, Band(row.band).name) == (fields["RISK"] and round(fields["RISK"] * 1e4), fields["BAND"])


def test_rows_of_older_workers_tell_the_last_visit_where_they_can() -> None:
    old = {"VISIT_DAYS": ..., "SUBMISSION_DAYS": ...}
    for fields, expected in (
        ({"TRIGGER": "event"}, 1),
        ({"TRIGGER": "tick"}, 1 << 9),  # of the reason: silent for nine days
        ({"TRIGGER": "tick", "REASONS": []}, 0),
    ):
        row = parse.risk(with_fields(RISK, **old, **fields))
        assert (row.visit_days, row.submission_days) == (expected, 0)  # type: ignore[union-attr]


def test_tombstones() -> None:
    assert parse.risk(Record(1, 2, b"5|7", None, ())) == RiskTombstone(5, 7, None)
    assert parse.risk(Record(1, 2, b"5", None, forgotten_headers(99))) == RiskTombstone(5, SITE, 99)
    assert parse.alert(Record(1, 2, b"5|7", None, ())) == AlertTombstone(1, 5, 7)
    assert parse.session(Record(1, 2, session_key(b"5", 3, 4), None, ())) == SessionRow(5, 4, 3, None)


def test_sessions() -> None:
    assert parse.session(record(page_rows.session_row(5, 1_000, 9_000, 4))) == SessionRow(5, 9_000, 1_000, 4)
    assert parse.session(Record(1, 2, session_key(b"null", 3, 4), b"{}", ())) is None


def test_a_dead_letter_is_what_its_own_headers_say() -> None:
    row = page_rows.dead_letter("truncated")
    headers = [*row[3], ("dead-letter.reason", b"of the record itself")]
    letter = parse.dead_letter(record(row, headers=headers))
    assert (letter.topic, letter.reason, letter.at) == ("demo.log", "truncated", 5)


NUL = "a\x00b"
LONG = "w" * 10_000


@pytest.mark.parametrize(
    "fields",
    [
        {"USERID": None}, {"USERID": 1.5}, {"USERID": True}, {"USERID": 1 << 70}, {"USERID": "5"}, {"USERID": ...},
        {"COURSEID": -1}, {"COURSEID": ...}, {"COURSEID": []},
        {"RISK": 1.01}, {"RISK": -0.1}, {"RISK": True}, {"RISK": "0.5"}, {"RISK": ...},
        {"BAND": "<b>"}, {"BAND": None}, {"BAND": []}, {"ALERT": 1}, {"ALERT": None},
        {"SINCE": None}, {"SINCE": "today"},
        {"REASONS": None}, {"REASONS": [1]}, {"REASONS": [{}]}, {"REASONS": [page_rows.REASON] * 3},
        {"REASONS": [{**page_rows.REASON, "TEXT": LONG}]}, {"REASONS": [{**page_rows.REASON, "OWN": "9"}]},
        {"COHORT_N": None}, {"AS_OF": 5}, {"AS_OF": "2013-13-01"}, {"MODEL": LONG}, {"MODEL": 3},
        {"VISIT_DAYS": "f"}, {"VISIT_DAYS": "z" * 16}, {"VISIT_DAYS": 7}, {"SUBMISSION_DAYS": "-" * 16},
    ],
    ids=str,
)  # fmt: skip
def test_a_row_with_a_bad_field_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        parse.risk(with_fields(RISK, **fields))


@pytest.mark.parametrize("value", [b"", b"\xff", b"[]", b"{", b"null", b"NaN", b'{"USERID":"\\ud800"}', b"[" * 100_000])
@pytest.mark.parametrize("read", [parse.risk, parse.alert])
def test_what_is_no_object_is_refused(read: parse.Parse, value: bytes) -> None:
    with pytest.raises(Unreadable):
        read(Record(1, 2, b"5|7", value, ()))


@pytest.mark.parametrize(
    "key", [None, b"", b"|", b"x|1", b"1|x", b"1|2|3", b"+1|2", b" 1|2", b"9" * 30, "٣|1".encode()]
)
def test_a_tombstone_without_ids_is_refused(key: bytes | None) -> None:
    for read in (parse.risk, parse.alert):
        with pytest.raises(Unreadable):
            read(Record(1, 2, key, None, ()))


@pytest.mark.parametrize("key", [None, b"", b"5" * 15, session_key(b"x", 1, 2), session_key(b"", 1, 2)])
def test_a_session_without_a_key_is_refused(key: bytes | None) -> None:
    with pytest.raises(Unreadable):
        parse.session(Record(1, 2, key, b"{}", ()))


def test_a_session_whose_key_is_another_is_refused() -> None:
    _, _, value, _ = page_rows.session_row(5, 1_000, 9_000, 4)
    with pytest.raises(Unreadable, match="differ"):
        parse.session(Record(1, 2, session_key(b"6", 1_000, 9_000), value, ()))


def test_text_of_any_kind_stays_text() -> None:
    for text in (NUL, "<script>", "\u202eabc", "é"):
        row = parse.risk(with_fields(RISK, MODEL=text, REASONS=[{**page_rows.REASON, "TEXT": text}]))
        assert isinstance(row, RiskRow)
        assert row.model == text
        assert json.loads(row.reasons)[0]["TEXT"] == text


def test_bits_beyond_sixty_days_are_left_out() -> None:
    row = parse.risk(with_fields(RISK, VISIT_DAYS="f" * 16))
    assert row.visit_days == (1 << 60) - 1  # type: ignore[union-attr]


def test_bad_records_are_named_and_the_others_are_kept() -> None:
    batch = Batch()
    SOURCES.add(batch, "risk", [Record(3, 0, b"k", b"no", ()), record(RISK)])
    SOURCES.add(batch, "letters", [Record(4, 0, None, b"", ())])
    SOURCES.add(batch, "cases", [Record(5, 1, b"k", b"v", ())])
    assert [str(row) for row in batch.unreadable] == [
        "skipped a record of topic risk partition 0 offset 3: the value is not JSON",
        "skipped a record of topic letters partition 0 offset 4: no header dead-letter.reason",
    ]
    assert len(batch.risks) == 1
    assert batch.cases[0][:] == (5, 1, b"k", b"v")
