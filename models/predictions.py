"""Predictions: JSON records read and written as KSQL 5.3 does, and which of them are in risk.

    CREATE STREAM moodle_logs_prediction(userid bigint, prediction double, created_date bigint)
      WITH (VALUE_FORMAT='JSON', TIMESTAMP='created_date');
    … AS SELECT * FROM moodle_logs_prediction WHERE prediction > 0.7;

Sources: KsqlJsonDeserializer and SerdeUtils (which JSON values a column accepts), LongColumnTimestampExtractor
(null is time 0), golden cases p38 to p45. Deliberately stricter than KSQL (tests/golden/differences.json): a value is
one JSON object in UTF-8 with nothing after it, numbers fit their column, numbers in text are decimal, a key fits
Elasticsearch's ids.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import numpy as np

from models import own_predictions
from models.binary_column import BinaryColumn
from models.java.doubles import java_double, parse_double
from models.java.longs import LONG_MAX, LONG_MIN, parse_long
from models.java.text import replace_malformed
from models.padded_bytes import pad_column
from models.rules import Int64s

#: a student is in risk if the prediction is above this, not if it is equal
THRESHOLD = 0.7
#: the longest id of a document in Elasticsearch [bytes of UTF-8]; a longer one makes it refuse the whole request
MAX_ID_BYTES = 512
#: stands for a JSON integer that fits no column
_HUGE = object()


@dataclass(frozen=True, slots=True)
class Prediction:
    """A value of MOODLE_LOGS_PREDICTION, as KSQL reads it."""

    userid: int | None
    #: probability that the student withdraws, usually in [0, 1]; any double but NaN
    prediction: float | None
    #: epoch ms
    created_date: int | None

    @property
    def timestamp(self) -> int:
        """The record's timestamp, epoch ms: KSQL uses 0 for a prediction without a date."""
        return self.created_date or 0

    @property
    def in_risk(self) -> bool:
        """Whether the student is in risk; not if the prediction is null."""
        return self.prediction is not None and self.prediction > THRESHOLD

    @property
    def row(self) -> bytes:
        """The record's value as KSQL writes it."""
        userid = "null" if self.userid is None else self.userid
        risk = _json_double(self.prediction)
        date = "null" if self.created_date is None else self.created_date
        return f'{{"USERID":{userid},"PREDICTION":{risk},"CREATED_DATE":{date}}}'.encode()


class InvalidPrediction(ValueError):
    """A value that KSQL skips; `reason` says why in a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Skip:
    """A record without a usable prediction."""

    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class InRisk:
    """The records of MOODLE_LOGS_PREDICTION_IN_RISK made from some predictions; the others are not in risk, or null."""

    #: index of the prediction that each comes from [k]
    index: Sequence[int]
    #: key, value (None: a tombstone) and time of each [k], epoch ms
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    at: Sequence[int]
    skips: Sequence[Skip]


def with_tombstones(result: InRisk, tombstones: Sequence[tuple[int, bytes | None, int]]) -> InRisk:
    """The records with those of `tombstones` in their places: index of the prediction, its key, time [epoch ms]."""
    rows: list[tuple[int, bytes | None, bytes | None, int]]
    rows = [(i, text, None, at) for i, key, at in tombstones if is_id(text := text_key(key))]
    rows += zip(result.index, result.keys, result.values, result.at, strict=True)
    index, keys, values, ats = zip(*sorted(rows, key=lambda row: row[0]), strict=True) if rows else ((), (), (), ())
    return InRisk(index, keys, values, ats, result.skips)


def in_risk(keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> InRisk:
    """Filter the predictions in `values` [n] that are in risk, in order; `keys` [n] are the records' keys."""
    if isinstance(values, BinaryColumn):
        own = own_predictions.match(values)
        if own.matched.all():
            rows = np.flatnonzero(own.risk > THRESHOLD)
            if isinstance(keys, BinaryColumn) and _are_ids(in_risk_keys := keys.take(rows)):
                return InRisk(rows.tolist(), in_risk_keys, values.take(rows), own.date[rows].tolist(), ())
            text_keys = _text_keys(keys, rows)
            if all(map(is_id, text_keys)):
                selected = [cast(bytes, value) for value in values.take(rows)]
                return InRisk(rows.tolist(), text_keys, selected, own.date[rows].tolist(), ())
    return _in_risk_row_wise(keys, values)


