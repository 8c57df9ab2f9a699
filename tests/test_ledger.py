"""What may be committed: never past a chunk that was delivered and not processed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.kafka.ledger import Ledger
from models.chunk import Chunk


def chunks(ends: list[int]) -> list[Chunk]:
    starts = [0, *ends[:-1]]
    return [Chunk("t", 0, (), (), (), a, b, b) for a, b in zip(starts, ends, strict=True)]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_the_processed_prefix_is_committed_whatever_the_order(sizes, random):
    """After each acknowledgement: the end of the longest prefix of delivered chunks that are all processed."""
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


def test_what_was_delivered_before_a_seek_does_not_count():
    """After `clear` late acknowledgements change nothing."""
    ledger: Ledger[int] = Ledger()
    (old,) = chunks([5])
    ledger.delivered(0, old)
    ledger.clear()
    ledger.processed(0, old)
    assert ledger.committable() == {}
    assert ledger.done(0, 3) == 3


def test_equal_chunks_are_told_apart():
    """Two chunks without records at one place are two."""
    ledger: Ledger[int] = Ledger()
    first, second = chunks([5])[0], chunks([5])[0]
    ledger.delivered(0, first)
    ledger.delivered(0, second)
    ledger.processed(0, second)
    assert ledger.committable() == {}


def test_a_chunk_that_has_grown_is_processed_as_a_whole():
    """Only the last one can grow, and what it was before is unknown from then on."""
    ledger: Ledger[int] = Ledger()
    first, second, third = chunks([5, 7, 9])
    ledger.delivered(0, first)
    ledger.delivered(0, second)
    whole = second.concat(third)
    assert not ledger.replace_last(0, first, whole)
    assert not ledger.replace_last(1, second, whole)
    assert ledger.replace_last(0, second, whole)
    ledger.processed(0, second)
    ledger.processed(0, first)
    assert ledger.committable() == {0: 5}
    ledger.processed(0, whole)
    assert (ledger.committable(), ledger.waiting(0)) == ({0: 9}, 0)
