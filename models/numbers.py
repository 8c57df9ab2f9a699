"""Numbers for distinct values, and pairs of values, in the order in which they come: a lookup in a table for each."""

from __future__ import annotations

import numpy as np

from models.factorize import factorize
from models.rules import Int64s

#: values within such a span are looked up in a table [4 B each], others by bisection
_SPAN = 1 << 20
#: number of columns of the table of pairs in the beginning
_COLUMNS = 64


class Numbers:
    """Numbers distinct values as they come: 0, 1, … Mutable."""

    def __init__(self) -> None:
        #: by number
        self.values = np.empty(0, np.int64)
        #: the number of each value from `_low` on, -1: none
        self._low, self._table = 0, np.empty(0, np.int32)
        #: instead, if they are further apart: all values, ascending, and their numbers
        self._sorted: tuple[Int64s, Int64s] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def of(self, values: Int64s) -> Int64s:
        """The number of each of `values` [n]; new ones get the next numbers, by value."""
        numbers = self.find(values)
        if (is_new := numbers < 0).any():
            new, _ = factorize(values[is_new])
            self.values = np.append(self.values, new)
            self._index()
            numbers = self.find(values)
        return numbers

    def find(self, values: Int64s) -> Int64s:
        """The number of each of `values` [n], -1: none."""
        if not len(self) or not len(values):
            return np.full(len(values), -1, np.int64)
        if self._sorted is None:
            index = values - self._low
            if int(index.min()) >= 0 and int(index.max()) < len(self._table):
                return self._table[index].astype(np.int64)
            is_near = (index >= 0) & (index < len(self._table))
            return np.where(is_near, self._table[np.where(is_near, index, 0)], -1).astype(np.int64)
        known, numbers = self._sorted
        at = np.minimum(np.searchsorted(known, values), len(known) - 1)
        return np.where(known[at] == values, numbers[at], -1)

    def _index(self) -> None:
        low, high = int(self.values.min()), int(self.values.max())
        if high - low < _SPAN:
            self._low, self._table = low, np.full(high - low + 1, -1, np.int32)
            self._table[self.values - low] = np.arange(len(self))
        else:
            order = np.argsort(self.values)
            self._sorted = self.values[order], order


class PairNumbers:
    """Numbers distinct pairs of values as they come: 0, 1, … Mutable."""

    def __init__(self) -> None:
        self._major, self._minor = Numbers(), Numbers()
        #: the number of each pair by the numbers of its values, -1: none
        self._table = np.empty((0, _COLUMNS), np.int32)
        #: the numbers of the values of each pair
        self._majors, self._minors = np.empty(0, np.int64), np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._majors)

    @property
    def values(self) -> tuple[Int64s, Int64s]:
        """The pairs by number."""
        return self._major.values[self._majors], self._minor.values[self._minors]

    def of(self, major: Int64s, minor: Int64s) -> Int64s:
        """The number of each pair [n]; new ones get the next numbers, all of one call by major, then minor value if
        these values are new too."""
        row, column = self._major.of(major), self._minor.of(minor)
        rows, columns = self._table.shape
        if len(self._major) > rows or len(self._minor) > columns:
            table = np.full((max(len(self._major), 2 * rows), max(len(self._minor), 2 * columns)), -1, np.int32)
            table[:rows, :columns] = self._table
            self._table = table
        cell = row * self._table.shape[1] + column
        numbers = self._table.reshape(-1)[cell]
        if (is_new := numbers < 0).any():
            new, _ = factorize(cell[is_new])
            self._table.reshape(-1)[new] = np.arange(len(self), len(self) + len(new))
            self._majors = np.append(self._majors, new // self._table.shape[1])
            self._minors = np.append(self._minors, new % self._table.shape[1])
            numbers = self._table.reshape(-1)[cell]
        result: Int64s = numbers.astype(np.int64)
        return result

    def find(self, major: Int64s, minor: Int64s) -> Int64s:
        """The number of each pair [n], -1: none."""
        row, column = self._major.find(major), self._minor.find(minor)
        if not len(self):
            return row
        known = (row >= 0) & (column >= 0)
        if known.all():
            numbers: Int64s = self._table.reshape(-1)[row * self._table.shape[1] + column].astype(np.int64)
            return numbers
        return np.where(known, self._table[row, column], -1).astype(np.int64)  # -1 is the last one, of no meaning
