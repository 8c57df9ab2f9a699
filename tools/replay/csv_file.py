"""Read a log table from CSV: an export of mdl_logstore_standard_log, or anything with its columns."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.errors import ConfigError
from models.rules import Bools, Int64s
from tools.replay.log_rows import COLUMNS, LogRows

#: how databases write NULL in a CSV
NULLS = frozenset(("", "NULL", r"\N"))
#: milliseconds in one unit of a table's timecreated
UNITS = {"ms": 1, "s": 1000}

_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_INT64 = np.iinfo(np.int64)


class TableError(ConfigError):
    """A table that cannot be replayed; the text names the file, the line and the column."""


def read(path: Path, *, unit: str = "ms") -> tuple[LogRows, list[str]]:
    """The rows of a .csv or .csv.gz file by increasing id, and the names of the columns left out.

    The first line names the columns, in any order and case; comma, semicolon or tab separate them.
    An empty cell, NULL or \\N is a null. `unit` (ms or s) says what the file's timecreated counts.
    Raises TableError, OSError.
    """
    cells, lines, ignored = _cells(path)
    numbers, nulls = {}, {}
    for name in ("id", "userid", "timecreated"):
        numbers[name], nulls[name] = _integers(path, name, cells[name], lines)
    nulls["eventname"] = np.array([cell in NULLS for cell in cells["eventname"]], np.bool_)
    if nulls["id"].any():
        raise _bad(path, lines[int(nulls["id"].argmax())], "id", "is empty: it is the table's key")
    at = numbers["timecreated"]
    huge = np.abs(at) > _INT64.max // UNITS[unit]
    if huge.any():
        first = int(huge.argmax())
        raise _bad(path, lines[first], "timecreated", f"{at[first]} s does not fit 64 bits in ms")
    names = sorted(set(cells["eventname"]))
    index = {name: i for i, name in enumerate(names)}
    rows = LogRows(
        id=numbers["id"],
        event=np.array([index[name] for name in cells["eventname"]], np.int64),
        names=tuple(names),
        userid=numbers["userid"],
        at=at * UNITS[unit],
        nulls={name: nulls[name] for name in COLUMNS if nulls[name].any()},
    )
    order = np.argsort(rows.id, kind="stable")
    twice = np.flatnonzero(np.diff(rows.id[order]) == 0)
    if len(twice):
        second = int(order[twice[0] + 1])
        raise _bad(path, lines[second], "id", f"{rows.id[second]} stands in the table twice")
    return rows.take(order), ignored


def looks_like_seconds(rows: LogRows) -> bool:
    """Whether times read as ms are Unix seconds: nothing a Moodle logs is from before March 1973."""
    return bool(len(rows)) and 0 < int(rows.at.max()) < 100_000_000_000


def _bad(path: Path, line: int, column: str, what: str) -> TableError:
    return TableError(f"{path.name}, line {line}, column {column}: {what}")


def _text(path: Path) -> str:
    """The file's text; Raises TableError where it is not UTF-8 or not whole."""
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise TableError(f"{path.name}, line {line}: not UTF-8 ({error.reason})") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise TableError(f"{path.name}: not a whole gzip file ({error})") from error


def _cells(path: Path) -> tuple[dict[str, Sequence[str]], Sequence[int], list[str]]:
    """The log's columns as text, the line each row ends on, and the names of other columns."""
    text = _text(path)
    head = text.partition("\n")[0]
    mark = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        picked = [_place(path, header, name) for name in COLUMNS]
        rows, lines = [], []
        for row in reader:
            if not row:
                continue  # a blank line, as at the end of many exports
            if len(row) != len(header):
                raise TableError(f"{path.name}, line {reader.line_num}: {len(row)} cells, not {len(header)}")
            rows.append([row[i] for i in picked])
            lines.append(reader.line_num)
    except csv.Error as error:
        raise TableError(f"{path.name}, line {reader.line_num}: {error}") from error
    columns: Sequence[Sequence[str]] = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    ignored = [name for i, name in enumerate(header) if i not in picked]
    return dict(zip(COLUMNS, columns, strict=True)), lines, ignored


def _place(path: Path, header: Sequence[str], name: str) -> int:
    """Where the column `name` stands."""
    places = [i for i, other in enumerate(header) if other.lower() == name]
    if len(places) != 1:
        found = ", ".join(header) or "nothing"
        what = "two columns are" if places else "no column is"
        raise TableError(f"{path.name}, line 1: {what} called {name}; found {found}")
    return places[0]


def _integers(path: Path, column: str, cells: Sequence[str], lines: Sequence[int]) -> tuple[Int64s, Bools]:
    """Numbers [n] and nulls [n] of a column; a null's number is 0."""
    numbers = np.zeros(len(cells), np.int64)
    null = np.zeros(len(cells), np.bool_)
    for row, cell in enumerate(cells):
        if cell in NULLS:
            null[row] = True
            continue
        value = int(cell) if _INTEGER.fullmatch(cell) else None
        if value is None or not _INT64.min <= value <= _INT64.max:
            raise _bad(path, lines[row], column, f"{cell!r} is not a 64-bit integer")
        numbers[row] = value
    return numbers, null
