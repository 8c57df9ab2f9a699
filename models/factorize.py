"""Columns as codes: the distinct values, and which of them each row has."""

from __future__ import annotations

import numpy as np

from models.grouped import group_starts
from models.rules import Int64s

#: values within a span of _SPAN_PER_ROW * rows + _SPAN are counted instead of sorted: a tenth of the work
_SPAN_PER_ROW, _SPAN = 8, 1 << 16
#: up to this many values are sorted: less work than going through the span
_FEW = 256
#: up to this many codes are sorted by numpy's radix sort: again a tenth of the work
RADIX = 1 << 16


def factorize(values: Int64s) -> tuple[Int64s, Int64s]:
    """The distinct `values`, ascending [u], and the index of each row's value among them [n] (pandas' factorize)."""
    if not len(values):
        return values, values
    if len(values) <= _FEW:
        return _factorize_few(values)
    low, high = int(values.min()), int(values.max())
    if high - low >= _SPAN_PER_ROW * len(values) + _SPAN:
        distinct, code = np.unique(values, return_inverse=True)
        return distinct, code
    shifted = values - low
    present = np.zeros(high - low + 1, np.bool_)
    present[shifted] = True
    distinct = np.flatnonzero(present)
    code_of = np.empty(len(present), np.int64)
    code_of[distinct] = np.arange(len(distinct))
    return distinct + low, code_of[shifted]


def _factorize_few(values: Int64s) -> tuple[Int64s, Int64s]:
    order = values.argsort(kind="stable")
    ordered = values[order]
    first = group_starts(ordered)
    code = np.empty(len(values), np.int64)
    code[order] = first.cumsum() - 1
    return ordered[first], code


def factorize_pairs(major: Int64s, minor: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """The distinct pairs of `major` and `minor` [n], ascending [u] and [u], and the index of each row's pair [n]."""
    majors, major_code = factorize(major)
    minors, minor_code = factorize(minor)
    pairs, index = factorize(major_code * len(minors) + minor_code)
    return majors[pairs // max(len(minors), 1)], minors[pairs % max(len(minors), 1)], index


def argsort_codes(code: Int64s, count: int) -> Int64s:
    """The stable order of the rows [n] by their `code`, 0…`count`-1."""
    return (code.astype(np.uint16) if count <= RADIX else code).argsort(kind="stable")


def argsort_pairs(code: Int64s, value: Int64s) -> Int64s:
    """The stable order of the rows [n] by (`code`, `value`); codes are not negative.

    Code and value share a 64-bit word if they fit: one sort instead of two, and fast if the rows are sorted already.
    """
    if not len(code):
        return code
    low = int(value.min())
    span = int(value.max()) - low + 1
    if span * (int(code.max()) + 1) < 1 << 63:
        return (code * span + (value - low)).argsort(kind="stable")
    return np.lexsort((value, code))
