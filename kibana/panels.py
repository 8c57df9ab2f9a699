"""The panels in reading order: what each shows, from which index, and its position."""

from __future__ import annotations

from lens import (
    PERCENT,
    Series,
    count,
    date_histogram,
    difference,
    distinct,
    heatmap,
    metric,
    number,
    ranges,
    table,
    terms,
    time,
    xy,
)
from panel import IN_RISK, LIMIT, Panel
from risk_panels import RISK_PANELS
from views import HISTORY, LATEST, SESSIONS, TIME_ZONE, TOTALS

from models.predictions import THRESHOLD

PANELS = (
    *RISK_PANELS,
    Panel(
        "in-risk-now",
        (0, 65, 12, 7),
        "Students in risk now",
        metric(LATEST, {"students": count("Students in risk")}, f"latest prediction above {LIMIT}", IN_RISK),
        "Students whose latest prediction is above the threshold, however long ago it was made.",
        all_time=True,
    ),
    Panel(
        "newly-in-risk",
        (12, 65, 12, 7),
        "Newly in risk, last 7 days",
        metric(
            HISTORY,
            difference(
                "students",
                "Students newly in risk",
                "unique_count(USERID) - unique_count(USERID, kql='CREATED_DATE < now-7d')",
                distinct("USERID", ""),
                distinct("USERID", "", "CREATED_DATE < now-7d"),
            ),
            "first warning ever in the last 7 days",
            IN_RISK,
        ),
        "Students with a first warning in the last 7 days. A student who returns to risk is not counted again.",
        all_time=True,
    ),
    Panel(
        "students",
        (24, 65, 12, 7),
        "Students seen so far",
        metric(TOTALS, {"students": count("Students")}, "with at least one session"),
        "All students with activity in the log. A student who has never logged in is in no index and not counted.",
    ),
    Panel(
        "median-session",
        (36, 65, 12, 7),
        "Median session length",
        metric(SESSIONS, {"length": number("median", "DURATION", "Seconds")}, "seconds, from first to last activity"),
        "Half of the sessions are longer. A session ends after 15 minutes without activity, which do not count.",
    ),
    Panel(
        "above-the-limit",
        (0, 72, 24, 16),
        "In risk now, by the latest prediction",
        table(
            LATEST,
            {
                "student": terms("USERID", "Student", 100, by="risk"),
                "risk": number("max", "PREDICTION", f"Risk of withdrawing (in risk above {LIMIT})", PERCENT),
                "seen": time("max", "CREATED_DATE", "Last active"),
            },
            by="risk",
            query=IN_RISK,
        ),
        "Students in risk now, highest risk first, at most 100: the highest risk of a student over all courses.",
        all_time=True,
    ),
    Panel(
        "first-warnings",
        (24, 72, 24, 16),
        "Newly in risk: the latest first warnings",
        table(
            HISTORY,
            {
                "student": terms("USERID", "Student", 100, by="first"),
                "first": time("min", "CREATED_DATE", "First in risk"),
                "last": time("max", "CREATED_DATE", "Last warning"),
                "highest": number("max", "PREDICTION", "Highest risk of withdrawing", PERCENT),
            },
            by="first",
            query=IN_RISK,
        ),
        "When each student first exceeded the threshold: newest first, at most 100.",
        all_time=True,
    ),
    Panel(
        "risk-over-time",
        (0, 88, 48, 13),
        "Risk over time, per week",
        xy(
            {
                "mean": Series(
                    "line",
                    HISTORY,
                    date_histogram("1w", "CREATED_DATE", "Week"),
                    number("average", "PREDICTION", "Mean risk of all predictions (line)", PERCENT),
                ),
                "warned": Series(
                    "bar",
                    HISTORY,
                    date_histogram("1w", "CREATED_DATE", "Week"),
                    distinct("USERID", "Students with a warning (bars)", IN_RISK),
                    axis="right",
                ),
            },
            x="Week",
            left="Mean risk of withdrawing",
            right="Students with a warning",
            limit=(THRESHOLD, f"in risk above {LIMIT}"),
        ),
        "A week includes only the students who were active in it, because only activity triggers predictions.",
    ),
    Panel(
        "per-day",
        (0, 101, 48, 13),
        "Sessions and activities per day",
        xy(
            {
                "sessions": Series(
                    "bar", SESSIONS, date_histogram("1d", "START_DATE", "Day"), count("Sessions (bars)")
                ),
                "activities": Series(
                    "line",
                    SESSIONS,
                    date_histogram("1d", "START_DATE", "Day"),
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
        (0, 114, 24, 13),
        "Session length",
        xy(
            {
                "sessions": Series(
                    "bar",
                    SESSIONS,
                    ranges(
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
        (24, 114, 24, 13),
        "Students by number of sessions",
        xy(
            {
                "students": Series(
                    "bar",
                    TOTALS,
                    ranges(
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
        "The totals have no timestamp, so this covers the whole log.",
    ),
    Panel(
        "when",
        (0, 127, 24, 16),
        f"When students work: sessions by hour and weekday ({TIME_ZONE})",
        heatmap(
            SESSIONS,
            terms("START_HOUR", "Hour of the day", 24, descending=False),
            terms("START_WEEKDAY", "Weekday", 7, descending=False),
            count("Sessions"),
        ),
        "Counts sessions by the hour in which they started.",
    ),
    Panel(
        "fewest-sessions",
        (24, 127, 24, 16),
        "Students by sessions, fewest first",
        table(
            TOTALS,
            {
                "student": terms("USERID", "Student", 100, by="sessions", descending=False),
                "sessions": number("max", "SESSIONS", "Sessions"),
                "activities": number("max", "ACTIVITIES", "Activities"),
                "length": number("max", "DURATION", "Mean session length (seconds)"),
            },
            by="sessions",
            descending=False,
        ),
        "At most 100 students, over the whole log.",
    ),
)
