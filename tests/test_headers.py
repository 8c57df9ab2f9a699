"""Headers that nobody reads do not travel, and those that do never make a visit batch too large for Kafka."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.dead_letters import MAX_BYTES, DeadLetter
from models import headers
from models.chunk import Headers
from models.headers import MAX_SIZE, HeaderFilter
from models.position import Position, drop_applied
from models.routing import MAX_BATCH_BYTES, Router, visit_batches
from models.visit_batch import UNKNOWN_BEGIN, SourceRange, decode, encode
from models.visits import Visits
from tests.support.effort import examples

#: Kafka's default limit of a record batch [bytes]
BROKER_LIMIT = 1_048_588

CONTEXT = [(f"__debezium.context.{name}", b"moodle") for name in ("connectorLogicalName", "taskId", "connectorName")]


def visits(record_headers: list[Headers] | None, n: int) -> Visits:
    column = np.arange(n)
    return Visits(column % 50, np.zeros(n, np.bool_), column, column, record_headers)


def source_range(record_headers: list[Headers] | None, n: int) -> SourceRange:
    return SourceRange(0, UNKNOWN_BEGIN, n, n, False, visits(record_headers, n), 5)


def test_ignored_headers_are_dropped_by_name_and_by_prefix() -> None:
    kept, oversized = HeaderFilter(["__debezium.*", "trace"]).apply(
        [[*CONTEXT, ("trace", b"1")], [("traceparent", b"2"), CONTEXT[0]], []]
    )
    assert kept == [(), (("traceparent", b"2"),), ()]
    assert oversized == 0


def test_records_with_ignored_headers_only_count_as_records_without_headers() -> None:
    """Then columns without headers are used."""
    assert HeaderFilter(["__debezium.*"]).apply([CONTEXT] * 3) == (None, 0)
    assert HeaderFilter([]).apply([CONTEXT])[0] == [tuple(CONTEXT)]
    assert HeaderFilter(["*"]).apply([[("a", None)]]) == (None, 0)


def test_headers_that_are_too_large_are_not_forwarded() -> None:
    small, large = ("a", b"x" * (MAX_SIZE - 100)), ("b", b"x" * MAX_SIZE)
    assert HeaderFilter().apply([[small], [large], [("c", b"1")]]) == ([(small,), (), (("c", b"1"),)], 1)


@given(st.lists(st.sampled_from([0, 0, 50, 3_000, MAX_SIZE - 100]), max_size=60), st.integers(1, 40), st.integers(1, 3))
@settings(max_examples=examples(60))
def test_visit_batches_fit_a_record_batch(sizes: list[int], max_rows: int, partitions: int) -> None:
    """Whatever the headers: every visit is in exactly one batch, with its headers, and the ranges stay connected."""
    record_headers: list[Headers] = [(("h", b"x" * size),) if size else () for size in sizes]
    n = len(sizes)
    sent = visit_batches([source_range(record_headers, n)], 1, Router(partitions), max_rows)
    offsets = []
    for batches in sent:
        decoded = [decode(raw) for raw in map(encode, batches)]
        assert all(len(encode(batch)) < BROKER_LIMIT for batch in batches)
        assert all(len(batch) <= max_rows for batch in decoded)
        new = drop_applied(Position.start(1), decoded)
        assert (new.detached, new.repeated, int(new.position.offsets[0])) == (0, 0, n)
        assert new.position.watermarks.confirmed[0] == 5
        for offset, actual in zip(new.visits.offset.tolist(), new.visits.headers or [()] * n, strict=False):
            assert list(actual) == list(record_headers[offset])
            offsets.append(offset)
    assert sorted(offsets) == list(range(n))


def test_a_backlog_with_a_header_each_is_cut_by_bytes() -> None:
    """30,000 rows with a trace id: in one batch they would have 3 MB."""
    trace: list[Headers] = [(("traceparent", b"00-%032x-%016x-01" % (i, i)),) for i in range(30_000)]
    (batches,) = visit_batches([source_range(trace, 30_000)], 1, Router(1), 30_000)
    sizes = [len(encode(batch)) for batch in batches]
    assert MAX_BATCH_BYTES // 2 < max(sizes) < BROKER_LIMIT
    assert sum(map(len, batches)) == 30_000


def test_a_dead_letter_of_a_large_record_is_cut_and_says_so() -> None:
    """A record of the size of a record batch has no room for a dead letter's headers."""
    value = bytes(range(256)) * 5_000
    letter = DeadLetter("log", 3, 7, "malformed", "why", b"key", value, [("h", b"x" * 900_000)])
    _, key, kept, record_headers = letter.row
    assert (key, kept) == (b"key", value[: MAX_BYTES // 2])
    assert dict(record_headers)["dead-letter.truncated"] == b"%d" % (3 + len(value) + headers.size(letter.headers))
    assert headers.size(record_headers) < 1_000
    whole = DeadLetter("log", 3, 7, "malformed", "why", b"key", b"value", [("h", b"x")])
    assert whole.row[1:3] == (b"key", b"value")
    assert "dead-letter.truncated" not in dict(whole.row[3])
