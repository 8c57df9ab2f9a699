"""Tables as dataclasses of columns: numpy arrays of the same length, or tables again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def concatenate(tables: Sequence[T]) -> T:
    """The rows of all `tables`, one at least, one after another."""
    if len(tables) == 1:
        return tables[0]
    first: Any = tables[0]
    columns = []
    for field in fields(first):
        parts: list[Any] = [getattr(table, field.name) for table in tables]
        columns.append(np.concatenate(parts) if isinstance(parts[0], np.ndarray) else concatenate(parts))
    whole: T = type(first)(*columns)
    return whole
