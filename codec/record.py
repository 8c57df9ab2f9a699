"""A row: one record to write."""

from __future__ import annotations

from typing import TypeAlias

from models.chunk import Headers

#: timestamp [ms] (None: now), key, value, headers. A plain tuple, because there may be very many
Row: TypeAlias = tuple["int | None", "bytes | None", "bytes | None", Headers]
#: the headers of a row without any; aiokafka's compiled builder takes lists only, and does not modify this one
NO_HEADERS: Headers = []
