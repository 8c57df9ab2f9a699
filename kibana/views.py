"""The data views, one for each index that a sink of connect/ writes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from objects import saved

#: time zone of hours and weekdays. Kibana shows times in the browser's zone, but runtime fields are computed in
#: Elasticsearch, which does not know it. Set the school's zone ("Europe/Vienna") and rebuild the file.
TIME_ZONE = "UTC"

#: field -> label shown in Kibana
LABELS = {
    "USERID": "Student",
    "ACTIVITIES": "Activities",
    "SESSIONS": "Sessions",
    "DURATION": "Length (seconds)",
    "START_DATE": "Start",
    "END_DATE": "End",
    "CREATED_DATE": "Predicted at",
    "PREDICTION": "Risk of withdrawing",
    "COURSEID": "Course",
    "RISK": "Risk of withdrawing",
    "BAND": "Band",
    "ALERT": "Alert",
    "SINCE": "Alert since",
    "REASONS.CODE": "Kind of reason",
    "REASONS.TEXT": "Reasons",
    "COHORT_N": "Students compared with",
    "AS_OF": "As of",
    "TRIGGER": "Scored by",
    "MODEL": "Model",
    "DAY": "Day",
    "OPENED": "Opened on",
    "WHY": "Why",
}
#: fields that are shares of one
SHARES = ("PREDICTION", "RISK")


def runtime_field(expression: str) -> dict[str, Any]:
    """Return a keyword field computed from `at`, the start of a session. Its values are shown in alphabetical order."""
    at = f"ZonedDateTime at = doc['START_DATE'].value.withZoneSameInstant(ZoneId.of('{TIME_ZONE}'));"
    # a document written by another program may lack the field
    source = f"if (doc['START_DATE'].size() > 0) {{ {at} emit({expression}); }}"
    return {"type": "keyword", "script": {"source": source}}


#: 00 … 23
HOUR = "at.format(DateTimeFormatter.ofPattern('HH'))"
#: 1 Monday … 7 Sunday
WEEKDAY = "at.getDayOfWeek().getValue() + ' ' + at.getDayOfWeek().getDisplayName(TextStyle.FULL, Locale.ENGLISH)"


def last_visit() -> dict[str, Any]:
    """Return a keyword field: the day of a student's last visit to a course, where silence is a reason.

    A row is written at every new day with a visit, so this stays right as the row grows old. The days of silence are
    read from the document, because the numbers of an array are not stored beside their names.
    """
    silent = "reason.FIGURE == 'days_silent' && reason.OWN != null"
    day = "doc['AS_OF'].value.toLocalDate().minusDays(((Number) reason.OWN).longValue()).toString()"
    each = f"for (def reason : params._source.REASONS) {{ if ({silent}) {{ emit({day}); }} }}"
    source = f"if (doc['AS_OF'].size() > 0 && params._source.REASONS != null) {{ {each} }}"
    return {"type": "keyword", "script": {"source": source}}


@dataclass(frozen=True)
class View:
    """A data view."""

    id: str
    name: str
    index: str
    fields: tuple[str, ...]
    #: the field that the time picker filters; "" if the index has no time field
    time: str = ""
    #: name -> type and script of runtime fields
    runtime: dict[str, Any] = field(default_factory=dict)

    def saved_object(self) -> dict[str, Any]:
        """Return the data view in Kibana's format."""
        labels = {name: {"customLabel": LABELS[name]} for name in self.fields}
        percent = {"id": "percent", "params": {"pattern": "0.0%"}}
        attributes = {
            "title": self.index,
            "name": self.name,
            **({"timeFieldName": self.time} if self.time else {}),
            # the sink creates the index with the first row of the topic
            "allowNoIndex": True,
            "fields": "[]",
            "fieldAttrs": json.dumps(labels),
            "fieldFormatMap": json.dumps({name: percent for name in SHARES if name in self.fields}),
            "runtimeFieldMap": json.dumps(self.runtime),
            "sourceFilters": "[]",
            "typeMeta": "{}",
        }
        return saved("index-pattern", self.id, "8.0.0", attributes, [])


SESSIONS = View(
    "moodle-risk-sessions",
    "Sessions",
    "moodle_logs_sessions_per_15mins",
    ("USERID", "ACTIVITIES", "START_DATE", "END_DATE", "DURATION"),
    time="START_DATE",
    runtime={"START_HOUR": runtime_field(HOUR), "START_WEEKDAY": runtime_field(WEEKDAY)},
)
TOTALS = View(
    "moodle-risk-totals",
    "Totals per student",
    "moodle_logs_prediction_agg",
    ("USERID", "ACTIVITIES", "DURATION", "SESSIONS"),
)
_PREDICTION = ("USERID", "PREDICTION", "CREATED_DATE")
LATEST = View(
    "moodle-risk-predictions-latest",
    "Predictions: the latest of each student",
    "moodle_logs_prediction_latest",
    _PREDICTION,
    time="CREATED_DATE",
)
HISTORY = View(
    "moodle-risk-predictions-history",
    "Predictions: all that were made",
    "moodle_logs_prediction",
    _PREDICTION,
    time="CREATED_DATE",
)
IN_RISK = View(
    "moodle-risk-in-risk",
    "Warnings: the last one of each student",
    "moodle_logs_prediction_in_risk",
    _PREDICTION,
    time="CREATED_DATE",
)
RISK = View(
    "moodle-risk-current",
    "Risk: the latest of each student and course",
    "moodle_risk",
    (
        *("USERID", "COURSEID", "RISK", "BAND", "ALERT", "SINCE", "REASONS.CODE", "REASONS.TEXT"),
        *("COHORT_N", "AS_OF", "TRIGGER", "MODEL"),
    ),
    time="AS_OF",
    runtime={"LAST_VISIT": last_visit()},
)
ALERTS = View(
    "moodle-risk-alerts",
    "Alerts: every opening and closing",
    "moodle_risk_alerts",
    ("USERID", "COURSEID", "ALERT", "RISK", "BAND", "REASONS.CODE", "REASONS.TEXT", "DAY", "OPENED", "WHY", "MODEL"),
    time="DAY",
)
VIEWS = (SESSIONS, TOTALS, LATEST, HISTORY, IN_RISK, RISK, ALERTS)
