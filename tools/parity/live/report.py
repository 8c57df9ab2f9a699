"""What a comparison found, and what is to be made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from tools.parity.live import sequences, tables
from tools.parity.live.content import Key, Table
from tools.parity.live.lag import Lag

#: value and timestamp [ms] of one row; a tombstone has no value
Row = tuple["bytes | None", int]


@dataclass(frozen=True, slots=True)
class Shown:
    """A key that is not equal, with both rows."""

    key: Key
    here: Row | None
    there: Row | None


@dataclass(frozen=True, slots=True)
class Step:
    """A row near the place where the sequences part."""

    #: both: the same on both sides; here, there: on that one, and the first of them is the one that differs
    who: str
    key: Key
    row: Row
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Topic:
    """One pair of topics."""

    #: without prefix
    name: str
    #: the side that does not have it: here, there or both
    missing: str = ""
    #: why its differences do not count; empty if they do
    pardon: str = ""
    records_here: int = 0
    records_there: int = 0
    table: tables.Compared = field(default_factory=tables.Compared)
    #: the first of each kind
    differing: Sequence[Shown] = ()
    only_here: Sequence[Shown] = ()
    only_there: Sequence[Shown] = ()
    #: keys in several partitions of one side
    strays: Sequence[Key] = ()
    #: None where sequences are not compared
    sequence: sequences.Compared | None = None
    #: why a difference of the sequences does not count; empty if it does
    sequence_pardon: str = ""
    steps: Sequence[Step] = ()

    @property
    def rows_wrong(self) -> int:
        """Keys whose difference counts."""
        return 0 if self.pardon else self.table.differences

    @property
    def sequence_wrong(self) -> bool:
        """Whether the sequences differ in a way that counts: one that has only got further does not."""
        found = self.sequence
        return (
            found is not None
            and not self.pardon
            and not self.sequence_pardon
            and found.relation in ("differs", "order", "thin")
        )

    @property
    def wrong(self) -> bool:
        """Whether anything counts."""
        lacking = bool(self.missing) and not self.pardon
        return lacking or bool(self.rows_wrong or self.sequence_wrong or (self.strays and not self.pardon))


@dataclass(frozen=True, slots=True)
class Report:
    """All of it."""

    #: the prefixes
    here: str
    there: str
    topics: Sequence[Topic]
    lag_here: Lag
    lag_there: Lag
    #: why no sequences of tables' changes were compared; empty if they were
    no_sequences: str
    hints: Sequence[str]

    @property
    def equal(self) -> bool:
        """Whether nothing that counts differs."""
        return not any(topic.wrong for topic in self.topics)


def counted(count: int, noun: str) -> str:
    """'1 row', '1,200 rows'."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def is_quiet(*lags: Lag) -> bool:
    """Whether it is known that all sides have processed everything."""
    return all(lag.behind == 0 for lag in lags)


def hints(
    topics: Sequence[Topic],
    lag_here: Lag,
    lag_there: Lag,
    *,
    waits: bool,
    activities: tuple[int, int],
    sources: int,
    lost: int,
    stamped: Sequence[str],
) -> list[str]:
    """What a person can do, or should know.

    waits: whether the command was told to wait; activities: totals of which here counts more, and there;
    sources: partitions of the source topic; lost: records that are gone from its beginning; stamped: the
    sides whose records the broker stamps.
    """
    lines = []
    wrong = any(topic.wrong for topic in topics)
    for name, lag in (("here", lag_here), ("there", lag_there)):
        if lag.behind and wrong:
            cure = "wait until it has none" if waits else "run again with --wait 60"
            lines.append(f"{name} lags {counted(lag.behind, 'record')} behind: what differs may be on its way; {cure}")
        elif lag.behind is None and wrong:
            lines.append(f"the lag {name} is unknown: what differs may be on its way; run again, with --wait 60")
        lines += [f"nobody is in group {group}: {name} does not run" for group in lag.deserted]
    more_here, more_there = activities
    if more_here and sources > 1 and lag_there.behind == 0:
        lines.append(
            f"there fewer visits are counted in {counted(more_here, 'total')}. KSQL drops part of a backlog that lies "
            f"in several partitions (the source has {sources}) as late; the app does not: README, Not like KSQL"
        )
    if more_there and lag_here.behind == 0:
        lines.append(
            f"there more visits are counted in {counted(more_there, 'total')}. KSQL counts some twice when it is "
            "killed; the app does not"
        )
    if lost and wrong:
        lines.append(
            f"the source topic has lost its first {counted(lost, 'record')}: a side that began to read later lacks them"
        )
    only_time = sum(topic.table.only_time for topic in topics if not topic.pardon)
    if only_time:
        why = f"; the broker stamps the records {' and '.join(stamped)} (message.timestamp.type)" if stamped else ""
        verb = "differs" if only_time == 1 else "differ"
        lines.append(f"{counted(only_time, 'row')} {verb} in nothing but the record's timestamp{why}")
    if any(t.sequence and t.sequence.relation == "thin" and t.sequence.side == "there" for t in topics):
        lines.append("to compare every change, run KSQL with ksql.streams.cache.max.bytes.buffering=0")
    return lines


def activities(here: Table, there: Table, differing: Sequence[Key]) -> tuple[int, int]:
    """In how many of the differing totals here counts more activities, and there."""
    more = [0, 0]
    for key in differing:
        mine, its = (_activities(side[key][0]) for side in (here, there))
        more[0] += mine > its
        more[1] += its > mine
    return more[0], more[1]


def _activities(value: bytes) -> int:
    try:
        found = json.loads(value)["ACTIVITIES"]
    except (ValueError, KeyError, TypeError):
        return 0  # no total: it differs in more than a number
    return found if isinstance(found, int) else 0
