"""What `faust -A app forget` takes for a student's: dead letters, and keys in the output topics."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import fastavro
import pytest
from aiokafka.structs import ConsumerRecord

from app.errors import ConfigError
from app.ops.forget import CASES_BEFORE
from app.ops.forgotten_letters import Verdict, judge
from app.ops.traces import Traces, owners
from app.settings import Settings
from codec.named_users import named_users
from codec.output_rows import session_key
from models.chunk import Chunk, RefusedRange
from models.rules import GRACE_MS

NAMES = Settings(app_id="test").topic_names
LOG: Any = {
    "type": "record",
    "name": "Value",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "userid", "type": ["null", "long"]},
        {"name": "relateduserid", "type": ["null", "int", "string"]},
        {"name": "other", "type": "string"},
        {"name": "timecreated", "type": "long"},
    ],
}


def encoded(userid: int | None, related: int | str | None = None, *, schema_id: int = 1) -> bytes:
    """A row of the log in the registry's wire format."""
    out = io.BytesIO()
    row = {"id": 7, "userid": userid, "relateduserid": related, "other": "7", "timecreated": -5}
    fastavro.schemaless_writer(out, LOG, row)
    return b"\0" + schema_id.to_bytes(4, "big") + out.getvalue()


def letter(
    topic: str, value: bytes | None, key: bytes | None = b"k", reason: str = "negative-time", *more: str
) -> ConsumerRecord:
    headers = [("dead-letter.topic", topic.encode()), ("dead-letter.reason", reason.encode())]
    headers += [(name, b"") for name in more]
    return ConsumerRecord("t", 0, 0, 0, 0, key, value, None, 0, 0, headers)


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (encoded(7), Verdict.DROP),
        (encoded(8), Verdict.KEEP),
        (encoded(None), Verdict.KEEP),
        (encoded(8, 7), Verdict.DROP),  # somebody else's row, about the student
        (encoded(8, "7"), Verdict.DROP),
        (encoded(8, "seven"), Verdict.EMPTY),
        (encoded(8)[:-2], Verdict.EMPTY),  # truncated: whose it is cannot be told
        (encoded(8, schema_id=9), Verdict.EMPTY),  # nobody knows the schema
        (b"\1" + encoded(8)[1:], Verdict.EMPTY),
        (b"\0", Verdict.EMPTY),
    ],
)
def test_rows_of_the_log_among_the_dead_letters(value: bytes, verdict: Verdict) -> None:
    """One that names the student goes; of one that cannot be read, the content goes."""
    assert judge(letter(NAMES.source, value), NAMES.source, {7}, {1: LOG}) is verdict


def test_a_record_without_a_users_column_may_name_anybody() -> None:
    """Another table's row has its own names for users."""
    other = {"type": "record", "name": "Value", "fields": [{"name": "owner", "type": "long"}]}
    assert named_users(other, b"\0\0\0\0\1\x0e") is None
    assert named_users({"type": "string"}, b"\0\0\0\0\1\x0e") is None


@pytest.mark.parametrize(
    ("key", "value", "verdict"),
    [
        (b"7", b"{", Verdict.DROP),
        (b"8", b"{", Verdict.KEEP),
        (b"key", b'{"userid": 7}', Verdict.DROP),
        (b"key", b'{"userid": 8}', Verdict.KEEP),
        (b"key", b"{", Verdict.EMPTY),
        (None, None, Verdict.KEEP),  # has no content
    ],
)
def test_predictions_among_the_dead_letters(key: bytes | None, value: bytes | None, verdict: Verdict) -> None:
    """They are the student's by key or by value."""
    assert judge(letter(NAMES.prediction, value, key, "not JSON"), NAMES.source, {7}, {}) is verdict


def test_visit_batches_and_truncated_records_among_the_dead_letters_are_emptied() -> None:
    assert judge(letter(NAMES.visits, b"MRV", None, "bad-frame"), NAMES.source, {7}, {}) is Verdict.EMPTY
    cut = letter(NAMES.prediction, b"{", b"8", "not JSON", "dead-letter.truncated")
    assert judge(cut, NAMES.source, {7}, {}) is Verdict.EMPTY


