"""Options that `train` and `evaluate` share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faust.cli import option

from app.errors import ConfigError
from app.settings import Settings
from tools.training.inputs import Source

OPTIONS = (
    option(
        "--log", type=Path, help="Log: id,userid,timecreated,eventname[,courseid,relateduserid,…], .csv or .csv.gz."
    ),
    option("--from-kafka", is_flag=True, help="Take the log from the topic RISK_SOURCE_TOPIC, up to its end."),
    option("--outcomes", type=Path, help="What became of them: userid[,courseid],outcome,date[,registered][,start]."),
    option("--cases", type=Path, help="What advisers did, for the report only: the page's cases.csv."),
    option("--cases-from-kafka", is_flag=True, help="Take it from the topic of the cases, up to its end."),
    option("--groups", type=Path, help="Groups for the audit of fairness only: userid,group…"),
    option("--unit", help="Unit of the file's timecreated, ms or s; default: RISK_TIME_UNIT."),
    option("--timezone", help="Time zone of the students' days; default: RISK_TIMEZONE."),
    option("--days", default="14..112", show_default=True, help="Days of the course with a look, every seventh."),
    option("--report", type=Path, help="Directory to write the report to: Markdown, HTML, JSON and plots."),
)


def source_of(settings: Settings, given: Mapping[str, Any]) -> Source:
    """Return where log and outcomes are from."""
    return Source(
        log=given["log"],
        outcomes=given["outcomes"],
        groups=given["groups"],
        from_kafka=given["from_kafka"],
        cases=given["cases"],
        cases_from_kafka=given["cases_from_kafka"],
        unit=given["unit"] or settings.time_unit,
        timezone=given["timezone"] or settings.timezone,
    )


def days_of(text: str) -> range:
    """Return the days of looks. Raises ConfigError unless it is like 14..112."""
    first, _, last = text.partition("..")
    if not (
        first.isascii() and first.isdigit() and last.isascii() and last.isdigit() and int(first) <= int(last) < 1000
    ):
        raise ConfigError(f"--days: {text!r} is not like 14..112, the first and the last day of the course with a look")
    return range(int(first), int(last) + 1, 7)
