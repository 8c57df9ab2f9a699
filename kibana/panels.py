"""The panels, in the order in which they are read: what each shows, of which index, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass

from lens import (
    PERCENT,
    Chart,
    Series,
    axes,
    count,
    difference,
    distinct,
    every,
    figure,
    grid,
    moment,
    number,
    steps,
    table,
    values,
)
from views import HISTORY, LATEST, SESSIONS, TIME_ZONE, TOTALS

from models.predictions import THRESHOLD

#: what makes a prediction a warning, among the latest ones and among all: the rule of the app and of
#: ksql/5_moodle_logs_prediction_in_risk.sql
IN_RISK_NOW = f"PREDICTION > {THRESHOLD:g}"
LIMIT = f"{THRESHOLD:.0%}"

NOTE = f"""\
### Predictions, not facts

The *risk* is a model's estimate that a student will withdraw or fail, made from the activity in Moodle alone. \
**Above {LIMIT}** it counts as *in risk*. In a course that the model had not seen, about one warning in three was \
wrong; in the first two weeks a warning means little, for hardly anybody has done much yet.

Use it to decide **whom to ask first**, never to decide about somebody. A student who goes silent keeps the last score.

Panels with a time range of their own (a small label beside the title) show everybody, whatever the time picker says; \
all others follow it. Hours and weekdays are in {TIME_ZONE}. Students are shown by their number in Moodle only."""


@dataclass(frozen=True)
class Panel:
    """One panel: a chart, or a text."""

    id: str
    #: left edge, top, width, height; the grid has 48 columns
    at: tuple[int, int, int, int]
    title: str
    shows: Chart | str
    #: what a reader finds behind the "i"
    about: str = ""
    #: its own time range: all of it. For what is so now: somebody last seen before the time picker's range still counts
    always: bool = False


PANELS = (
    Panel("note", (0, 0, 48, 8), "How to read this", NOTE),
    Panel(
        "in-risk-now",
        (0, 8, 12, 7),
        "Students in risk now",
        figure(LATEST, {"students": count("Students in risk")}, f"latest prediction above {LIMIT}", IN_RISK_NOW),
        "Students whose latest prediction is above the threshold, however long ago it was made.",
        always=True,
    ),
    Panel(
        "newly-in-risk",
        (12, 8, 12, 7),
        "Newly in risk, last 7 days",
        figure(
            HISTORY,
            difference(
                "students",
                "Students newly in risk",
                "unique_count(USERID) - unique_count(USERID, kql='CREATED_DATE < now-7d')",
                distinct("USERID", ""),
                distinct("USERID", "", "CREATED_DATE < now-7d"),
            ),
            "first warning ever in the last 7 days",
            IN_RISK_NOW,
        ),
        "Students ever warned about, less those who had been before. Who falls back into risk is not new.",
        always=True,
    ),
    Panel(
        "students",
        (24, 8, 12, 7),
        "Students seen so far",
        figure(TOTALS, {"students": count("Students")}, "with at least one session"),
        "Everybody with activity in the log, ever. Who never logged in is in no index, and not here.",
    ),
    Panel(
        "median-session",
        (36, 8, 12, 7),
        "Median session length",
        figure(SESSIONS, {"length": number("median", "DURATION", "Seconds")}, "seconds, from first to last activity"),
        "Half of the sessions are longer. A session ends with 15 minutes of silence, which are not counted.",
    ),
    Panel(
        "contact-first",
        (0, 15, 24, 16),
        "Who to contact first",
        table(
            LATEST,
            {
                "student": values("USERID", "Student", 100, by="risk"),
                "risk": number("max", "PREDICTION", f"Risk of withdrawing (in risk above {LIMIT})", PERCENT),
                "seen": moment("max", "CREATED_DATE", "Last active"),
            },
            by="risk",
            query=IN_RISK_NOW,
        ),
        "Students in risk now, the highest risk first; at most 100. A prediction is made with every activity.",
        always=True,
    ),
    Panel(
        "first-warnings",
        (24, 15, 24, 16),
        "Newly in risk: the latest first warnings",
        table(
            HISTORY,
            {
                "student": values("USERID", "Student", 100, by="first"),
                "first": moment("min", "CREATED_DATE", "First in risk"),
                "last": moment("max", "CREATED_DATE", "Last warning"),
                "highest": number("max", "PREDICTION", "Highest risk of withdrawing", PERCENT),
            },
            by="first",
            query=IN_RISK_NOW,
        ),
        "When each student was above the threshold for the first time ever; at most 100, the newest on top.",
        always=True,
    ),
    Panel(
        "risk-over-time",
        (0, 31, 48, 13),
        "Risk over time, per week",
        axes(
            {
                "mean": Series(
                    "line",
                    HISTORY,
                    every("1w", "CREATED_DATE", "Week"),
                    number("average", "PREDICTION", "Mean risk of all predictions (line)", PERCENT),
                ),
                "warned": Series(
                    "bar",
                    HISTORY,
                    every("1w", "CREATED_DATE", "Week"),
                    distinct("USERID", "Students with a warning (bars)", IN_RISK_NOW),
                    axis="right",
                ),
            },
            x="Week",
            left="Mean risk of withdrawing",
            right="Students with a warning",
            limit=(THRESHOLD, f"in risk above {LIMIT}"),
        ),
        "Only students who were active in a week are in it: a prediction is made when somebody does something.",
    ),
    Panel(
        "per-day",
        (0, 44, 48, 13),
        "Sessions and activities per day",
        axes(
            {
                "sessions": Series("bar", SESSIONS, every("1d", "START_DATE", "Day"), count("Sessions (bars)")),
                "activities": Series(
                    "line",
                    SESSIONS,
                    every("1d", "START_DATE", "Day"),
                    number("sum", "ACTIVITIES", "Activities (line)"),
                    axis="right",
                ),
            },
            x="Day on which the session started",
            left="Sessions",
            right="Activities",
        ),
    ),
    Panel(
        "session-length",
        (0, 57, 24, 13),
        "Session length",
        axes(
            {
                "sessions": Series(
                    "bar",
                    SESSIONS,
                    steps(
                        "DURATION",
                        "Length",
                        (
                            (0, 60, "under 1 min"),
                            (60, 300, "1 to 5 min"),
                            (300, 900, "5 to 15 min"),
                            (900, 1800, "15 to 30 min"),
                            (1800, 3600, "30 to 60 min"),
                            (3600, None, "1 h and more"),
                        ),
                    ),
                    count("Sessions"),
                )
            },
            x="From first to last activity",
            left="Sessions",
        ),
    ),
    Panel(
        "students-by-sessions",
        (24, 57, 24, 13),
        "Students by number of sessions",
        axes(
            {
                "students": Series(
                    "bar",
                    TOTALS,
                    steps(
                        "SESSIONS",
                        "Sessions so far",
                        (
                            (1, 2, "1"),
                            (2, 4, "2 to 3"),
                            (4, 8, "4 to 7"),
                            (8, 16, "8 to 15"),
                            (16, 32, "16 to 31"),
                            (32, 64, "32 to 63"),
                            (64, None, "64 and more"),
                        ),
                    ),
                    count("Students"),
                )
            },
            x="Sessions so far, ever",
            left="Students",
        ),
        "The totals carry no time, so this is over everything that was ever read.",
    ),
    Panel(
        "when",
        (0, 70, 24, 16),
        f"When students work: sessions by hour and weekday ({TIME_ZONE})",
        grid(
            SESSIONS,
            values("START_HOUR", "Hour of the day", 24, descending=False),
            values("START_WEEKDAY", "Weekday", 7, descending=False),
            count("Sessions"),
        ),
        "The hour in which a session started.",
    ),
    Panel(
        "fewest-sessions",
        (24, 70, 24, 16),
        "Students by sessions, fewest first",
        table(
            TOTALS,
            {
                "student": values("USERID", "Student", 100, by="sessions", descending=False),
                "sessions": number("max", "SESSIONS", "Sessions"),
                "activities": number("max", "ACTIVITIES", "Activities"),
                "length": number("max", "DURATION", "Mean session length (seconds)"),
            },
            by="sessions",
            descending=False,
        ),
        "At most 100 students, over everything that was ever read.",
    ),
)
