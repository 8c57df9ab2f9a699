"""Read predictions in columns if they are written exactly as this app writes them (codec/output_rows.py).

Every byte is compared: a value in any other form is left to `predictions.parse`. A value in this form needs no
parsing and is written to the in-risk topic unchanged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from models.binary_column import BinaryColumn
from models.rules import Bools, Float64s, Int64s
from models.varints import Octets

_HEAD, _RISK, _DATE = b'{"USERID":', b',"PREDICTION":', b',"CREATED_DATE":'
#: 0.0, 1.0, and numbers from 0.001 to 1 with up to six decimals and no trailing zero: Java writes them so too
_DOUBLE = rb"0\.(?!000)[0-9]{0,5}[1-9]|0\.0|1\.0"
_DOUBLE_TEXT = re.compile(_DOUBLE)
#: a whole value; groups: prediction, created_date
ROW = re.compile(
    b"".join(
        (re.escape(_HEAD), rb"(?:0|-?[1-9][0-9]{0,17})", _RISK, b"(", _DOUBLE, b")", _DATE, rb"(0|[1-9][0-9]{0,17})\}")
    )
)
#: most digits of an integer, most characters of a prediction
_DIGITS, _CHARACTERS = 18, 8
#: length of the shortest value: one digit each, three characters of prediction [bytes]
_MIN_SIZE = len(_HEAD) + 1 + len(_RISK) + 3 + len(_DATE) + 1 + 1
_POWERS_OF_TEN = 10 ** np.arange(_DIGITS - 1, -1, -1, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Matched:
    """The columns of n values."""

    #: which values have this form and a userid that is not negative [n]; the other columns hold only for these
    matched: Bools
    #: prediction [n]
    risk: Float64s
    #: created_date [n] ms
    date: Int64s


def match(values: BinaryColumn) -> Matched:
    """Read the predictions in `values` [n]."""
    octets = np.frombuffer(values.buffer, np.uint8)
    matched = values.stop - values.start >= _MIN_SIZE
    # in place of a value that is too short, read the first that is long enough: the result is ignored
    start, stop = values.start, values.stop
    if not matched.all():
        if not matched.any():
            return Matched(matched, np.zeros(len(matched)), np.zeros(len(matched), np.int64))
        first = int(np.argmax(matched))
        start, stop = np.where(matched, start, start[first]), np.where(matched, stop, stop[first])

    pos = start + len(_HEAD)
    matched &= _equals(octets, start, _HEAD)
    digits, size = _number(_window(octets, pos, _DIGITS + 1))
    matched &= (size > 0) & ((size == 1) | (digits[:, 0] != 0))
    pos = pos + size
    matched &= _equals(octets, pos, _RISK)
    pos += len(_RISK)
    risk, size = _risk(_window(octets, pos, _CHARACTERS + 1))
    matched &= size > 0
    pos += size
    matched &= _equals(octets, pos, _DATE)
    pos += len(_DATE)
    date, valid = _last_number(octets, pos, stop - 1)
    matched &= valid & (octets[stop - 1] == ord("}"))
    return Matched(matched, risk, date)


def _window(octets: Octets, pos: Int64s, width: int) -> Octets:
    """The `width` bytes at each position [n, width]; the buffer's last ones if a position is too close to its end."""
    windows = np.lib.stride_tricks.sliding_window_view(octets, width)
    return windows[np.minimum(pos, len(windows) - 1)]


def _equals(octets: Octets, pos: Int64s, text: bytes) -> Bools:
    """Whether the bytes at each position [n] equal `text`."""
    same: Bools = (_window(octets, pos, len(text)) == np.frombuffer(text, np.uint8)).all(axis=1)
    return same


def _number(window: Octets) -> tuple[Octets, Int64s]:
    """The digits of windows [n, w], and the number of leading digits [n]; 0: none, or nothing but digits."""
    digits = window - np.uint8(ord("0"))  # bytes below "0" wrap around and are above 9 too
    return digits, (digits > 9).argmax(axis=1)


def _risk(window: Octets) -> tuple[Float64s, Int64s]:
    """The predictions at the start of windows [n, w], and their lengths [n]; 0: no prediction. Few are distinct."""
    size = (window == ord(",")).argmax(axis=1)
    padded = np.where(np.arange(_CHARACTERS) < size[:, None], window[:, :_CHARACTERS], np.uint8(0))
    distinct, index = np.unique(padded.reshape(-1).view("<u8"), return_inverse=True)
    texts = [word.tobytes().rstrip(b"\0") for word in distinct]
    valid = [_DOUBLE_TEXT.fullmatch(text) is not None for text in texts]
    value = np.array([float(text) if ok else 0.0 for text, ok in zip(texts, valid, strict=True)])
    length = np.array([len(text) if ok else 0 for text, ok in zip(texts, valid, strict=True)])[index]
    return value[index], np.where(length == size, size, 0)


def _last_number(octets: Octets, pos: Int64s, stop: Int64s) -> tuple[Int64s, Bools]:
    """The numbers from each `pos` to each `stop` [n], and which are valid. At least _DIGITS bytes precede each stop."""
    size = stop - pos
    digits = _window(octets, stop - _DIGITS, _DIGITS) - np.uint8(ord("0"))
    inside = np.arange(_DIGITS) >= _DIGITS - size[:, None]
    valid = (size > 0) & (size <= _DIGITS) & ((digits <= 9) | ~inside).all(axis=1)
    leading = np.take_along_axis(digits, np.clip(_DIGITS - size, 0, _DIGITS - 1)[:, None], axis=1)[:, 0]
    valid &= (size == 1) | (leading != 0)
    return np.where(inside, digits, 0) @ _POWERS_OF_TEN, valid
