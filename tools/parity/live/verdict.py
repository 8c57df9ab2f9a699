"""Compare the topics of both sides, and decide which differences count.

What is compared follows from KSQL's contract:

- SESSIONS and AGG as tables: the last value and record timestamp of every key, byte for byte. Headers are
  not compared there: they are copied from the record that caused the row.
- With RISK_EMIT=changes, SESSIONS and AGG also as sequences: key, value, timestamp and headers of every
  record. If the source topic has one partition, the order is determined. With more, the order of a student's
  rows depends on how the partitions happen to be read: differences are reported and do not count.
- PREDICTION: differences are reported and do not count, because KSQL does not write it, a scorer does.
- IN_RISK is derived from the side's own predictions: it counts only if those are the same on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tools.parity.live.cluster import TopicReader
from tools.parity.live.content import Key, Table
from tools.parity.live.report import KeyRows, TopicComparison
from tools.parity.live.sequences import SequenceComparison, compare_sequences
from tools.parity.live.tables import TableComparison, compare_tables

_WRITTEN_BY_SCORER = "KSQL does not write it, a scorer does"
_PREDICTIONS_DIFFER = "the predictions differ"


@dataclass(frozen=True, slots=True)
class TopicPair:
    """The same topic on both sides; None if it does not exist."""

    #: without prefix
    name: str
    here: TopicReader | None
    there: TopicReader | None

    @property
    def readers(self) -> list[tuple[str, TopicReader]]:
        """The topics that exist, with the name of their side."""
        sides = (("here", self.here), ("there", self.there))
        return [(side, reader) for side, reader in sides if reader is not None]

    @property
    def missing_on(self) -> str:
        """The side without this topic: here, there, both, or empty if neither."""
        return {0: "both", 1: "there" if self.here else "here", 2: ""}[len(self.readers)]

    def tables(self) -> tuple[Table, Table]:
        """Return the last row of each key here and there."""
        return (self.here.table if self.here else {}), (self.there.table if self.there else {})

    def compare_tables(self, now_ms: int) -> TableComparison:
        """Compare the tables. If a side is missing, only that is reported, not its rows."""
        if self.here is None or self.there is None:
            return TableComparison()
        horizons = self.here.retention_horizon(now_ms), self.there.retention_horizon(now_ms)
        return compare_tables(*self.tables(), *horizons)

    def compare_sequences(self, *, one_order: bool) -> SequenceComparison | None:
        """Compare the sequences; one_order: whether the input determines the order across keys."""
        if self.here is None or self.there is None:
            return None
        one_partition = all(len(reader.positions) == 1 for _, reader in self.readers)
        here, there = self.here.content, self.there.content
        return compare_sequences(here.partitions, there.partitions, total_order=one_order and one_partition)


def assess(
    pairs: Sequence[TopicPair], tables: Sequence[TableComparison], *, source_partitions: int, changes: bool
) -> list[TopicComparison]:
    """Decide which differences of sessions, totals, predictions and in-risk events (in this order) count.

    tables: how their tables differ; source_partitions: 0 if the source topic does not exist;
    changes: whether the app emits every change.
    """
    sessions, agg, prediction, in_risk = (_topic(pair, table) for pair, table in zip(pairs, tables, strict=True))
    result = []
    for topic, pair in ((sessions, pairs[0]), (agg, pairs[1])):
        sequence = pair.compare_sequences(one_order=source_partitions == 1) if changes else None
        ignored_because = _sequence_ignored_because(pair, sequence, source_partitions)
        result.append(replace(topic, sequence=sequence, sequence_ignored_because=ignored_because))
    predictions = pairs[2].compare_sequences(one_order=True)
    same_predictions = predictions is not None and predictions.relation in ("same", "behind")
    result.append(replace(prediction, ignored_because=_WRITTEN_BY_SCORER))
    sequence = pairs[3].compare_sequences(one_order=True) if same_predictions else None
    # a KSQL stream without aggregation has no cache: here a subset means missing rows
    equal_so_far = sequence is None or sequence.relation in ("same", "behind")
    result.append(
        replace(
            in_risk,
            ignored_because="" if same_predictions else _PREDICTIONS_DIFFER,
            sequence=sequence,
            sequence_ignored_because="" if equal_so_far else _incomplete_because(pairs[3]),
        )
    )
    return result


def countable_differences(pairs: Sequence[TopicPair], tables: Sequence[TableComparison]) -> int:
    """Return the number of keys whose difference can count, sequences aside: those worth waiting for."""
    same_predictions = not pairs[2].missing_on and not tables[2].differences
    return sum(table.differences for table in (*tables[:2], *(tables[3:] if same_predictions else ())))


def with_examples(pair: TopicPair, topic: TopicComparison, limit: int) -> TopicComparison:
    """Add the first `limit` keys of each kind of difference, with their rows."""
    here, there = pair.tables()

    def examples(keys: Sequence[Key]) -> list[KeyRows]:
        return [KeyRows(key, here.get(key), there.get(key)) for key in keys[:limit]]

    table = topic.table
    return replace(
        topic,
        differing=examples(table.differing),
        only_here=examples(table.only_here),
        only_there=examples(table.only_there),
    )


def _topic(pair: TopicPair, table: TableComparison) -> TopicComparison:
    return TopicComparison(
        name=pair.name,
        missing_on=pair.missing_on,
        records_here=pair.here.content.records if pair.here else 0,
        records_there=pair.there.content.records if pair.there else 0,
        table=table,
        in_several_partitions=[k for _, reader in pair.readers for k in reader.content.keys_in_several_partitions()],
    )


def _sequence_ignored_because(pair: TopicPair, sequence: SequenceComparison | None, source_partitions: int) -> str:
    """Return why a difference in a table's sequence of changes does not count; empty if it does."""
    if sequence is None or sequence.relation in ("same", "behind"):
        return ""
    if incomplete := _incomplete_because(pair):
        return incomplete
    if sequence.relation == "subset" and (sequence.side == "there" or (pair.here and pair.here.is_compacted)):
        return "rows are left out, in order: by a cache or by compaction"
    if source_partitions != 1:
        return f"the source topic has {source_partitions or 'no'} partitions: the order is not determined"
    return ""


def _incomplete_because(pair: TopicPair) -> str:
    """Return why the sequences cannot be complete; empty if they may be."""
    for side, reader in pair.readers:
        if reader.lost_records:
            return f"the first records {side} have been deleted"
        if reader.is_compacted and not all(f.is_complete() for f in reader.content.partitions.values()):
            return f"the topic {side} has been compacted"
    return ""
