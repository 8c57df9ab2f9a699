"""Rows of one topic in columns, and the same as Kafka's record batches (message format 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np

from codec.record import NO_HEADERS, Row
from models.chunk import Headers
from models.padded_bytes import PaddedBytes, compress, literal, pad, row_lengths, split, varints
from models.rules import Bools, Int64s

#: up to so many rows are written one by one, which costs less than setting columns up
FEW = 512
#: how much room columns may take, as a multiple of what is in it
SPARSE = 4


@dataclass(frozen=True, slots=True)
class OutputColumns:
    """Some rows that are written together."""

    #: timestamps [n] ms
    at: Int64s
    #: the pieces of keys and values [n]
    key: Sequence[PaddedBytes]
    value: Sequence[PaddedBytes]
    #: which rows have a value, the others are tombstones [n]; None: all
    has_value: Bools | None = None
    #: what every row has
    headers: Headers = ()
    #: what each row has instead [n]
    row_headers: Sequence[Headers] | None = None

    def __len__(self) -> int:
        return len(self.at)

    def __iter__(self) -> Iterator[Row]:
        """The rows one by one."""
        values: Sequence[bytes | None] = split(self.value)
        if self.has_value is not None:
            values = [
                value if present else None for value, present in zip(values, self.has_value.tolist(), strict=True)
            ]
        shared = list(self.headers) or NO_HEADERS
        headers = [shared] * len(self) if self.row_headers is None else self.row_headers
        return iter(list(zip(self.at.tolist(), split(self.key), values, headers, strict=True)))


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Records of one batch, without its head."""

    records: bytes
    count: int
    #: timestamps of the first record and of the latest [ms]
    first: int
    latest: int


#: rows of one target, in columns or one by one
Rows: TypeAlias = "Sequence[Row] | OutputColumns"


def changelog_rows(records: Mapping[bytes, bytes], at: int) -> Rows:
    """Records by their keys as rows of one time, `at` [ms]."""
    return make_rows([at] * len(records), list(records), list(records.values()))


def make_rows(
    at: Sequence[int],
    keys: Sequence[bytes | None],
    values: Sequence[bytes],
    headers: Sequence[Headers] | None = None,
) -> Rows:
    """Times [n] ms, keys [n], values [n] and headers ([n], None: no row has any) as rows; many in columns."""
    n = len(values)
    if n > FEW and None not in keys:
        texts, shared = cast("Sequence[bytes]", keys), headers[0] if headers else NO_HEADERS
        if _even(texts) and _even(values) and (headers is None or headers.count(shared) == n):
            return OutputColumns(np.array(at, np.int64), (pad(texts),), (pad(values),), headers=shared)
    return list(zip(at, keys, values, headers or [NO_HEADERS] * n, strict=True))


def _even(texts: Sequence[bytes]) -> bool:
    """Whether columns for these take little more room than what is in them: one long text is as long in every row."""
    size = list(map(len, texts))
    return max(size) * len(size) <= SPARSE * sum(size)


def batches(table: OutputColumns, most: int) -> Iterator[EncodedBatch]:
    """A table without headers of `each` row as record batches of at most `most` bytes. Raises ValueError for less."""
    shared = _headers(table.headers)
    # numbers around key and value: length, time, place, two sizes; and the attributes
    row = sum(piece.octets.shape[1] for piece in (*table.key, *table.value)) + len(shared) + 5 + 10 + 5 + 5 + 5 + 1
    step = most // row
    if not step:
        raise ValueError(f"a row of {row} bytes does not fit a batch of {most}")
    for low in range(0, len(table), step):
        yield _batch(table, slice(low, low + step), shared)


def _batch(table: OutputColumns, rows: slice, shared: bytes) -> EncodedBatch:
    at = table.at[rows]
    n = len(at)
    key, value = [piece.take(rows) for piece in table.key], [piece.take(rows) for piece in table.value]
    key_size, value_size = row_lengths(key), row_lengths(value)
    said = value_size
    if table.has_value is not None:
        there = table.has_value[rows]
        said = np.where(there, value_size, -1)
        value_size = value_size * there
        value = [piece.where(there) for piece in value]
    place = varints(np.arange(n))
    time, key_said, value_said = varints(at - at[0]), varints(key_size), varints(said)
    size = 1 + time.length + place.length + key_said.length + key_size + value_said.length + value_size + len(shared)
    pieces = [varints(size), literal(b"\0", n), time, place, key_said, *key, value_said, *value, literal(shared, n)]
    return EncodedBatch(compress(pieces), n, int(at[0]), int(at.max()))


def _headers(headers: Headers) -> bytes:
    """Headers as they stand at a record's end."""
    out = [_varint(len(headers))]
    for name, value in headers:
        text = name.encode()
        out += [_varint(len(text)), text, _varint(-1 if value is None else len(value)), value or b""]
    return b"".join(out)


def _varint(number: int) -> bytes:
    return split([varints(np.array([number]))])[0]
