"""Read a log from a CSV file: an export of mdl_logstore_standard_log, or any table with its columns."""

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

#: representations of NULL in CSV exports
NULL_TEXTS = frozenset(("", "NULL", r"\N"))
#: milliseconds per unit of the file's timecreated
UNITS = {"ms": 1, "s": 1000}

_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_INT64 = np.iinfo(np.int64)


class CsvError(ConfigError):
    """The file cannot be replayed; the message names the file, the line and the column."""


def read(path: Path, *, unit: str = "ms") -> tuple[LogRows, list[str]]:
    """Return the rows of a .csv or .csv.gz file by increasing id, and the names of the columns ignored.

    The first line names the columns, in any order and case, separated by comma, semicolon or tab. An
    empty cell, NULL or \\N is a null. `unit` is the unit of the file's timecreated, ms or s.
    Raises CsvError, OSError.
    """
    cells, lines, ignored = _cells(path)
    numbers, nulls = {}, {}
    for name in ("id", "userid", "timecreated"):
        numbers[name], nulls[name] = _integers(path, name, cells[name], lines)
    nulls["eventname"] = np.array([cell in NULL_TEXTS for cell in cells["eventname"]], np.bool_)
    if nulls["id"].any():
        raise _cell_error(path, lines[int(nulls["id"].argmax())], "id", "is empty, but is the primary key")
    at = numbers["timecreated"]
    overflows = np.abs(at) > _INT64.max // UNITS[unit]
    if overflows.any():
        first = int(overflows.argmax())
        raise _cell_error(path, lines[first], "timecreated", f"{at[first]} s does not fit 64 bits in ms")
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
    duplicates = np.flatnonzero(np.diff(rows.id[order]) == 0)
    if len(duplicates):
        second = int(order[duplicates[0] + 1])
        raise _cell_error(path, lines[second], "id", f"{rows.id[second]} occurs twice in the file")
    return rows.take(order), ignored


def looks_like_seconds(rows: LogRows) -> bool:
    """Return whether times read as ms are probably Unix seconds: as ms they would all be before March 1973."""
    return bool(len(rows)) and 0 < int(rows.at.max()) < 100_000_000_000


def _cell_error(path: Path, line: int, column: str, problem: str) -> CsvError:
    return CsvError(f"{path.name}, line {line}, column {column}: {problem}")


def _text(path: Path) -> str:
    """Return the file's text. Raises CsvError if it is not UTF-8, or a truncated gzip file."""
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise CsvError(f"{path.name}, line {line}: not UTF-8 ({error.reason})") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CsvError(f"{path.name}: not a complete gzip file ({error})") from error


def _cells(path: Path) -> tuple[dict[str, Sequence[str]], Sequence[int], list[str]]:
    """Return the log's columns as text, the line number of each row's end, and the names of other columns."""
    text = _text(path)
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        positions = [_column_position(path, header, name) for name in COLUMNS]
        rows, lines = [], []
        for row in reader:
            if not row:
                continue  # many exports end with a blank line
            if len(row) != len(header):
                raise CsvError(f"{path.name}, line {reader.line_num}: {len(row)} cells, not {len(header)}")
            rows.append([row[i] for i in positions])
            lines.append(reader.line_num)
    except csv.Error as error:
        raise CsvError(f"{path.name}, line {reader.line_num}: {error}") from error
    columns: Sequence[Sequence[str]] = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    ignored = [name for i, name in enumerate(header) if i not in positions]
    return dict(zip(COLUMNS, columns, strict=True)), lines, ignored


def _column_position(path: Path, header: Sequence[str], name: str) -> int:
    """Return the index of the column `name`. Raises CsvError if it is missing or ambiguous."""
    positions = [i for i, other in enumerate(header) if other.lower() == name]
    if len(positions) != 1:
        problem = "several columns are" if positions else "no column is"
        raise CsvError(f"{path.name}, line 1: {problem} named {name}; found {', '.join(header) or 'nothing'}")
    return positions[0]


def _integers(path: Path, column: str, cells: Sequence[str], lines: Sequence[int]) -> tuple[Int64s, Bools]:
    """Return the numbers [n] (0 for null) and null flags [n] of a column."""
    numbers = np.zeros(len(cells), np.int64)
    null = np.zeros(len(cells), np.bool_)
    for row, cell in enumerate(cells):
        if cell in NULL_TEXTS:
            null[row] = True
            continue
        value = int(cell) if _INTEGER.fullmatch(cell) else None
        if value is None or not _INT64.min <= value <= _INT64.max:
            raise _cell_error(path, lines[row], column, f"{cell!r} is not a 64-bit integer")
        numbers[row] = value
    return numbers, null
