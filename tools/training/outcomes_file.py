"""Outcomes, groups and cases of students from CSV files. A bad row is refused, and named by its line."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

import numpy as np

from app.errors import ConfigError
from page.cases.actions import Kind
from page.store.layout import SITE
from tools.training.cases import Cases, cases_of, of_course
from tools.training.outcomes import FAR, OUTCOMES, Outcomes

EPOCH = date(1970, 1, 1).toordinal()
NULL_TEXTS = frozenset(("", "NULL", r"\N"))
_INT64_MAX = (1 << 63) - 1
Cell = TypeVar("Cell")


@dataclass(frozen=True)
class Refused:
    """A row that is not used. No message has a cell's content."""

    line: int
    problem: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.problem}"


@dataclass(frozen=True)
class Groups:
    """Attributes of students, for the audit of fairness only."""

    #: attribute → the group of each student that has one
    attributes: Mapping[str, Mapping[int, str]]
    refused: Sequence[Refused]


class _BadCell(Exception):
    """A cell that cannot be used; the message names the column."""


def read_outcomes(path: Path, *, courses: bool) -> tuple[Outcomes, list[Refused]]:
    """Read `userid[,courseid],outcome,date[,registered][,start]`, in any order, and the rows that were refused.

    courses: False leaves courseid out, because the log has none. outcome is withdrawn, failed or passed; date is the
    last day of the enrolment, empty if the student stayed; registered its first day; start the first day of the course.
    Dates are YYYY-MM-DD. Raises ConfigError if a column is missing, or if no row can be used.
    """
    names, rows = _table(path, required=("userid", "outcome", "date"))
    seen: dict[tuple[int, int], int] = {}
    start: dict[int, int] = {}
    used: list[tuple[int, int, int, int, int]] = []
    refused: list[Refused] = []
    for line, cells in rows:
        try:
            row = dict(zip(names, cells, strict=True))
            student = _cell(row, "userid", _student)
            course = _cell(row, "courseid", _integer) if courses and "courseid" in names else 0
            outcome = _cell(row, "outcome", _outcome)
            last = _cell(row, "date", day_of, empty=FAR)
            registered = _cell(row, "registered", day_of, empty=-FAR)
            begin = _cell(row, "start", day_of, empty=FAR)
            if registered > last:
                raise _BadCell("date is before registered")
            if (student, course) in seen:
                raise _BadCell(f"the same student{' and course' * bool(course)} as in line {seen[student, course]}")
        except _BadCell as error:
            refused.append(Refused(line, str(error)))
            continue
        except ValueError:
            refused.append(Refused(line, f"{len(cells)} cells, not {len(names)}"))
            continue
        seen[student, course] = line
        used.append((student, course, outcome, registered, last))
        if begin < FAR:
            start[course] = min(begin, start.get(course, begin))
    if not used:
        raise ConfigError(f"{path.name}: no row can be used{'; ' + str(refused[0]) if refused else ''}")
    student, course, outcome, registered, last = np.array(used, np.int64).T
    return Outcomes(student, course, outcome, registered, last, start), refused


def read_groups(path: Path) -> Groups:
    """Read `userid,group…`: every column besides userid is an attribute, each value of it a group."""
    names, rows = _table(path, required=("userid",))
    attributes: dict[str, dict[int, str]] = {name: {} for name in names if name != "userid"}
    if not attributes:
        raise ConfigError(f"{path.name}: no column besides userid")
    refused: list[Refused] = []
    for line, cells in rows:
        if len(cells) != len(names):
            refused.append(Refused(line, f"{len(cells)} cells, not {len(names)}"))
            continue
        row = dict(zip(names, cells, strict=True))
        try:
            student = _cell(row, "userid", _student)
        except _BadCell as error:
            refused.append(Refused(line, str(error)))
            continue
        for name, groups in attributes.items():
            if (group := row[name].strip()) not in NULL_TEXTS:
                groups[student] = group
    return Groups(attributes, refused)


def read_cases(path: Path, *, courses: bool) -> tuple[Cases, list[Refused]]:
    """Read the page's export of the cases, `userid,courseid,version,action…`, and the rows that were refused.

    courses: whether the log has courses. Raises ConfigError if a column is missing.
    """
    names, rows = _table(path, required=("userid", "version", "action"))
    used: list[tuple[int, int, int, Kind]] = []
    refused: list[Refused] = []
    for line, cells in rows:
        try:
            row = dict(zip(names, cells, strict=True))
            course = _cell(row, "courseid", _integer, empty=SITE)
            student, version = _cell(row, "userid", _student), _cell(row, "version", _integer)
            used.append((student, of_course(course, courses=courses), version, _cell(row, "action", _kind)))
        except _BadCell as error:
            refused.append(Refused(line, str(error)))
        except ValueError:
            refused.append(Refused(line, f"{len(cells)} cells, not {len(names)}"))
    return cases_of((student, course, kind) for student, course, _, kind in sorted(used)), refused


def _table(path: Path, required: Sequence[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the names of the columns in lower case, and the cells of each line. Raises ConfigError."""
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name}: not UTF-8") from error
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [cell.strip().lower() for cell in next(reader, [])]
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise ConfigError(f"{path.name}, line {reader.line_num}: {error}") from error
    for name in required:
        if name not in names:
            raise ConfigError(f"{path.name}, line 1: no column is named {name}")
    if several := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{path.name}, line 1: several columns are named {several[0]}")
    return names, rows


def _cell(row: Mapping[str, str], column: str, read: Callable[[str], Cell], empty: Cell | None = None) -> Cell:
    """Return the content of a cell; `empty` for an empty one, or a column that is not there. Raises _BadCell."""
    text = row.get(column, "").strip()
    if text in NULL_TEXTS:
        if empty is None:
            raise _BadCell(f"column {column} is empty")
        return empty
    try:
        return read(text)
    except ValueError as error:
        raise _BadCell(f"column {column} is {error}") from None


def _integer(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > _INT64_MAX:
        raise ValueError("not a number")
    return int(text)


def _student(text: str) -> int:
    number = _integer(text)
    if number <= 0:
        raise ValueError("not above 0")
    return number


def _kind(text: str) -> Kind:
    try:
        return Kind(text)
    except ValueError:
        raise ValueError("no action of the page") from None


def _outcome(text: str) -> int:
    if text.lower() not in OUTCOMES:
        raise ValueError(f"none of {', '.join(OUTCOMES)}")
    return OUTCOMES.index(text.lower())


def day_of(text: str) -> int:
    """The day number of an ISO date. Raises ValueError."""
    try:
        return date.fromisoformat(text).toordinal() - EPOCH
    except ValueError:
        raise ValueError("no date like 2013-11-25") from None
