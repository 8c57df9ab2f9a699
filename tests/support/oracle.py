"""KSQL's session rules implemented a second time, one event at a time in plain Python: the reference of the tests."""

from __future__ import annotations

from dataclasses import dataclass, field

GAP, GRACE, RETENTION, SEGMENT = 900_000, 85_500_000, 86_400_000, 43_200_000

Session = tuple[int, int, int]  # start, end, count


@dataclass
class Ksql:
    """One partition: all sessions and totals, and stream time."""

    #: the largest event time so far [ms]
    stream_time: int = -1
    sessions: dict[int, list[Session]] = field(default_factory=dict)
    #: student → [activities, duration s, sessions, end of the latest session ms]
    totals: dict[int, list[int]] = field(default_factory=dict)
    late: int = 0
    #: (student, sign, start, end, count) of tombstones (-1) and rows (+1), in KSQL's order with its cache off
    emitted: list[tuple[int, int, int, int, int]] = field(default_factory=list)

    def visit(self, student: int, at: int, before: int | None = None) -> None:
        """Apply one event. before: stream time before it [ms]; None: the maximum of the events so far."""
        seen = self.stream_time if before is None else before
        self.stream_time = max(seen, at)
        oldest = (seen - RETENTION) // SEGMENT
        mine = self.sessions.setdefault(student, [])
        overlapping = sorted(
            (s for s in mine if s[1] // SEGMENT >= oldest and s[1] >= at - GAP and s[0] <= at + GAP),
            key=lambda s: (s[1], s[0]),
        )
        start, end = min([at, *(s[0] for s in overlapping)]), max([at, *(s[1] for s in overlapping)])
        if end < self.stream_time - GRACE:
            self.late += 1
            return
        merged = (start, end, 1 + sum(s[2] for s in overlapping))
        for old in overlapping:
            mine.remove(old)
            self._count(student, -1, old)
            if (start, end) != (at, at):
                self.emitted.append((student, -1, *old))
        mine.append(merged)
        self._count(student, +1, merged)
        self.emitted.append((student, +1, *merged))

    def _count(self, student: int, sign: int, session: Session) -> None:
        start, end, n = session
        t = self.totals.setdefault(student, [0, 0, 0, -1])
        t[0] += sign * n
        t[1] += sign * ((end - start) // 1000)
        t[2] += sign
        t[3] = max(t[3], end)
