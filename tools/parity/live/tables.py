"""Two compacted tables against each other: which keys are equal, differ, or are on one side only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from tools.parity.live.content import Key, Table


@dataclass(frozen=True, slots=True)
class Compared:
    """How two tables differ. Keys are sorted."""

    equal: int = 0
    #: keys whose rows differ in value or timestamp
    differing: list[Key] = field(default_factory=list)
    only_here: list[Key] = field(default_factory=list)
    only_there: list[Key] = field(default_factory=list)
    #: keys only on the other side that retention may have taken here, and the other way round
    gone_here: int = 0
    gone_there: int = 0
    #: how many of `differing` have the same value
    only_time: int = 0

    @property
    def differences(self) -> int:
        """Keys that are not equal, without those retention explains."""
        return len(self.differing) + len(self.only_here) + len(self.only_there)


def compare(here: Table, there: Table, horizon_here: int = -1, horizon_there: int = -1) -> Compared:
    """Compare by value and timestamp, byte for byte: both are KSQL's contract.

    horizon: rows with a timestamp before it may have been deleted on that side [ms], -1: none is.
    """
    common = here.keys() & there.keys()
    differing = [key for key in common if here[key] != there[key]]
    only_here, gone_there = _split(here, here.keys() - common, horizon_there)
    only_there, gone_here = _split(there, there.keys() - common, horizon_here)
    return Compared(
        equal=len(common) - len(differing),
        differing=_sorted(differing),
        only_here=only_here,
        only_there=only_there,
        gone_here=gone_here,
        gone_there=gone_there,
        only_time=sum(here[key][0] == there[key][0] for key in differing),
    )


def settle(found: Compared, here: Table, there: Table) -> Compared:
    """`found` without the keys that are equal now that more has been read: they were on their way.

    A key that came to differ since is none of its business: it was equal before.
    """
    keys = [*found.differing, *found.only_here, *found.only_there]
    now = compare({key: here[key] for key in keys if key in here}, {key: there[key] for key in keys if key in there})
    return Compared(
        equal=found.equal + len(keys) - now.differences,
        differing=now.differing,
        only_here=now.only_here,
        only_there=now.only_there,
        gone_here=found.gone_here,
        gone_there=found.gone_there,
        only_time=now.only_time,
    )


def _split(table: Table, keys: Collection[Key], horizon: int) -> tuple[list[Key], int]:
    """The keys that must be on the other side too, and how many may have gone there."""
    must = [key for key in keys if table[key][1] >= horizon]
    return _sorted(must), len(keys) - len(must)


def _sorted(keys: list[Key]) -> list[Key]:
    """By bytes, a key that is none first: a report must not change from run to run."""
    found: list[Key] = [key for key in keys if key is None]
    found += sorted(key for key in keys if key is not None)
    return found
