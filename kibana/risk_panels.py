"""The panels of the upper half: the note, alerts and the risk of each student and course."""

from __future__ import annotations

from lens import PERCENT, Series, count, date_histogram, distinct, last, metric, number, table, terms, xy
from panel import LIMIT, Panel
from views import ALERTS, RISK, TIME_ZONE

#: an alert is open
ALERTED = "ALERT : true"
#: silence is a reason: longer than the median of the course
SILENT = "REASONS.FIGURE : days_silent"

NOTE = f"""\
### Predictions, not facts

The *risk* is a model's estimate that a student will withdraw or fail, from visits and submissions in Moodle compared \
with those of the other students of the course. Its bands are LOW, RAISED and HIGH; nobody is HIGH in the first two \
weeks. An *alert* opens when the risk stays HIGH, and closes when it stays low again. In a course that the model was \
not trained on, about one alert in five was wrong. *GONE* is no risk: a student silent for so long may have left, so \
check the enrolment. Whether somebody withdraws formally within a month can hardly be predicted.

Use it to decide **whom to contact first**, never to decide about a student. A score compares days, so it may be a day \
old. **Above {LIMIT}**, a student counts as *in risk*: the highest risk over all courses, which is all that another \
scorer writes.

Panels with their own time range (a small label beside the title) show all students, regardless of the time picker; \
all others follow it. Hours and weekdays are in {TIME_ZONE}. Students appear only by their Moodle user id."""


RISK_PANELS = (
    Panel("note", (0, 0, 48, 12), "How to read this", NOTE),
    Panel(
        "alerts-open",
        (0, 12, 12, 7),
        "Open alerts",
        metric(RISK, {"alerts": count("Open alerts")}, "of a student in a course", ALERTED),
        "Alerts that are open now, however long ago they opened.",
        all_time=True,
    ),
    Panel(
        "alerts-opened",
        (12, 12, 12, 7),
        "Alerts opened, last 7 days",
        metric(ALERTS, {"alerts": count("Alerts opened")}, "in the last 7 days", "ALERT : opened and DAY >= now-7d"),
        "A student whose alert closes and opens again is counted again.",
        all_time=True,
    ),
    Panel(
        "silent-now",
        (24, 12, 12, 7),
        "Silent students",
        metric(
            RISK, {"students": distinct("USERID", "Silent students")}, "longer than the median of the course", SILENT
        ),
        "Students whose silence in a course is a reason of their risk, or who may have left.",
        all_time=True,
    ),
    Panel(
        "gone",
        (36, 12, 12, 7),
        "Check whether still enrolled",
        metric(RISK, {"students": distinct("USERID", "Students")}, "silent for weeks, in the band GONE", "BAND : GONE"),
        "They get no alert: many of them have left.",
        all_time=True,
    ),
    Panel(
        "contact-first",
        (0, 19, 48, 18),
        "Who to contact first",
        table(
            RISK,
            {
                "student": terms("USERID", "Student", 100, by="risk"),
                "course": terms("COURSEID", "Course", 20, by="risk"),
                "risk": number("max", "RISK", "Risk of withdrawing", PERCENT),
                "band": last("BAND", "AS_OF", "Band"),
                "reasons": last("REASONS.TEXT", "AS_OF", "Reasons"),
                "since": last("SINCE.day", "AS_OF", "Alert since"),
                "as-of": last("AS_OF.day", "AS_OF", "As of"),
            },
            by="risk",
            query=ALERTED,
            whole=True,
        ),
        "Students with an open alert, highest risk first, at most 100.",
        all_time=True,
    ),
    Panel(
        "alerts-per-week",
        (0, 37, 24, 14),
        "Alerts opened and closed, per week",
        xy(
            {
                "opened": Series(
                    "bar", ALERTS, date_histogram("1w", "DAY", "Week"), count("Opened (bars)", "ALERT : opened")
                ),
                "closed": Series(
                    "line", ALERTS, date_histogram("1w", "DAY", "Week"), count("Closed (line)", "ALERT : closed")
                ),
            },
            x="Week",
            left="Alerts",
        ),
        "A wave of openings follows each deadline; RISK_ALERT_BUDGET limits it.",
    ),
    Panel(
        "risk-per-course",
        (24, 37, 24, 14),
        "Risk per course",
        table(
            RISK,
            {
                "course": terms("COURSEID", "Course", 100, by="students"),
                "students": count("Students"),
                "mean": number("average", "RISK", "Mean risk", PERCENT),
                "raised": count("RAISED", "BAND : RAISED"),
                "high": count("HIGH", "BAND : HIGH"),
                "alerts": count("Open alerts", ALERTED),
                "gone": count("GONE", "BAND : GONE"),
            },
            by="alerts",
        ),
        "Students seen in a course and not forgotten. The course with most open alerts first; the 100 largest courses.",
        all_time=True,
    ),
    Panel(
        "silent-students",
        (0, 51, 48, 14),
        "Silent students",
        table(
            RISK,
            {
                "visit": terms("LAST_VISIT", "Last visit", 100, descending=False),
                "student": terms("USERID", "Student", 100, descending=False),
                "course": terms("COURSEID", "Course", 20, descending=False),
                "band": last("BAND", "AS_OF", "Band"),
                "reasons": last("REASONS.TEXT", "AS_OF", "Reasons as of the day of the score"),
                "as-of": last("AS_OF.day", "AS_OF", "As of"),
            },
            by="visit",
            descending=False,
            query=SILENT,
            whole=True,
        ),
        "Longest silence first. The day of the last visit is right even where the score is old.",
        all_time=True,
    ),
)
