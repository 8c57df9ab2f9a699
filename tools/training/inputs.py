"""The log and the outcomes to train on or to evaluate: the shipped students, files, or the source topic."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from zoneinfo import ZoneInfo

from app.errors import ConfigError
from app.settings import Settings
from models.counting import CountingRules
from models.days import LocalDays
from tools.replay import csv_file, oulad
from tools.training.cases import Cases, read_topic
from tools.training.counted_log import CountedLog, count_rows
from tools.training.course_runs import CourseRun, cut
from tools.training.outcomes import Outcomes, of_oulad
from tools.training.outcomes_file import Groups, Refused, read_cases, read_groups, read_outcomes
from tools.training.topic_log import read_log


@dataclass(frozen=True)
class Source:
    """Where log and outcomes are from, and how days are counted."""

    #: a CSV file; None: the source topic if `from_kafka`, else the shipped students
    log: Path | None
    outcomes: Path | None
    groups: Path | None
    from_kafka: bool
    #: unit of the file's timecreated, ms or s
    unit: str
    #: IANA name
    timezone: str
    #: what advisers did: an export of the page, or the page's topic itself
    cases: Path | None = None
    cases_from_kafka: bool = False

    @property
    def is_own(self) -> bool:
        """Whether it is another log than that of the shipped students."""
        return self.from_kafka or self.log is not None

    def check(self) -> None:
        """Raise ConfigError if the options do not fit together."""
        if self.log is not None and self.from_kafka:
            raise ConfigError("--log and --from-kafka name two logs: leave one of them out")
        if self.is_own and self.outcomes is None:
            raise ConfigError("--outcomes is missing: what became of the students of the log")
        if self.outcomes is not None and not self.is_own:
            raise ConfigError("--log or --from-kafka is missing: the log of the students of --outcomes")
        if self.cases is not None and self.cases_from_kafka:
            raise ConfigError("--cases and --cases-from-kafka name the cases twice: leave one of them out")
        if (self.cases is not None or self.cases_from_kafka) and not self.is_own:
            raise ConfigError("--log or --from-kafka is missing: the log of the students of the cases")
        if self.unit not in csv_file.UNITS:
            raise ConfigError(f"--unit must be one of {', '.join(csv_file.UNITS)}, not {self.unit!r}")
        try:
            ZoneInfo(self.timezone)
        except (ValueError, OSError, LookupError):
            raise ConfigError(f"--timezone: {self.timezone!r} is no time zone's name in IANA's list") from None


@dataclass(frozen=True)
class Input:
    """Course runs with the figures of what was left out of them."""

    runs: Sequence[CourseRun]
    #: what was left out, and how often
    exclusions: Mapping[str, int]
    groups: Groups
    #: events that are submissions, if there is any
    submission_events: tuple[str, ...]
    timezone: str
    #: what the artefact says of the data
    description: str
    refused: Sequence[Refused] = field(default_factory=tuple)
    #: what advisers did, if that was asked for
    cases: Cases | None = None
    refused_cases: Sequence[Refused] = field(default_factory=tuple)

    @property
    def has_submissions(self) -> bool:
        """Whether any student has handed in anything."""
        return any(run.has_submissions for run in self.runs)

    def named(self, names: Sequence[str]) -> list[CourseRun]:
        """The runs with these courseids or names. Raises ConfigError for one that is not there."""
        chosen = []
        for name in names:
            found = [run for run in self.runs if name in (str(run.course), run.name)]
            if not found:
                known = ", ".join(run.name for run in self.runs)
                raise ConfigError(f"--test {name}: no such course in the log and the outcomes; there are {known}")
            chosen += found
        return chosen


def load(source: Source, settings: Settings) -> Input:
    """Load log and outcomes. Raises ConfigError with one line."""
    source.check()
    if not source.is_own:
        return load_oulad(None, source.groups)
    rules, days = settings.counting, LocalDays(ZoneInfo(source.timezone))
    log = asyncio.run(read_log(settings)) if source.from_kafka else _file(source, rules)
    assert source.outcomes is not None, "checked"
    outcomes, refused = read_outcomes(source.outcomes, courses=log.has_courses)
    groups = read_groups(source.groups) if source.groups else Groups({}, ())
    data = assemble(log, outcomes, days, rules, refused, groups, source.timezone, "own students")
    if source.cases is not None:
        cases, refused = read_cases(source.cases, courses=log.has_courses)
        return replace(data, cases=cases, refused_cases=refused)
    if source.cases_from_kafka:
        return replace(data, cases=asyncio.run(read_topic(settings, courses=log.has_courses)))
    return data


def load_oulad(names: Sequence[str] | None, groups: Path | None = None, seed: int = 1) -> Input:
    """Load the shipped students."""
    rules = CountingRules(submission_events=(oulad.SUBMISSION,))
    log = count_rows(oulad.generate(names, seed=seed), rules)
    read = read_groups(groups) if groups else Groups({}, ())
    description = "Open University Learning Analytics Dataset, CC-BY 4.0, doi:10.1038/sdata.2017.171"
    return assemble(log, of_oulad(names), LocalDays(ZoneInfo("UTC")), rules, [], read, "UTC", description)


def assemble(
    log: CountedLog,
    outcomes: Outcomes,
    days: LocalDays,
    rules: CountingRules,
    refused: Sequence[Refused],
    groups: Groups,
    timezone: str,
    description: str,
) -> Input:
    """Cut the log into course runs, and count what is left out. Raises ConfigError if nothing is left."""
    runs = cut(log, outcomes, days)
    if not runs:
        raise ConfigError(
            "no student of the outcomes has an event that counts in the log: check that both have the same ids of "
            "users and courses"
        )
    exclusions = {
        "rows of outcomes refused": len(refused),
        "rows of groups refused": len(groups.refused),
        **{f"rows of the log not counted: {reason}": n for reason, n in log.not_counted.items()},
        "outcomes of students never seen in the course": sum(run.never_seen for run in runs)
        + sum(int((outcomes.course == c).sum()) for c in set(outcomes.courses) - {run.course for run in runs}),
        "students without an outcome, who are peers only": sum(int((~run.known).sum()) for run in runs),
    }
    return Input(runs, exclusions, groups, rules.submission_events, timezone, description, refused)


def _file(source: Source, rules: CountingRules) -> CountedLog:
    assert source.log is not None, "checked"
    try:
        rows, _ = csv_file.read(source.log, unit=source.unit)
    except OSError as error:
        raise ConfigError(f"{source.log} cannot be read: {error.strerror}") from error
    csv_file.check_unit(source.log, rows, source.unit, option="--unit")
    return count_rows(rows, rules)
