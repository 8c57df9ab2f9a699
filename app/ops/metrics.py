"""Counters of a worker: events, rows, and rejected records by reason."""

from __future__ import annotations

from collections import Counter


class Metrics:
    """Counters since the start of this process, by name and by (name, reason). Mutable."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._reasons: dict[str, Counter[str]] = {}

    def add(self, name: str, number: int = 1, reason: str | None = None) -> None:
        """Add `number` to the counter `name`, and to its `reason` if given."""
        if not number:
            return
        self._counts[name] += number
        if reason is not None:
            self._reasons.setdefault(name, Counter())[reason] += number

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def reasons(self, name: str) -> dict[str, int]:
        """Return the counts of `name` by reason."""
        return dict(self._reasons.get(name, {}))

    def as_dict(self) -> dict[str, object]:
        """Return all counters; those with reasons as {reason: number}."""
        return {name: self.reasons(name) or number for name, number in sorted(self._counts.items())}
