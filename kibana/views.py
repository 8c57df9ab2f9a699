"""The data views: one for every index that a sink of connect/ fills."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from objects import saved

#: where hours and weekdays are counted. Kibana draws times in each reader's own zone, but a field is computed in
#: Elasticsearch, which knows no reader: put the school's zone here ("Europe/Vienna"), and build again
TIME_ZONE = "UTC"

#: fields as a reader meets them
LABELS = {
    "USERID": "Student",
    "ACTIVITIES": "Activities",
    "SESSIONS": "Sessions",
    "DURATION": "Length (seconds)",
    "START_DATE": "Start",
    "END_DATE": "End",
    "CREATED_DATE": "Predicted at",
    "PREDICTION": "Risk of withdrawing",
}


def started(expression: str) -> dict[str, Any]:
    """A keyword made of the start of a session, `at` in the expression; the texts must sort as they are to be shown."""
    at = f"ZonedDateTime at = doc['START_DATE'].value.withZoneSameInstant(ZoneId.of('{TIME_ZONE}'));"
    # a row that somebody else wrote may have none
    source = f"if (doc['START_DATE'].size() > 0) {{ {at} emit({expression}); }}"
    return {"type": "keyword", "script": {"source": source}}


#: 00 … 23
HOUR = "at.format(DateTimeFormatter.ofPattern('HH'))"
#: 1 Monday … 7 Sunday
WEEKDAY = "at.getDayOfWeek().getValue() + ' ' + at.getDayOfWeek().getDisplayName(TextStyle.FULL, Locale.ENGLISH)"


@dataclass(frozen=True)
class View:
    """One data view."""

    id: str
    name: str
    index: str
    fields: tuple[str, ...]
    #: the field that the time picker goes by; "" if the index knows no time
    time: str = ""
    #: name -> type and script of fields that are computed when they are asked for
    runtime: dict[str, Any] = field(default_factory=dict)

    def saved_object(self) -> dict[str, Any]:
        """As Kibana stores it."""
        labels = {name: {"customLabel": LABELS[name]} for name in self.fields}
        percent = {"PREDICTION": {"id": "percent", "params": {"pattern": "0.0%"}}}
        attributes = {
            "title": self.index,
            "name": self.name,
            **({"timeFieldName": self.time} if self.time else {}),
            # a topic without a row yet has no index yet
            "allowNoIndex": True,
            "fields": "[]",
            "fieldAttrs": json.dumps(labels),
            "fieldFormatMap": json.dumps(percent if "PREDICTION" in self.fields else {}),
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
    runtime={"START_HOUR": started(HOUR), "START_WEEKDAY": started(WEEKDAY)},
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
VIEWS = (SESSIONS, TOTALS, LATEST, HISTORY, IN_RISK)