def read(topic: str, rows: Sequence[tuple[bytes | None, bytes | None]], before: int = 0) -> Traces:
    """What a topic with these keys and values holds of the students 7 and 77."""
    traces = Traces(topic, owners(NAMES)[topic], {b"7", b"77"}, before)
    keys, values = zip(*rows, strict=True)
    n = len(rows)
    headers = [() if value is not None else (("forgotten", b"5"),) for value in values]
    traces.add(Chunk(topic, 0, range(n), keys, values, 0, n, n, headers))
    return traces


def test_keys_that_had_a_value_before_the_request_are_old() -> None:
    """Not those whose value has been deleted, nor those that were written since."""
    rows = [(b"7|1", b"a"), (b"7|2", b"b"), (b"77|1", b"c"), (b"78|1", b"d"), (b"7|1", None), (b"7|3", b"e")]
    traces = read(NAMES.risk, rows, 4)
    assert traces.old(lambda student: 0) == [b"7|2", b"77|1"]
    assert traces.alive == {b"7|2": 1, b"77|1": 2, b"7|3": 5}
    assert (traces.records, traces.last, traces.marked) == (4, 5, {b"7"})
    assert [row[:3] for row in traces.tombstones([b"77|1"], lambda student: 9)] == [(9, b"77|1", None)]


def test_a_session_that_was_written_about_the_time_of_the_request_is_old_if_it_had_expired_by_then() -> None:
    """The state knows it no more, and it can never be made anew."""
    now = 10 * GRACE_MS
    ends = [now - GRACE_MS - 1, now - GRACE_MS, now]
    rows: list[tuple[bytes | None, bytes | None]] = [(session_key(b"7", end - 5, end), b"row") for end in ends]
    traces = read(NAMES.sessions, [*rows, (session_key(b"1", 0, 0), b"row"), (b"short", b"row")])
    assert traces.old(lambda student: now) == [rows[0][0]]
    (row,) = traces.tombstones(traces.old(lambda student: now), lambda student: now)
    assert row[:3] == (ends[0], rows[0][0], None)


def test_a_prediction_of_another_scorer_is_the_students_whatever_its_key() -> None:
    value = json.dumps({"USERID": 7, "PREDICTION": 0.9}).encode()
    traces = read(NAMES.prediction, [(b"x", value), (b"8", value), (b"y", b"no JSON"), (None, value), (b"7", b"{}")], 9)
    assert traces.alive == {b"x": 0, b"7": 4}
    assert traces.records == 3
    assert [row[:3] for row in traces.tombstones(traces.old(lambda student: 3), {b"7": 3}.__getitem__)] == [
        (3, b"x", None),
        (3, b"7", None),
    ]


def test_all_that_advisers_did_is_the_students() -> None:
    """Also what they did since the request, and what was refused."""
    rows = [
        (b"7|1|0|action-1|a", b"a"),
        (b"7||1|action-2|b", b"b"),
        (b"77|1|0|action-1|a", b"c"),
        (b"78|1|0|x|y", b"d"),
    ]
    traces = read(NAMES.cases, rows, CASES_BEFORE)
    assert traces.old(lambda student: 0) == [b"7|1|0|action-1|a", b"7||1|action-2|b", b"77|1|0|action-1|a"]


def test_a_topic_that_cannot_be_read_is_no_topic_without_traces() -> None:
    """Nobody can say that nothing of the students is left in it."""
    traces = Traces(NAMES.agg, owners(NAMES)[NAMES.agg], {b"7"}, before=0)
    chunk = Chunk(NAMES.agg, 0, [], [], [], 0, 9, 9, refused=(RefusedRange(4, 9, "too large"),))
    with pytest.raises(ConfigError, match=r"AGG partition 0: the record batch at offset 4 cannot be read .too large."):
        traces.add(chunk)
