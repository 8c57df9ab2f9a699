"""Predictions: JSON records read and written as KSQL 5.3 does, and which of them are in risk.

    CREATE STREAM moodle_logs_prediction(userid bigint, prediction double, created_date bigint)
      WITH (VALUE_FORMAT='JSON', TIMESTAMP='created_date');
    … AS SELECT * FROM moodle_logs_prediction WHERE prediction > 0.7;

Sources: KsqlJsonDeserializer and SerdeUtils (what a column takes), LongColumnTimestampExtractor (null is
time 0), the golden cases p38 to p45. On purpose stricter (tests/golden/differences.json): one JSON object
in UTF-8 and nothing after it, numbers that fit their column, decimal notation in text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import numpy as np

from models import own_predictions as own_predictions
from models.binary_column import BinaryColumn
from models.java.doubles import java_double
from models.rules import Int64s

#: a prediction above this is in risk; exactly this is not
THRESHOLD = 0.7
_LONG_MIN, _LONG_MAX = -(1 << 63), (1 << 63) - 1
#: Long.parseLong
_LONG = re.compile(r"([+-]?)0*([0-9]{1,19})")
#: Double.parseDouble without its hexadecimal notation, its words and its suffixes
_DOUBLE = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
#: stands for an integer that no column can hold
_HUGE = object()
#: what String.trim() takes away
_TRIMMED = "".join(map(chr, range(0x21)))


@dataclass(frozen=True, slots=True)
class Prediction:
    """One prediction."""

    userid: int | None
    #: how likely the student withdraws, usually in [0, 1]; any double but NaN
    prediction: float | None
    #: epoch ms
    created_date: int | None

    @property
    def timestamp(self) -> int:
        """The record's time, epoch ms: KSQL puts a prediction without a date at 0."""
        return self.created_date or 0

    @property
    def in_risk(self) -> bool:
        """Whether the student is in risk; null is not."""
        return self.prediction is not None and self.prediction > THRESHOLD

    @property
    def row(self) -> bytes:
        """The record's value, as KSQL writes it to its topics."""
        userid = "null" if self.userid is None else self.userid
        risk = _json_double(self.prediction)
        date = "null" if self.created_date is None else self.created_date
        return f'{{"USERID":{userid},"PREDICTION":{risk},"CREATED_DATE":{date}}}'.encode()


class Skipped(ValueError):
    """A value that is no prediction; `reason` says in a word or two why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Skip:
    """A record that could not be used."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class InRisk:
    """The records for MOODLE_LOGS_PREDICTION_IN_RISK that predictions give; the others are not in risk, or null."""

    #: which prediction each comes from [k]
    index: Sequence[int]
    #: key, value and time of each [k], epoch ms
    keys: Sequence[bytes | None]
    values: Sequence[bytes]
    at: Sequence[int]
    skips: Sequence[Skip]


