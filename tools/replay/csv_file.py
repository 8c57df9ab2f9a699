"""Read a log from a CSV file: an export of mdl_logstore_standard_log, or any table with its columns."""

from __future__ import annotations

import codecs
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
from tools.replay.log_rows import ALL_COLUMNS, COLUMNS, OPTIONAL, LogRows, Texts

#: representations of NULL in CSV exports
NULL_TEXTS = frozenset(("", "NULL", r"\N"))
#: milliseconds per unit of the file's timecreated
UNITS = {"ms": 1, "s": 1000}

#: the table's columns in Moodle's order: an export without a header has these, or COLUMNS
TABLE = (
    *("id", "eventname", "component", "action", "target", "objecttable", "objectid", "crud", "edulevel", "contextid"),
    *("contextlevel", "contextinstanceid", "userid", "courseid", "relateduserid", "anonymous", "other", "timecreated"),
    *("origin", "ip", "realuserid"),
)
#: times that no Moodle has [ms]: before the first, and later than milliseconds can be meant
_MARCH_1973_MS, _FAR_MS = 10**11, 10**14
_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_INT64 = np.iinfo(np.int64)


class CsvError(ConfigError):
    """The file cannot be replayed; the message names the file, the line and the column."""


def read(path: Path, *, unit: str = "ms") -> tuple[LogRows, list[str]]:
    """Return the rows of a .csv or .csv.gz file by increasing id, and the names of the columns ignored.

    The first line names the columns, in any order and case, separated by comma, semicolon or tab: COLUMNS, and as many
    of OPTIONAL as there are. Without such a line the file has all columns of the table, or COLUMNS, in order. The file
    is UTF-8, or UTF-16 with a byte order mark; what is in other columns may be anything. An empty cell, NULL or \\N is
    a null. `unit` is the unit of the file's timecreated, ms or s. Raises CsvError, OSError. No message has a cell's
    content: it may be an IP address.
    """
    cells, lines, ignored = _cells(path)
    numbers, nulls, texts = {}, {}, {}
    for name, column in cells.items():
        if name in ("eventname", "origin"):
            nulls[name] = np.array([cell in NULL_TEXTS for cell in column], np.bool_)
            texts[name] = _texts(path, name, column, lines)
        else:
            numbers[name], nulls[name] = _integers(path, name, column, lines)
    if nulls["id"].any():
        raise _cell_error(path, lines[int(nulls["id"].argmax())], "id", "is empty, but is the primary key")
    at = numbers["timecreated"]
    overflows = np.abs(at) > _INT64.max // UNITS[unit]
    if overflows.any():
        first = int(overflows.argmax())
        raise _cell_error(path, lines[first], "timecreated", "does not fit 64 bits in ms")
    rows = LogRows(
        id=numbers["id"],
        event=texts["eventname"].index,
        names=texts["eventname"].names,
        userid=numbers["userid"],
        at=at * UNITS[unit],
        nulls={name: mask for name, mask in nulls.items() if mask.any()},
        more={name: numbers[name] for name in OPTIONAL if name in numbers},
        origin=texts.get("origin"),
    )
    order = np.argsort(rows.id, kind="stable")
    duplicates = np.flatnonzero(np.diff(rows.id[order]) == 0)
    if len(duplicates):
        second = int(order[duplicates[0] + 1])
        raise _cell_error(path, lines[second], "id", "occurs twice in the file")
    return rows.take(order), ignored


def looks_like_seconds(rows: LogRows) -> bool:
    """Return whether times read as ms are probably Unix seconds: as ms they would all be before March 1973."""
    return bool(len(rows)) and 0 < int(rows.at.max()) < _MARCH_1973_MS


def check_unit(path: Path, rows: LogRows, unit: str, option: str = "--file-unit") -> None:
    """Raise CsvError if the rows, read with this unit, are all of another age than any Moodle."""
    known = rows.at[rows.at > 0]
    if unit == "ms" and looks_like_seconds(rows):
        raise CsvError(
            f"{path.name}: in ms every timecreated is before March 1973, so it is probably in seconds: "
            f"set {option} s, or {option} ms if the log is really that old"
        )
    if len(known) and int(known.min()) >= _FAR_MS:
        remedy = f"set {option} ms" if unit == "s" else "convert the file to ms"
        raise CsvError(f"{path.name}: in {unit} every timecreated is after the year 5000: {remedy}")


def _cell_error(path: Path, line: int, column: str, problem: str) -> CsvError:
    return CsvError(f"{path.name}, line {line}, column {column}: {problem}")


