"""Counters and histograms of a worker: events, rows, rejected records by reason; durations and sizes of flushes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Histogram

from app.ops.rejected_topics import RejectedTopics

#: upper bounds of the histograms' buckets: durations [s], and numbers of rows
DURATIONS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1, 10, 100, 1_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class FlushHistograms:
    """What the flushes of one table's partitions take."""

    #: of each flush, from its begin until memory is up to date, with the wait for other transactions [s]
    duration: Histogram
    #: of each transaction, which several flushes may share: its commit alone [s]
    commit: Histogram
    #: rows written to the output topics
    rows: Histogram


class Metrics:
    """Counters since the start of this process, by name and by (name, reason). Mutable."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._reasons: dict[str, Counter[str]] = {}
        self.rejected_topics = RejectedTopics()
        #: what /metrics shows; app/ops/prometheus.py adds the counters
        self.registry = CollectorRegistry()
        self._duration = self._histogram("flush_duration_seconds", "Duration of a flush.", DURATIONS_S)
        self._commit = self._histogram("commit_duration_seconds", "Duration of a transaction's commit.", DURATIONS_S)
        self._rows = self._histogram("flush_rows", "Rows that a flush writes to the output topics.", ROWS)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"moodle_risk_{name}", text, ["table"], buckets=buckets, registry=self.registry)

    def add(self, name: str, number: int = 1, reason: str | None = None) -> None:
        """Add `number` to the counter `name`, and to its `reason` if given."""
        if not number:
            return
        self._counts[name] += number
        if reason is not None:
            self._reasons.setdefault(name, Counter())[reason] += number

    def flushes(self, table: str) -> FlushHistograms:
        """Return the histograms of one table's flushes."""
        return FlushHistograms(self._duration.labels(table), self._commit.labels(table), self._rows.labels(table))

    def outcome(self, topic: str, used: int, refused: int, last: str = "") -> None:
        """Add what became of a fetch of `topic`, see RejectedTopics.add."""
        self.rejected_topics.add(topic, used, refused, last)

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def reasons(self, name: str) -> dict[str, int]:
        """Return the counts of `name` by reason."""
        return dict(self._reasons.get(name, {}))

    def counters(self) -> dict[str, int]:
        """Return all counters that have been incremented, without their reasons."""
        return dict(self._counts)

    def as_dict(self) -> dict[str, object]:
        """Return all counters; those with reasons as {reason: number}."""
        return {name: self.reasons(name) or number for name, number in sorted(self._counts.items())}
