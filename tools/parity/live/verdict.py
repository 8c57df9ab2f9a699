"""Two readings of a topic: how they differ, and whether that counts.

What is compared, by KSQL's contract:

- SESSIONS and AGG as tables: the last value and record timestamp of every key, byte for byte. Headers are
  not compared there: they are those of whatever caused the row that is left.
- With RISK_EMIT=changes, SESSIONS and AGG also as sequences: key, value, timestamp and headers of every
  record. Where the source has one partition there is one order; with more, a student's rows come in an
  order that follows from how the partitions happen to be read: it is told, and does not count.
- PREDICTION is told, and does not count: KSQL does not write it, a scorer does.
- IN_RISK follows from the side's own predictions: it counts where those are the same on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tools.parity.live import sequences, tables
from tools.parity.live.cluster import Reading
from tools.parity.live.content import Key, Table
from tools.parity.live.report import Shown, Topic

#: why a pair of topics is told and does not count
_BY_A_SCORER = "not KSQL's: a scorer writes it"
_OTHER_PREDICTIONS = "its predictions are not the same"


@dataclass(frozen=True, slots=True)
class Side:
    """One side's topic as it was read, and its configuration."""

    reading: Reading
    configs: Mapping[str, str]

    @property
    def table(self) -> Table:
        """The last row of each key."""
        return self.reading.content.table

    @property
    def has_lost(self) -> bool:
        """Whether its first records are gone."""
        return any(self.reading.begins.values())

    @property
    def is_compacted(self) -> bool:
        """Whether older rows of a key may be gone."""
        return "compact" in self.configs.get("cleanup.policy", "").split(",")

    def horizon(self, now_ms: int) -> int:
        """Rows with a timestamp before this may have been deleted by retention [ms]; -1: none has."""
        kept = int(self.configs.get("retention.ms", "-1"))
        deletes = "delete" in self.configs.get("cleanup.policy", "").split(",")
        return now_ms - kept if deletes and kept >= 0 and self.has_lost else -1


@dataclass(frozen=True, slots=True)
class Pair:
    """The same topic of both sides; None: it does not exist."""

    #: without prefix
    name: str
    here: Side | None
    there: Side | None

    @property
    def sides(self) -> list[tuple[str, Side]]:
        """Those that exist, by name."""
        return [(name, side) for name, side in (("here", self.here), ("there", self.there)) if side is not None]

    @property
    def missing(self) -> str:
        """The side without this topic."""
        return {0: "both", 1: "there" if self.here else "here", 2: ""}[len(self.sides)]

    def last_rows(self) -> tuple[Table, Table]:
        """Those of both sides."""
        return (self.here.table if self.here else {}), (self.there.table if self.there else {})

    def compare(self, now_ms: int) -> tables.Compared:
        """Compare the tables. Nothing is found where a side does not exist: that says all."""
        if self.here is None or self.there is None:
            return tables.Compared()
        return tables.compare(*self.last_rows(), self.here.horizon(now_ms), self.there.horizon(now_ms))

    def sequence(self, *, one_order: bool) -> sequences.Compared | None:
        """Compare the sequences; one_order: whether there can be only one order across keys."""
        if self.here is None or self.there is None:
            return None
        single = all(side.reading.partitions == 1 for _, side in self.sides)
        here, there = self.here.reading.content, self.there.reading.content
        return sequences.compare(here.trails, there.trails, whole=one_order and single)


def judge(pairs: Sequence[Pair], found: Sequence[tables.Compared], *, sources: int, changes: bool) -> list[Topic]:
    """What is to say of sessions, totals, predictions and in-risk events, in this order.

    found: how their tables differ; sources: partitions of the source topic, 0: it does not exist;
    changes: whether the app emits every change.
    """
    sessions, agg, prediction, in_risk = (_topic(*one) for one in zip(pairs, found, strict=True))
    result = []
    for topic, pair in ((sessions, pairs[0]), (agg, pairs[1])):
        sequence = pair.sequence(one_order=sources == 1) if changes else None
        result.append(replace(topic, sequence=sequence, sequence_pardon=_pardon(pair, sequence, sources)))
    predictions = pairs[2].sequence(one_order=True)
    same = predictions is not None and predictions.relation in ("same", "behind")
    result.append(replace(prediction, pardon=_BY_A_SCORER))
    sequence = pairs[3].sequence(one_order=True) if same else None
    # a stream without aggregation has no cache: rows that are left out are missing
    why = "" if sequence is None or sequence.relation in ("same", "behind") else _incomplete(pairs[3])
    pardon = "" if same else _OTHER_PREDICTIONS
    result.append(replace(in_risk, pardon=pardon, sequence=sequence, sequence_pardon=why))
    return result


def may_count(pairs: Sequence[Pair], found: Sequence[tables.Compared]) -> int:
    """Keys that differ and may count, without a look at the sequences: what is worth waiting for."""
    same_predictions = not pairs[2].missing and not found[2].differences
    return sum(one.differences for one in (*found[:2], *(found[3:] if same_predictions else ())))


def _topic(pair: Pair, found: tables.Compared) -> Topic:
    strays = [key for _, side in pair.sides for key in side.reading.content.strays()]
    return Topic(
        name=pair.name,
        missing=pair.missing,
        records_here=pair.here.reading.content.records if pair.here else 0,
        records_there=pair.there.reading.content.records if pair.there else 0,
        table=found,
        strays=strays,
    )


def _pardon(pair: Pair, found: sequences.Compared | None, sources: int) -> str:
    """Why a difference of a table's changes does not count."""
    if found is None or found.relation in ("same", "behind"):
        return ""
    gone = _incomplete(pair)
    if gone:
        return gone
    if found.relation == "thin":
        short = pair.here if found.side == "here" else pair.there
        if found.side == "there" or (short is not None and short.is_compacted):
            return "a part of the rows, in order: a cache or compaction"
    if sources != 1:
        return f"the source has {sources or 'no'} partitions: there is no one order"
    return ""


def _incomplete(pair: Pair) -> str:
    """Why the sequences cannot be complete; empty if they may be."""
    for name, side in pair.sides:
        if side.has_lost:
            return f"the first records {name} are gone"
        if side.is_compacted and not all(t.is_whole() for t in side.reading.content.trails.values()):
            return f"the topic {name} has been compacted"
    return ""


def examples(pair: Pair, topic: Topic, show: int) -> Topic:
    """The topic with the first `show` keys of each kind, and their rows."""
    here, there = pair.last_rows()

    def shown(keys: Sequence[Key]) -> list[Shown]:
        return [Shown(key, here.get(key), there.get(key)) for key in keys[:show]]

    found = topic.table
    return replace(
        topic,
        differing=shown(found.differing),
        only_here=shown(found.only_here),
        only_there=shown(found.only_there),
    )