def _texts(path: Path, column: str, cells: Sequence[str], lines: Sequence[int]) -> Texts:
    """Return the texts of a column. Raises CsvError for one that is not UTF-8."""
    for row, cell in enumerate(cells):
        if not cell.isascii() and any("\ud800" <= character <= "\udfff" for character in cell):
            raise _cell_error(path, lines[row], column, "is not UTF-8")
    names = sorted(set(cells))
    index = {name: i for i, name in enumerate(names)}
    return Texts(np.array([index[cell] for cell in cells], np.int64), tuple(names))


def _text(path: Path) -> str:
    """Return the file's text, with surrogates for bytes that are not UTF-8. Raises CsvError if it cannot be read."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return raw.decode("utf-16")
        return raw.decode("utf-8-sig", "surrogateescape")
    except UnicodeDecodeError as error:
        raise CsvError(f"{path.name}: not UTF-16 although it begins like it ({error.reason})") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CsvError(f"{path.name}: not a complete gzip file ({error})") from error


def _cells(path: Path) -> tuple[dict[str, Sequence[str]], Sequence[int], list[str]]:
    """Return the log's columns as text, the line number of each row's end, and the names of other columns."""
    text = _text(path)
    limit = csv.field_size_limit(max(1, len(text)))  # Moodle's column `other` may exceed the default, 128 kB
    try:
        return _read(path, text)
    finally:
        csv.field_size_limit(limit)


def _read(path: Path, text: str) -> tuple[dict[str, Sequence[str]], Sequence[int], list[str]]:
    delimiter, names, has_header = _layout(path, text)
    present = [name for name in ALL_COLUMNS if name in names]
    if several := [name for name in present if names.count(name) > 1]:
        raise CsvError(f"{path.name}, line 1: several columns are named {several[0]}")
    positions = [names.index(name) for name in present]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, lines = [], []
    try:
        header = [name.strip() for name in next(reader)] if has_header else names
        for row in reader:
            if not row:
                continue  # many exports end with a blank line
            if len(row) != len(header):
                raise CsvError(f"{path.name}, line {reader.line_num}: {len(row)} cells, not {len(header)}")
            rows.append([row[i] for i in positions])
            lines.append(reader.line_num)
    except csv.Error as error:
        raise CsvError(f"{path.name}, line {reader.line_num}: {error}") from error
    columns: Sequence[Sequence[str]] = list(zip(*rows, strict=True)) or [()] * len(present)
    ignored = [name for i, name in enumerate(header) if i not in positions]
    return dict(zip(present, columns, strict=True)), lines, ignored


def _layout(path: Path, text: str) -> tuple[str, Sequence[str], bool]:
    """Return delimiter, names of the columns, and whether the first line has them. Raises CsvError."""
    head = text.partition("\n")[0]
    delimiters = sorted(",;\t", key=head.count, reverse=True)
    firsts = [_first_row(text, delimiter) for delimiter in delimiters]
    for delimiter, first in zip(delimiters, firsts, strict=True):
        names = [cell.strip().lower() for cell in first]
        if all(names.count(name) == 1 for name in COLUMNS):
            return delimiter, names, True
        for layout in (COLUMNS, TABLE):
            if len(first) == len(layout) and all(
                _INTEGER.fullmatch(first[layout.index(n)]) for n in ("id", "timecreated")
            ):
                return delimiter, layout, False
    raise CsvError(f"{path.name}, line 1: {_missing_columns([cell.strip().lower() for cell in firsts[0]])}")


def _first_row(text: str, delimiter: str) -> list[str]:
    """Return the first row's cells; none if it is not CSV."""
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []


def _missing_columns(names: Sequence[str]) -> str:
    """Explain why `names` are no header. Names other than the log's may be data, and are not shown."""
    found = [name for name in COLUMNS if name in names]
    if not found:
        return (
            f"{len(names)} cells, and none is {', '.join(COLUMNS)}; without a line of names a file needs these "
            f"{len(COLUMNS)} columns, or all {len(TABLE)} of the table, in order"
        )
    if several := [name for name in found if names.count(name) > 1]:
        return f"several columns are named {several[0]}"
    missing = next(name for name in COLUMNS if name not in names)
    return f"no column is named {missing}; found {', '.join(found)}"


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
            raise _cell_error(path, lines[row], column, "is not a 64-bit integer")
        numbers[row] = value
    return numbers, null
