"""Compare two compacted tables: which keys are equal, differ, or exist on one side only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from tools.parity.live.content import Key, Table


@dataclass(frozen=True, slots=True)
class TableComparison:
    """How two tables differ. Keys are sorted."""

    equal: int = 0
    #: keys whose rows differ in value or timestamp
    differing: list[Key] = field(default_factory=list)
    only_here: list[Key] = field(default_factory=list)
    only_there: list[Key] = field(default_factory=list)
    #: number of keys that exist only there, and that retention may have deleted here
    expired_here: int = 0
    #: number of keys that exist only here, and that retention may have deleted there
    expired_there: int = 0
    #: how many of `differing` have the same value
    only_time: int = 0

    @property
    def differences(self) -> int:
        """Number of unequal keys, without those explained by retention."""
        return len(self.differing) + len(self.only_here) + len(self.only_there)


def compare_tables(here: Table, there: Table, horizon_here: int = -1, horizon_there: int = -1) -> TableComparison:
    """Compare by value and timestamp, byte for byte: both are part of KSQL's contract.

    horizon: retention may have deleted that side's rows with an earlier timestamp [ms], -1: none.
    """
    common = here.keys() & there.keys()
    differing = [key for key in common if here[key] != there[key]]
    only_here, expired_there = _split(here, here.keys() - common, horizon_there)
    only_there, expired_here = _split(there, there.keys() - common, horizon_here)
    return TableComparison(
        equal=len(common) - len(differing),
        differing=_sorted(differing),
        only_here=only_here,
        only_there=only_there,
        expired_here=expired_here,
        expired_there=expired_there,
        only_time=sum(here[key][0] == there[key][0] for key in differing),
    )


def recheck(earlier: TableComparison, here: Table, there: Table) -> TableComparison:
    """Compare the keys that differed in `earlier` again, after more has been read.

    Keys that were equal are not compared again: a key in flight may differ at any later time.
    """
    keys = [*earlier.differing, *earlier.only_here, *earlier.only_there]
    now = compare_tables(
        {key: here[key] for key in keys if key in here}, {key: there[key] for key in keys if key in there}
    )
    return TableComparison(
        equal=earlier.equal + len(keys) - now.differences,
        differing=now.differing,
        only_here=now.only_here,
        only_there=now.only_there,
        expired_here=earlier.expired_here,
        expired_there=earlier.expired_there,
        only_time=now.only_time,
    )


def _split(table: Table, keys: Collection[Key], horizon: int) -> tuple[list[Key], int]:
    """Return the keys the other side must have, and the number of those retention may have deleted there."""
    required = [key for key in keys if table[key][1] >= horizon]
    return _sorted(required), len(keys) - len(required)


def _sorted(keys: list[Key]) -> list[Key]:
    """Sort by bytes, a null key first, so that reports are reproducible."""
    return sorted(keys, key=lambda key: (key is not None, key or b""))
