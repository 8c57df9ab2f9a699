"""Everything but the log that decides what the topics hold, and the rows themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tools.e2e.risk_oracle.days import Calendar
from tools.e2e.risk_oracle.log import Counting, Key
from tools.e2e.risk_oracle.standing import Assessment, Standing


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything but the log that decides what the topics hold."""

    standing: Standing
    counting: Counting
    calendar: Calendar
    #: most alerts opened per course and week, 0 for any number
    budget: int = 0

    def key_of(self, key: Key) -> bytes:
        """Return the key of the rows of a student in a course."""
        return b"%d|%d" % key if self.counting.per_course else b"%d" % key[0]

    def row(self, key: Key, since: int | None, assessment: Assessment, as_of: int, trigger: str) -> bytes:
        """Return a row of MOODLE_RISK; since: the day the alert was opened, None without one."""
        text = self.calendar.text
        return _json(
            **self._names(key),
            **assessment.columns(),
            ALERT=since is not None,
            SINCE=None if since is None else text(since),
            REASONS=assessment.reasons,
            COHORT_N=assessment.cohort_n,
            VISIT_DAYS=_digits(assessment.figures.visit_ages),
            SUBMISSION_DAYS=_digits(assessment.figures.submission_ages),
            AS_OF=text(as_of),
            TRIGGER=trigger,
            MODEL=self.standing.id,
        )

    def alert_row(self, key: Key, turn: str, assessment: Assessment, day: int, opened: int, why: str) -> bytes:
        """Return a row of MOODLE_RISK_ALERTS."""
        text = self.calendar.text
        return _json(
            **self._names(key),
            ALERT=turn,
            **assessment.columns(),
            REASONS=assessment.reasons,
            DAY=text(day),
            OPENED=text(opened),
            WHY=why,
            MODEL=self.standing.id,
        )

    def _names(self, key: Key) -> dict[str, int | None]:
        return {"USERID": key[0], "COURSEID": key[1] if self.counting.per_course else None}


def _digits(ages: Sequence[int]) -> str:
    return f"{sum(1 << age for age in ages):016x}"


def _json(**columns: Any) -> bytes:
    return json.dumps(columns, separators=(",", ":")).encode()
