"""The demo's statistics: the latest content of the output topics, and the known outcomes of the students."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from models.predictions import THRESHOLD


@dataclass
class Stats:
    """The latest totals and risk of every student. Mutable: rows are added as they are read."""

    #: student → whether the enrolment ended in Withdrawn or Fail, from OULAD
    lost: Mapping[int, bool]
    sessions: dict[int, int] = field(default_factory=dict)
    activities: dict[int, int] = field(default_factory=dict)
    risk: dict[int, float] = field(default_factory=dict)
    #: student → event time at which the risk last rose above the threshold [ms]
    since: dict[int, int] = field(default_factory=dict)
    #: latest event time of any row [ms]
    now: int = 0

    def add_totals(self, value: bytes, at: int) -> None:
        """Add a row of MOODLE_LOGS_PREDICTION_AGG."""
        row = json.loads(value)
        if row["USERID"] is not None:
            self.sessions[row["USERID"]] = row["SESSIONS"]
            self.activities[row["USERID"]] = row["ACTIVITIES"]
        self.now = max(self.now, at)

    def add_prediction(self, value: bytes, at: int) -> None:
        """Add a row of MOODLE_LOGS_PREDICTION."""
        row = json.loads(value)
        student, risk = row["USERID"], row["PREDICTION"]
        if risk > THRESHOLD and self.risk.get(student, 0.0) <= THRESHOLD:
            self.since[student] = at
        self.risk[student] = risk

    @property
    def in_risk(self) -> list[int]:
        """The students at risk now: the highest risk first, then those at risk for longest."""
        students = [s for s, risk in self.risk.items() if risk > THRESHOLD]
        return sorted(students, key=lambda s: (-self.risk[s], self.since[s], s))

    def share_lost(self, students: list[int]) -> float | None:
        """Return the share of `students` who withdrew or failed, or None if no outcome is known."""
        known = [self.lost[s] for s in students if s in self.lost]
        return sum(known) / len(known) if known else None