def _in_risk_row_wise(keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> InRisk:
    rows: list[tuple[int, bytes | None, bytes, int]] = []
    skips = []

    def select(i: int, key: bytes | None, value: bytes, at: int) -> None:
        text = text_key(key)
        if is_id(text):
            rows.append((i, text, value, at))
        else:
            skips.append(Skip(i, "key too long"))

    for i, (key, value) in enumerate(zip(keys, values, strict=True)):
        matched = own_predictions.ROW.fullmatch(value) if value is not None else None
        if matched is not None:
            # written by this app: the value is already what KSQL would write
            if value is not None and float(matched[1]) > THRESHOLD:
                select(i, key, value, int(matched[2]))
            continue
        try:
            prediction = parse(value)
        except InvalidPrediction as error:
            skips.append(Skip(i, error.reason))
            continue
        if prediction is not None and prediction.in_risk:
            select(i, key, prediction.row, prediction.timestamp)
    index, text_keys, selected, at = zip(*rows, strict=True) if rows else ((), (), (), ())
    return InRisk(index, text_keys, selected, at, skips)


def parse(value: bytes | None) -> Prediction | None:
    """The prediction in a record's value; None if the value is null, empty, blank or JSON's null.

    Field names match in any case, and the last of several that match counts; other fields are ignored, missing ones
    are null. Raises InvalidPrediction for whatever KSQL skips: a value that is no JSON object, a column that cannot
    be converted, a created_date before 1970.
    """
    if value is None or not value.strip(b" \t\r\n"):
        return None
    try:
        fields: Any = _DECODER.decode(value.decode())
    except UnicodeDecodeError:
        raise InvalidPrediction("not UTF-8") from None
    except ValueError:
        raise InvalidPrediction("not JSON") from None
    except RecursionError:
        raise InvalidPrediction("JSON nested too deep") from None
    if fields is None:
        return None
    if not isinstance(fields, dict):
        raise InvalidPrediction("not a JSON object")
    named = {name.upper(): field for name, field in fields.items()}
    prediction = Prediction(
        _long("userid", named.get("USERID")),
        _double("prediction", named.get("PREDICTION")),
        _long("created_date", named.get("CREATED_DATE")),
    )
    if prediction.timestamp < 0:
        raise InvalidPrediction("created_date is negative")
    return prediction


def text_key(key: bytes | None) -> bytes | None:
    """A key after KSQL has decoded it as UTF-8 and encoded it again."""
    return None if key is None else replace_malformed(key)


def is_id(key: bytes | None) -> bool:
    """Whether a key can be the id of a document: the sinks read it as ISO-8859-1 and send it as UTF-8."""
    if key is None or 2 * len(key) <= MAX_ID_BYTES:
        return True
    return len(key.decode("latin-1").encode()) <= MAX_ID_BYTES


def _are_ids(keys: BinaryColumn) -> bool:
    """Whether all keys are ASCII, which KSQL does not alter, and can be ids of documents; False if one is null."""
    length = keys.stop - keys.start
    if (length < 0).any() or int(length.max(initial=0)) > MAX_ID_BYTES // 2:
        return False
    padded = pad_column(keys)
    ascii_octets = padded.octets < 0x80
    return bool((ascii_octets if padded.used is None else ascii_octets | ~padded.used).all())


def _text_keys(keys: Sequence[bytes | None], rows: Int64s) -> Sequence[bytes | None]:
    """`text_key` of the keys at `rows`."""
    selected = list(keys.take(rows)) if isinstance(keys, BinaryColumn) else [keys[row] for row in rows.tolist()]
    ascii_only = None not in selected and b"".join(cast("list[bytes]", selected)).isascii()
    return selected if ascii_only else [text_key(key) for key in selected]


def _long(name: str, field: object) -> int | None:
    """A BIGINT: from an integer, a float (truncated) or the text of an integer."""
    if field is None:
        return None
    number = None
    if type(field) is int:
        number = field
    elif type(field) is float and math.isfinite(field):
        number = int(field)
    elif type(field) is str:
        number = parse_long(field)
    if number is None or not LONG_MIN <= number <= LONG_MAX:
        raise InvalidPrediction(f"{name} is no BIGINT")
    return number


def _double(name: str, field: object) -> float | None:
    """A DOUBLE: from a number of 64 bits or the text of a number."""
    if field is None or type(field) is float:
        return field
    if type(field) is int and LONG_MIN <= field <= LONG_MAX:
        return float(field)
    if type(field) is str and (number := parse_double(field)) is not None:
        return number
    raise InvalidPrediction(f"{name} is no DOUBLE")


def _json_double(x: float | None) -> str:
    """A DOUBLE in JSON: Java's digits, infinity in quotes."""
    if x is None:
        return "null"
    return java_double(x) if math.isfinite(x) else f'"{java_double(x)}"'


def _integer(digits: str) -> object:
    """A JSON integer; _HUGE if it has more digits than any BIGINT, which matters only in our columns."""
    return int(digits) if len(digits) <= 20 else _HUGE


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_int=_integer, parse_constant=_refuse_constant)
