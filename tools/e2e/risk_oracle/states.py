"""Which states of an entry may have been scored between two ticks, and the order in which entries wait."""

from __future__ import annotations

from collections.abc import Sequence

from tools.e2e.risk_oracle.log import Mark, Spell
from tools.e2e.risk_oracle.standing import DAYS

#: how many days a row may be ahead of the next tick and be scored at once, where stream time is held
AHEAD = 5


def is_cut_of(found: Sequence[object], wanted: Sequence[object]) -> bool:
    """Whether `found` is what is left of `wanted` when some but the last are left out."""
    rest = iter(wanted[:-1])
    return found[-1] == wanted[-1] and all(any(row == state for state in rest) for row in found[:-1])


def shown_marks(spell: Spell, as_of: int, visits: int, submissions: int) -> Sequence[Mark] | None:
    """Return the bits that were set when a row was made with `as_of` as the newest day; None: that cannot have been.

    visits, submissions: the days that the row shows, as bits by age. Those of days before yesterday are final; where a
    backlog's partitions are read one after another, those of some more days may not be.
    """
    known = [mark for mark in spell.marks if mark.day <= as_of]
    shown = [
        m for m in known if m.day <= as_of - DAYS or (submissions if m.submission else visits) >> as_of - m.day & 1
    ]
    final = {mark for mark in known if mark.day < as_of - AHEAD - 1}
    days = {mark.day for mark in shown if not mark.submission}
    if not final <= set(shown) or as_of not in days or any(mark.day not in days for mark in shown):
        return None
    return shown


def hash_of(student: int) -> int:
    """Return the 16 bits that decide between equal risks."""
    return (student * 0x9E3779B97F4A7C15 & 0xFFFF_FFFF_FFFF_FFFF) >> 48
