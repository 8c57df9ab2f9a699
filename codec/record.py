"""One record to write."""

from __future__ import annotations

from typing import TypeAlias

from models.chunk import Headers

#: timestamp [ms] (None: now), key, value, headers. A plain tuple: there may be a great many
Row: TypeAlias = tuple["int | None", "bytes | None", "bytes | None", Headers]
#: the headers of a row without any; the compiled builder takes lists only, and only reads this one
NO_HEADERS: Headers = []
