"""What the topics say, as values: the input of `apply`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class RiskRow(NamedTuple):
    """A row of MOODLE_RISK; for units see the table `entry`."""

    student: int
    course: int
    risk: int | None
    band: int
    alert: bool
    since: int | None
    reasons: str
    cohort_n: int
    as_of: int
    at: int
    model: str
    visit_days: int
    submission_days: int
    #: whether an event caused it, so that `at` is the time of an event
    is_event: bool


class RiskTombstone(NamedTuple):
    """A tombstone of MOODLE_RISK."""

    student: int
    course: int
    #: stream time [ms] at which the student was forgotten on request; None: silent for too long
    forgotten_at: int | None


class AlertRow(NamedTuple):
    """A row of MOODLE_RISK_ALERTS; for units see the table `alert`."""

    offset: int
    student: int
    course: int
    is_opening: bool
    day: int
    opened: int
    why: str
    risk: int | None
    reasons: str


class AlertTombstone(NamedTuple):
    """A tombstone of MOODLE_RISK_ALERTS: nothing before it counts."""

    offset: int
    student: int
    course: int


class SessionRow(NamedTuple):
    """A row of MOODLE_LOGS_SESSIONS_PER_15MINS; end, start: epoch ms."""

    student: int
    end: int
    start: int
    #: None: the session was extended, merged away or forgotten
    activities: int | None


class DeadLetterRow(NamedTuple):
    """A dead letter: topic and reason of the record it stands for; at: when it was set aside [ms]."""

    topic: str
    reason: str
    detail: str
    at: int


class UnreadableRow(NamedTuple):
    """A record that is no row of its topic."""

    topic: str
    partition: int
    offset: int
    reason: str

    def __str__(self) -> str:
        return f"skipped a record of topic {self.topic} partition {self.partition} offset {self.offset}: {self.reason}"


class CaseRecord(NamedTuple):
    """A record of <app>-cases as it was read; at: its timestamp [ms]."""

    offset: int
    at: int
    key: bytes | None
    value: bytes | None


@dataclass(slots=True)
class Batch:
    """What one round of reading brought: the rows of each topic in its order. Mutable while it is filled."""

    risks: list[RiskRow | RiskTombstone] = field(default_factory=list)
    alerts: list[AlertRow | AlertTombstone] = field(default_factory=list)
    sessions: list[SessionRow] = field(default_factory=list)
    dead_letters: list[DeadLetterRow] = field(default_factory=list)
    cases: list[CaseRecord] = field(default_factory=list)
    unreadable: list[UnreadableRow] = field(default_factory=list)
    #: offset of the next record by topic and partition
    positions: dict[tuple[str, int], int] = field(default_factory=dict)
