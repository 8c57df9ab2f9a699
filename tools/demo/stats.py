"""The demo's statistics: the latest content of the output topics, and the known outcomes of the students."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from models.predictions import THRESHOLD


@dataclass(frozen=True, slots=True)
class Risk:
    """A row of MOODLE_RISK."""

    student: int
    course: int | None
    risk: float | None
    band: str
    #: the day on which the open alert opened, None without one
    since: str | None
    #: the reasons in words, the weightiest first
    reasons: tuple[str, ...]

    @property
    def place(self) -> tuple[bool, float, str, int]:
        """Sorts rows: open alerts before the rest, the highest risk first, then the alert open for longest."""
        return self.since is None, -1.0 if self.risk is None else -self.risk, self.since or "", self.student


@dataclass
class Stats:
    """The latest totals and risk of every student. Mutable: rows are added as they are read."""

    #: student → whether the enrolment ended in Withdrawn or Fail, from OULAD
    lost: Mapping[int, bool]
    sessions: dict[int, int] = field(default_factory=dict)
    activities: dict[int, int] = field(default_factory=dict)
    #: student → the latest prediction
    predicted: dict[int, float] = field(default_factory=dict)
    #: key → the latest risk of a student in a course
    risk: dict[bytes, Risk] = field(default_factory=dict)
    #: number of alerts that have opened, and closed
    opened: int = 0
    closed: int = 0
    #: latest event time of any row [ms]
    now: int = 0

    def add_totals(self, key: bytes | None, value: bytes | None, at: int) -> None:
        """Add a row of MOODLE_LOGS_PREDICTION_AGG."""
        if value is None:
            return
        row = json.loads(value)
        if row["USERID"] is not None:
            self.sessions[row["USERID"]] = row["SESSIONS"]
            self.activities[row["USERID"]] = row["ACTIVITIES"]
        self.now = max(self.now, at)

    def add_prediction(self, key: bytes | None, value: bytes | None, at: int) -> None:
        """Add a row of MOODLE_LOGS_PREDICTION."""
        if value is not None:
            row = json.loads(value)
            self.predicted[row["USERID"]] = row["PREDICTION"]

    def add_risk(self, key: bytes | None, value: bytes | None, at: int) -> None:
        """Add a row of MOODLE_RISK; a tombstone removes one."""
        if key is None:
            return
        if value is None:
            self.risk.pop(key, None)
            return
        row = json.loads(value)
        reasons = tuple(reason["TEXT"] for reason in row["REASONS"])
        self.risk[key] = Risk(row["USERID"], row["COURSEID"], row["RISK"], row["BAND"], row["SINCE"], reasons)

    def add_alert(self, key: bytes | None, value: bytes | None, at: int) -> None:
        """Add a row of MOODLE_RISK_ALERTS."""
        if value is not None:
            opened = json.loads(value)["ALERT"] == "opened"
            self.opened, self.closed = self.opened + opened, self.closed + (not opened)

    @property
    def in_risk(self) -> list[int]:
        """The students whose prediction is above the threshold."""
        return [student for student, risk in self.predicted.items() if risk > THRESHOLD]

    @property
    def students(self) -> set[int]:
        """The students whose risk is followed."""
        return {row.student for row in self.risk.values()}

    @property
    def alerted(self) -> list[int]:
        """The students with an open alert."""
        return list(dict.fromkeys(row.student for row in self.risk.values() if row.since is not None))

    def contact_first(self, number: int) -> list[Risk]:
        """Return at most `number` rows: those with an open alert, then those whose risk is raised or high."""
        rows = [row for row in self.risk.values() if row.since is not None or row.band in ("RAISED", "HIGH")]
        return sorted(rows, key=lambda row: row.place)[:number]

    def share_lost(self, students: Iterable[int]) -> float | None:
        """Return the share of `students` who withdrew or failed, or None if no outcome is known."""
        known = [self.lost[s] for s in students if s in self.lost]
        return sum(known) / len(known) if known else None
