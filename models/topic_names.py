"""The names of all topics that the pipeline and the page read or write; app/topology.py says what each is for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Every topic that the pipeline or the page reads or writes."""

    source: str
    visits: str
    sessions: str
    agg: str
    prediction: str
    in_risk: str
    dead_letters: str
    students_changelog: str
    alerts_changelog: str
    #: the new risk of each student and course; every opening and closing of an alert
    risk: str
    risk_alerts: str
    #: sums of the cohorts, from which each visits partition learns what is usual among all students
    cohorts: str
    #: the page's: what advisers did about a student's risk; who has looked at whom
    cases: str
    page_audit: str

    @classmethod
    def of(cls, *, source: str, prefix: str, app_id: str) -> TopicNames:
        """Name the topics: the outputs begin with `prefix`, internal topics with `app_id`."""
        return cls(
            source=source,
            visits=f"{app_id}-visits",
            sessions=f"{prefix}MOODLE_LOGS_SESSIONS_PER_15MINS",
            agg=f"{prefix}MOODLE_LOGS_PREDICTION_AGG",
            prediction=f"{prefix}MOODLE_LOGS_PREDICTION",
            in_risk=f"{prefix}MOODLE_LOGS_PREDICTION_IN_RISK",
            dead_letters=f"{app_id}-dead-letters",
            students_changelog=f"{app_id}-students-changelog",
            alerts_changelog=f"{app_id}-alerts-changelog",
            risk=f"{prefix}MOODLE_RISK",
            risk_alerts=f"{prefix}MOODLE_RISK_ALERTS",
            cohorts=f"{app_id}-risk-cohorts",
            cases=f"{app_id}-cases",
            page_audit=f"{app_id}-page-audit",
        )

    @property
    def outputs(self) -> tuple[str, str, str, str]:
        """KSQL's four output topics: sessions, totals, predictions, in-risk events."""
        return self.sessions, self.agg, self.prediction, self.in_risk
