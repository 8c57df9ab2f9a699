"""Rows of one topic in columns, and their encoding as Kafka's record batches (message format 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, cast

import numpy as np

from codec.record import NO_HEADERS, Row
from models.chunk import Headers
from models.padded_bytes import PaddedBytes, compress, lengths_of, literal, pad_lengths, row_lengths, split, varints
from models.rules import Bools, Int64s

#: number of rows up to which writing them one by one costs less than building columns
ROW_WISE_MAX = 512
#: maximum size of padded columns, as a multiple of the bytes used in them
MAX_PADDING = 4


@dataclass(frozen=True, slots=True)
class OutputColumns:
    """Rows that are written together, in columns."""

    #: timestamps [n] ms
    at: Int64s
    #: the pieces of the keys [n]
    key: Sequence[PaddedBytes]
    #: the pieces of the values [n]
    value: Sequence[PaddedBytes]
    #: which rows have a value [n], the others are tombstones; None: all
    has_value: Bools | None = None
    #: the headers that all rows share
    headers: Headers = ()
    #: the headers of each row [n], instead of `headers`
    row_headers: Sequence[Headers] | None = None

    def __len__(self) -> int:
        return len(self.at)

    def __iter__(self) -> Iterator[Row]:
        """Iterate over the rows."""
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
    """The records of one batch, without the batch header."""

    records: bytes
    count: int
    #: timestamp of the first record [ms]
    first: int
    #: largest timestamp [ms]
    latest: int


#: rows of one topic, one by one or in columns
Rows: TypeAlias = "Sequence[Row] | OutputColumns"


def changelog_rows(records: Mapping[bytes, bytes | None], at: int) -> Rows:
    """Make rows of state records by key (None: a tombstone), all with the timestamp `at` [ms]."""
    return make_rows([at] * len(records), list(records), list(records.values()))


def make_rows(
    at: Sequence[int],
    keys: Sequence[bytes | None],
    values: Sequence[bytes | None],
    headers: Sequence[Headers] | None = None,
) -> Rows:
    """Make rows of timestamps [n] ms, keys [n], values [n] and headers [n] (None: no row has any).

    Many rows are returned as columns.
    """
    n = len(values)
    if n > ROW_WISE_MAX:
        shared = headers[0] if headers else NO_HEADERS
        if headers is None or headers.count(shared) == n:
            key, value = _padded(keys), _padded(values)
            if key is not None and value is not None:
                return OutputColumns(np.array(at, np.int64), (key,), (value,), headers=shared)
    return list(zip(at, keys, values, headers or [NO_HEADERS] * n, strict=True))


def _padded(texts: Sequence[bytes | None]) -> PaddedBytes | None:
    """`pad` of texts [n], n > 0; None if one is null, or if most of the padded column would be padding."""
    try:
        # one pass for both: a null has no length
        length = lengths_of(cast("Sequence[bytes]", texts))
    except TypeError:
        return None
    return pad_lengths(cast("Sequence[bytes]", texts), length) if is_dense(length) else None


def is_dense(length: Int64s) -> bool:
    """Whether texts of these lengths [n], n > 0, fill most of a padded column, as wide as the longest of them."""
    return int(length.max()) * len(length) <= MAX_PADDING * int(length.sum())


def batches(rows: OutputColumns, max_size: int) -> Iterator[EncodedBatch]:
    """Encode rows without `row_headers` as batches of at most `max_size` bytes.

    Raises ValueError if a row is larger.
    """
    shared = _headers(tuple(rows.headers))
    # besides key, value and headers: the varints of length, time, index and two sizes, and the attributes
    row_size = sum(piece.octets.shape[1] for piece in (*rows.key, *rows.value)) + len(shared) + 5 + 10 + 5 + 5 + 5 + 1
    step = max_size // row_size
    if not step:
        raise ValueError(f"a row of {row_size} bytes does not fit a batch of {max_size}")
    for low in range(0, len(rows), step):
        yield _batch(rows, slice(low, low + step), shared)


def _batch(columns: OutputColumns, rows: slice, shared: bytes) -> EncodedBatch:
    at = columns.at[rows]
    n = len(at)
    key, value = [piece.take(rows) for piece in columns.key], [piece.take(rows) for piece in columns.value]
    key_size, value_size = row_lengths(key), row_lengths(value)
    encoded_size = value_size
    if columns.has_value is not None:
        has_value = columns.has_value[rows]
        encoded_size = np.where(has_value, value_size, -1)
        value_size = value_size * has_value
        value = [piece.where(has_value) for piece in value]
    index = _first_indices(1 << n.bit_length()).take(slice(0, n))
    time, key_length, value_length = varints(at - at[0]), varints(key_size), varints(encoded_size)
    size = 1 + time.length + index.length + key_length.length + key_size + value_length.length + value_size
    size += len(shared)
    pieces = [
        varints(size), literal(b"\0", n), time, index, key_length, *key, value_length, *value, literal(shared, n),
    ]  # fmt: skip
    return EncodedBatch(compress(pieces), n, int(at[0]), int(at.max()))


@lru_cache(maxsize=32)
def _first_indices(count: int) -> PaddedBytes:
    """The varints of the first `count` indices."""
    return varints(np.arange(count))


@lru_cache(maxsize=32)
def _headers(headers: tuple[tuple[str, bytes | None], ...]) -> bytes:
    """Encode headers as at the end of a record."""
    out = [_varint(len(headers))]
    for name, value in headers:
        text = name.encode()
        out += [_varint(len(text)), text, _varint(-1 if value is None else len(value)), value or b""]
    return b"".join(out)


def _varint(number: int) -> bytes:
    return split([varints(np.array([number]))])[0]
