"""The names of all topics the pipeline reads or writes; app/topology.py says what each is for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Every topic the pipeline reads or writes."""

    source: str
    visits: str
    sessions: str
    agg: str
    prediction: str
    in_risk: str
    dead_letters: str
    students_changelog: str
    alerts_changelog: str

    @classmethod
    def of(cls, *, source: str, prefix: str, app_id: str) -> TopicNames:
        """Name the topics: the four outputs begin with `prefix`, internal topics with `app_id`."""
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
        )

    @property
    def outputs(self) -> tuple[str, str, str, str]:
        """The four output topics: sessions, totals, predictions, in-risk events."""
        return self.sessions, self.agg, self.prediction, self.in_risk
