"""The committable offset never passes a chunk that was delivered and not processed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.kafka.ledger import Ledger
from models.chunk import Chunk


def chunks(ends: list[int]) -> list[Chunk]:
    starts = [0, *ends[:-1]]
    return [Chunk("t", 0, (), (), (), a, b, b) for a, b in zip(starts, ends, strict=True)]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_processed_prefix_is_committable_in_any_order(sizes, random):
    """After each call of `processed`: the end of the longest prefix of delivered chunks that are all processed."""
    delivered = chunks([sum(sizes[: i + 1]) for i in range(len(sizes))])
    ledger: Ledger[int] = Ledger()
    for chunk in delivered:
        ledger.delivered(0, chunk)
    done: set[int] = set()
    for i in random.sample(range(len(delivered)), len(delivered)):
        ledger.processed(0, delivered[i])
        done.add(i)
        prefix = next((k for k in range(len(delivered)) if k not in done), len(delivered))
        assert ledger.committable() == ({0: delivered[prefix - 1].next_offset} if prefix else {})
        assert ledger.waiting(0) == len(delivered) - prefix


def test_chunks_delivered_before_a_seek_are_ignored():
    """After `clear` a late `processed` changes nothing."""
    ledger: Ledger[int] = Ledger()
    (old,) = chunks([5])
    ledger.delivered(0, old)
    ledger.clear()
    ledger.processed(0, old)
    assert ledger.committable() == {}
    assert ledger.done(0, 3) == 3


def test_equal_chunks_are_distinct():
    """Two chunks without records at the same offset are two chunks."""
    ledger: Ledger[int] = Ledger()
    first, second = chunks([5])[0], chunks([5])[0]
    ledger.delivered(0, first)
    ledger.delivered(0, second)
    ledger.processed(0, second)
    assert ledger.committable() == {}


def test_a_merged_chunk_is_processed_as_a_whole():
    """Only the last chunk can be replaced; the replaced one is unknown from then on."""
    ledger: Ledger[int] = Ledger()
    first, second, third = chunks([5, 7, 9])
    ledger.delivered(0, first)
    ledger.delivered(0, second)
    merged = second.concat(third)
    assert not ledger.replace_last(0, first, merged)
    assert not ledger.replace_last(1, second, merged)
    assert ledger.replace_last(0, second, merged)
    ledger.processed(0, second)
    ledger.processed(0, first)
    assert ledger.committable() == {0: 5}
    ledger.processed(0, merged)
    assert (ledger.committable(), ledger.waiting(0)) == ({0: 9}, 0)
