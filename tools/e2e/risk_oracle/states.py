"""Which states of an entry may have been scored between two ticks, and the order in which entries wait."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tools.e2e.risk_oracle.log import Mark, Spell

#: how many days a row may be ahead of the next tick and be scored at once, where stream time is held
AHEAD = 5
#: number of bits of which all combinations are tried
_MOST_OPEN = 12


def is_cut_of(found: Sequence[object], wanted: Sequence[object]) -> bool:
    """Whether `found` is what is left of `wanted` when some but the last are left out."""
    rest = iter(wanted[:-1])
    return found[-1] == wanted[-1] and all(any(row == state for state in rest) for row in found[:-1])


def possible_marks(spell: Spell, as_of: int) -> Iterator[Sequence[Mark]]:
    """Yield the bits that may be set when `as_of` is the newest day, the final ones first.

    Those of days before yesterday are final; where a backlog's partitions are read one after another, those of some
    more days may not be.
    """
    if as_of not in spell.visits:
        return
    for open_days in (1, AHEAD + 1):
        known = [mark for mark in spell.marks if mark.day <= as_of]
        certain = [m for m in known if m.day < as_of - open_days or (m.day == as_of and not m.submission)]
        open_ = [m for m in known if m.day >= as_of - open_days and m not in certain]
        for left_out in range(1 << min(len(open_), _MOST_OPEN)):
            chosen = [mark for i, mark in enumerate(open_) if not left_out >> i & 1]
            visits = {mark.day for mark in (*certain, *chosen) if not mark.submission}
            if all(mark.day in visits for mark in chosen):
                yield [*certain, *chosen]


def hash_of(student: int) -> int:
    """Return the 16 bits that decide between equal risks."""
    return (student * 0x9E3779B97F4A7C15 & 0xFFFF_FFFF_FFFF_FFFF) >> 48
