"""Predictions as this app writes them (codec/output_rows.py), judged in columns.

Guess, then prove: every byte of a row is looked at, and what is not exactly so written is left to `predictions.parse`.
Such a row needs no parsing: the row in risk is its value as it stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.binary_column import BinaryColumn
from models.rules import Bools, Int64s
from models.varints import Octets

_HEAD, _RISK, _DATE = b'{"USERID":', b',"PREDICTION":', b',"CREATED_DATE":'
#: a double of up to six decimals, not below 0.001 and without a trailing zero, is Java's own text of it
_DOUBLE = rb"0\.(?!000)[0-9]{0,5}[1-9]|0\.0|1\.0"
_DOUBLE_TEXT = re.compile(_DOUBLE)
#: a whole row; groups: its prediction, its created_date
ROW = re.compile(
    b"".join(
        (re.escape(_HEAD), rb"(?:0|-?[1-9][0-9]{0,17})", _RISK, b"(", _DOUBLE, b")", _DATE, rb"(0|[1-9][0-9]{0,17})\}")
    )
)
#: digits of a number, characters of a prediction
_DIGITS, _CHARACTERS = 18, 8
#: no row is shorter: one digit each, and the shortest prediction
_LEAST = len(_HEAD) + 1 + len(_RISK) + 3 + len(_DATE) + 1 + 1
_PLACES = 10 ** np.arange(_DIGITS - 1, -1, -1, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Matched:
    """What some values say."""

    #: which are written so, and have a userid that is not negative [n]; of the others nothing below counts
    matched: Bools
    #: prediction [n]
    risk: npt.NDArray[np.float64]
    #: created_date [n] ms
    date: Int64s


def match(values: BinaryColumn) -> Matched:
    """Read `values` [n]."""
    octets = np.frombuffer(values.buffer, np.uint8)
    matched = values.stop - values.start >= _LEAST
    # what is too short is looked at as if it were the first that is not: its answer does not count
    start, stop = values.start, values.stop
    if not matched.all():
        if not matched.any():
            return Matched(matched, np.zeros(len(matched)), np.zeros(len(matched), np.int64))
        first = int(np.argmax(matched))
        start, stop = np.where(matched, start, start[first]), np.where(matched, stop, stop[first])

    place = start + len(_HEAD)
    matched &= _says(octets, start, _HEAD)
    digits, size = _number(_window(octets, place, _DIGITS + 1))
    matched &= (size > 0) & ((size == 1) | (digits[:, 0] != 0))
    place = place + size
    matched &= _says(octets, place, _RISK)
    place += len(_RISK)
    risk, size = _risk(_window(octets, place, _CHARACTERS + 1))
    matched &= size > 0
    place += size
    matched &= _says(octets, place, _DATE)
    place += len(_DATE)
    date, fits = _last_number(octets, place, stop - 1)
    matched &= fits & (octets[stop - 1] == ord("}"))
    return Matched(matched, risk, date)


def _window(octets: Octets, place: Int64s, width: int) -> Octets:
    """`width` bytes from each place on [n, width]; what would lie behind the buffer is taken from its end."""
    windows = np.lib.stride_tricks.sliding_window_view(octets, width)
    return windows[np.minimum(place, len(windows) - 1)]


def _says(octets: Octets, place: Int64s, text: bytes) -> Bools:
    """Where `text` stands at the place [n]."""
    same: Bools = (_window(octets, place, len(text)) == np.frombuffer(text, np.uint8)).all(axis=1)
    return same


def _number(window: Octets) -> tuple[Octets, Int64s]:
    """The digits of windows [n, w] as values, and how many come before anything else [n]; 0: none, or nothing else."""
    digits = window - np.uint8(ord("0"))  # what is below "0" wraps around, and is no digit either
    return digits, (digits > 9).argmax(axis=1)


def _risk(window: Octets) -> tuple[npt.NDArray[np.float64], Int64s]:
    """The predictions that windows [n, w] begin with, and their characters [n]; 0: it is none. Few are distinct."""
    size = (window == ord(",")).argmax(axis=1)
    text = np.where(np.arange(_CHARACTERS) < size[:, None], window[:, :_CHARACTERS], np.uint8(0))
    distinct, which = np.unique(text.reshape(-1).view("<u8"), return_inverse=True)
    found = [word.tobytes().rstrip(b"\0") for word in distinct]
    good = [_DOUBLE_TEXT.fullmatch(one) is not None for one in found]
    value = np.array([float(one) if fits else 0.0 for one, fits in zip(found, good, strict=True)])
    length = np.array([len(one) if fits else 0 for one, fits in zip(found, good, strict=True)])[which]
    return value[which], np.where(length == size, size, 0)


def _last_number(octets: Octets, place: Int64s, stop: Int64s) -> tuple[Int64s, Bools]:
    """The numbers between places and stops [n], and which are some. More than a number stands before each."""
    size = stop - place
    digits = _window(octets, stop - _DIGITS, _DIGITS) - np.uint8(ord("0"))
    inside = np.arange(_DIGITS) >= _DIGITS - size[:, None]
    fits = (size > 0) & (size <= _DIGITS) & ((digits <= 9) | ~inside).all(axis=1)
    leading = np.take_along_axis(digits, np.clip(_DIGITS - size, 0, _DIGITS - 1)[:, None], axis=1)[:, 0]
    fits &= (size == 1) | (leading != 0)
    return np.where(inside, digits, 0) @ _PLACES, fits