def in_risk(keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> InRisk:
    """The predictions among `values` [n] that are in risk, in order; `keys` [n] are the records' keys."""
    if isinstance(values, BinaryColumn):
        matched_columns = own_predictions.match(values)
        if matched_columns.matched.all():
            rows = np.flatnonzero(matched_columns.risk > THRESHOLD)
            chosen = [cast(bytes, value) for value in values.take(rows)]
            return InRisk(rows.tolist(), _text_keys(keys, rows), chosen, matched_columns.date[rows].tolist(), ())
    return _one_by_one(keys, values)


def _one_by_one(keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> InRisk:
    rows, skips = [], []
    for i, (key, value) in enumerate(zip(keys, values, strict=True)):
        matched = own_predictions.ROW.fullmatch(value) if value is not None else None
        if matched is not None:
            # as this app writes it: the row in risk is the value itself
            if value is not None and float(matched[1]) > THRESHOLD:
                rows.append((i, text_key(key), value, int(matched[2])))
            continue
        try:
            prediction = parse(value)
        except Skipped as why:
            skips.append(Skip(i, why.reason))
            continue
        if prediction is not None and prediction.in_risk:
            rows.append((i, text_key(key), prediction.row, prediction.timestamp))
    number, text, chosen, at = zip(*rows, strict=True) if rows else ((), (), (), ())
    return InRisk(number, text, chosen, at, skips)


def parse(value: bytes | None) -> Prediction | None:
    """The prediction in a record's value; None where it is null, empty, blank or JSON's null.

    Names match in any case, of two that differ in case the last counts; other fields are ignored and
    missing ones are null. Raises Skipped for everything KSQL skips: what is not a JSON object, a column
    that cannot be read, a created_date before 1970.
    """
    if value is None or not value.strip(b" \t\r\n"):
        return None
    try:
        fields = _decode(value.decode())
    except UnicodeDecodeError:
        raise Skipped("not UTF-8") from None
    except ValueError:
        raise Skipped("not JSON") from None
    except RecursionError:
        raise Skipped("JSON nested too deep") from None
    if fields is None:
        return None
    if not isinstance(fields, dict):
        raise Skipped("not a JSON object")
    named = {name.upper(): field for name, field in fields.items()}
    found = Prediction(
        _long("userid", named.get("USERID")),
        _double("prediction", named.get("PREDICTION")),
        _long("created_date", named.get("CREATED_DATE")),
    )
    if found.timestamp < 0:
        raise Skipped("created_date is negative")
    return found


def text_key(key: bytes | None) -> bytes | None:
    """A key after Java has read it as UTF-8 text and written it again.

    What is not UTF-8 becomes U+FFFD, one for each piece that Python's decoder would replace, but one
    for all of an encoded surrogate, where Python has one for each of its bytes.
    """
    if key is None:
        return None
    done, rest = b"", key
    while True:
        try:
            rest.decode()
        except UnicodeDecodeError as error:
            size = error.end - error.start
            if rest[error.start] == 0xED and size == 1 and _continues(rest, error.start + 1):
                size = 3 if _continues(rest, error.start + 2) else 2
            done += rest[: error.start] + "\ufffd".encode()
            rest = rest[error.start + size :]
        else:
            return done + rest


def _text_keys(keys: Sequence[bytes | None], rows: Int64s) -> Sequence[bytes | None]:
    """`text_key` of those at `rows`."""
    chosen = list(keys.take(rows)) if isinstance(keys, BinaryColumn) else [keys[row] for row in rows.tolist()]
    plain = None not in chosen and b"".join(cast("list[bytes]", chosen)).isascii()
    return chosen if plain else [text_key(key) for key in chosen]


def _continues(text: bytes, at: int) -> bool:
    return at < len(text) and text[at] & 0xC0 == 0x80


def _long(name: str, field: object) -> int | None:
    """A BIGINT: a float is truncated, text must be a whole number."""
    if field is None:
        return None
    number = None
    if type(field) is int:
        number = field
    elif type(field) is float and math.isfinite(field):
        number = int(field)
    elif type(field) is str and (digits := _LONG.fullmatch(field)):
        number = int(digits[1] + digits[2])
    if number is None or not _LONG_MIN <= number <= _LONG_MAX:
        raise Skipped(f"{name} is no BIGINT")
    return number


def _double(name: str, field: object) -> float | None:
    """A DOUBLE: from any number of 64 bits, or text of one."""
    if field is None or type(field) is float:
        return field
    if type(field) is int and _LONG_MIN <= field <= _LONG_MAX:
        return float(field)
    if type(field) is str and _DOUBLE.fullmatch(text := field.strip(_TRIMMED)):
        return float(text)
    raise Skipped(f"{name} is no DOUBLE")


def _json_double(x: float | None) -> str:
    """A DOUBLE in JSON: Java's digits, and its words in quotes."""
    if x is None:
        return "null"
    return java_double(x) if math.isfinite(x) else f'"{java_double(x)}"'


def _integer(digits: str) -> object:
    """A JSON integer; one of more digits than any BIGINT is no number to us, and harmless elsewhere."""
    return int(digits) if len(digits) <= 20 else _HUGE


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _decode(text: str) -> Any:
    return _DECODER.decode(text)


_DECODER = json.JSONDecoder(parse_int=_integer, parse_constant=_refuse)
