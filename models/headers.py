"""Record headers: their size in a visit batch, and which of them are carried to the output."""

from __future__ import annotations

from collections.abc import Sequence

from models.chunk import Headers

#: headers of one record above this size are not carried: its rows would not fit a record batch [bytes]
MAX_SIZE = 200_000


def size(headers: Headers) -> int:
    """Size of a record's headers in a visit batch, without their number [bytes]."""
    return sum(8 + 4 * len(name) + len(value or b"") for name, value in headers)


class HeaderFilter:
    """Drops the headers that nobody reads. Mutable: caches which names those are.

    KSQL forwards every header of a visit to the rows that it causes.
    """

    def __init__(self, ignored: Sequence[str] = ()) -> None:
        """ignored: names; one that ends with * stands for all names that begin like it."""
        self._exact = frozenset(name for name in ignored if not name.endswith("*"))
        self._prefixes = tuple(name[:-1] for name in ignored if name.endswith("*"))
        self._carried: dict[str, bool] = {}

    def apply(self, headers: Sequence[Headers]) -> tuple[list[Headers] | None, int]:
        """Return the headers to carry of each record [n], None if no record has any; and how many records have
        headers above MAX_SIZE, which are not carried."""
        kept = [[header for header in one if self._is_carried(header[0])] for one in headers]
        oversized = 0
        for i, one in enumerate(kept):
            if one and size(one) > MAX_SIZE:
                kept[i] = []
                oversized += 1
        return (list(map(tuple, kept)) if any(kept) else None), oversized

    def _is_carried(self, name: str) -> bool:
        carried = self._carried.get(name)
        if carried is None:
            carried = name not in self._exact and not (self._prefixes and name.startswith(self._prefixes))
            if len(self._carried) < 1_000:  # names may be data
                self._carried[name] = carried
        return carried
