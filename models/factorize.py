"""Columns as codes: which distinct values there are, and which of them each row has."""

from __future__ import annotations

import numpy as np

from models.rules import Int64s

#: values that lie this close together are counted instead of sorted, a tenth of the work: span a row, and in all
_SPAN_A_ROW, _SPAN = 8, 1 << 16
#: codes below this are sorted by numpy's radix sort, a tenth of the work again
RADIX = 1 << 16


def factorize(values: Int64s) -> tuple[Int64s, Int64s]:
    """The distinct `values`, ascending [u], and the place of each row's value among them [n]."""
    if not len(values):
        return values, values
    low, high = int(values.min()), int(values.max())
    if high - low >= _SPAN_A_ROW * len(values) + _SPAN:
        found, code = np.unique(values, return_inverse=True)
        return found, code
    place = values - low
    present = np.zeros(high - low + 1, np.bool_)
    present[place] = True
    here = np.flatnonzero(present)
    code_at = np.empty(len(present), np.int64)
    code_at[here] = np.arange(len(here))
    return here + low, code_at[place]


def argsort_codes(code: Int64s, count: int) -> Int64s:
    """The rows [n] by their `code`, 0…`count`-1, those of one code in their order."""
    return np.argsort(code.astype(np.uint16) if count <= RADIX else code, kind="stable")


def argsort_pairs(code: Int64s, value: Int64s) -> Int64s:
    """The rows [n] by (`code`, `value`), equal ones in their order; codes are not negative.

    Both share one 64-bit word where they fit: one sort instead of two, and quick where the rows are sorted already.
    """
    if not len(code):
        return code
    low = int(value.min())
    span = int(value.max()) - low + 1
    if span * (int(code.max()) + 1) < 1 << 63:
        return np.argsort(code * span + (value - low), kind="stable")
    return np.lexsort((value, code))
