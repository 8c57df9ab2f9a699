"""The result of a comparison, and hints on what may explain it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from tools.parity.live.content import Key, Table
from tools.parity.live.lag import Lag
from tools.parity.live.sequences import SequenceComparison
from tools.parity.live.tables import TableComparison

#: value and timestamp [ms] of one row; a tombstone has no value
Row = tuple["bytes | None", int]


@dataclass(frozen=True, slots=True)
class KeyRows:
    """A key and its row on each side, None where it has none."""

    key: Key
    here: Row | None
    there: Row | None


@dataclass(frozen=True, slots=True)
class SequenceRow:
    """A row at or near the first difference of two sequences."""

    #: both: equal on both sides, before the difference; here, there: the differing row of that side, and those after
    side: str
    key: Key
    row: Row
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True)
class TopicComparison:
    """How a topic differs between the sides, and whether that counts."""

    #: without prefix
    name: str
    #: the side without this topic: here, there or both; empty if both have it
    missing_on: str = ""
    #: why no difference of this topic counts; empty if they do
    ignored_because: str = ""
    records_here: int = 0
    records_there: int = 0
    table: TableComparison = field(default_factory=TableComparison)
    #: examples of `table`'s keys, with their rows
    differing: Sequence[KeyRows] = ()
    only_here: Sequence[KeyRows] = ()
    only_there: Sequence[KeyRows] = ()
    #: keys in several partitions of one side
    in_several_partitions: Sequence[Key] = ()
    #: None where sequences are not compared
    sequence: SequenceComparison | None = None
    #: why a difference of the sequences does not count; empty if it does
    sequence_ignored_because: str = ""
    #: the rows around the first difference of the sequences
    sequence_rows: Sequence[SequenceRow] = ()

    @property
    def row_differences(self) -> int:
        """Number of keys whose difference counts."""
        return 0 if self.ignored_because else self.table.differences

    @property
    def sequence_differs(self) -> bool:
        """Whether the sequences differ in a way that counts: being behind does not."""
        return (
            self.sequence is not None
            and not self.ignored_because
            and not self.sequence_ignored_because
            and self.sequence.relation in ("differs", "order", "subset")
        )

    @property
    def differs(self) -> bool:
        """Whether any difference counts."""
        return not self.ignored_because and bool(
            self.missing_on or self.table.differences or self.sequence_differs or self.in_several_partitions
        )


@dataclass(frozen=True, slots=True)
class Report:
    """The whole result: `here` is the app, `there` the side it is compared with."""

    #: topic prefixes
    here: str
    there: str
    topics: Sequence[TopicComparison]
    lag_here: Lag
    lag_there: Lag
    #: why the changes of tables were not compared as sequences; empty if they were
    no_sequences_because: str
    hints: Sequence[str]

    @property
    def equal(self) -> bool:
        """Whether no difference counts."""
        return not any(topic.differs for topic in self.topics)


def count_noun(count: int, noun: str) -> str:
    """Return '1 row', '1,200 rows'."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def caught_up(*lags: Lag) -> bool:
    """Return whether all sides are known to have processed everything."""
    return all(lag.behind == 0 for lag in lags)


def hints(
    topics: Sequence[TopicComparison],
    lag_here: Lag,
    lag_there: Lag,
    *,
    waits: bool,
    larger_totals: tuple[int, int],
    source_partitions: int,
    lost_records: int,
    stamped_by_broker: Sequence[str],
) -> list[str]:
    """Return what may explain the differences, and what the user can do.

    waits: whether --wait was given; larger_totals: result of `count_larger_totals`; lost_records: number of
    records deleted from the beginning of the source topic; stamped_by_broker: the sides with topics whose
    timestamps the broker sets.
    """
    lines = []
    differs = any(topic.differs for topic in topics)
    for side, lag in (("here", lag_here), ("there", lag_there)):
        if lag.behind and differs:
            advice = "wait until it has caught up" if waits else "run again with --wait 60"
            lines.append(
                f"{side} lags {count_noun(lag.behind, 'record')} behind: the differences may be in flight; {advice}"
            )
        elif lag.behind is None and differs:
            lines.append(f"the lag {side} is unknown: the differences may be in flight; run again, with --wait 60")
        lines += [f"group {group} has no members: {side} is not running" for group in lag.empty_groups]
    larger_here, larger_there = larger_totals
    if larger_here and source_partitions > 1 and lag_there.behind == 0:
        lines.append(
            f"{count_noun(larger_here, 'total')} there {_is_are(larger_here)} smaller. KSQL drops part of a backlog "
            f"in several partitions (the source topic has {source_partitions}) as late; the app does not: see "
            "Not like KSQL in docs/guarantees.md"
        )
    if larger_there and lag_here.behind == 0:
        lines.append(
            f"{count_noun(larger_there, 'total')} there {_is_are(larger_there)} larger. KSQL counts some visits twice "
            "when it is killed; the app does not"
        )
    if lost_records and differs:
        lines.append(
            f"the first {count_noun(lost_records, 'record')} of the source topic have been deleted: a side that "
            "started later has not read them"
        )
    only_time = sum(topic.table.only_time for topic in topics if not topic.ignored_because)
    if only_time:
        where = " and ".join(stamped_by_broker)
        why = f"; the broker sets the timestamps {where} (message.timestamp.type)" if where else ""
        verb = "differs" if only_time == 1 else "differ"
        lines.append(f"{count_noun(only_time, 'row')} {verb} only in the record's timestamp{why}")
    if any(t.sequence and t.sequence.relation == "subset" and t.sequence.side == "there" for t in topics):
        lines.append("to compare every change, run KSQL with ksql.streams.cache.max.bytes.buffering=0")
    return lines


def count_larger_totals(here: Table, there: Table, keys: Sequence[Key]) -> tuple[int, int]:
    """Return for how many of the roll-up's `keys` ACTIVITIES is larger here, and for how many it is larger there."""
    totals = [(_activities(here[key][0]), _activities(there[key][0])) for key in keys]
    return sum(a > b for a, b in totals), sum(b > a for a, b in totals)


def _is_are(count: int) -> str:
    return "is" if count == 1 else "are"


def _activities(value: bytes) -> int:
    try:
        activities = json.loads(value)["ACTIVITIES"]
    except (ValueError, KeyError, TypeError):
        return 0  # not a roll-up row: it differs in more than a number
    return activities if isinstance(activities, int) else 0
