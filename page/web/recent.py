"""Figures that many readers ask for and that may be a moment old, such as how many students are silent for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeVar

_T = TypeVar("_T")
#: how old a figure may be [s], and how many are kept
AGE_S, _KEPT = 2.0, 1000


class Recent:
    """Keeps figures for a moment. Thread-safe; two threads may make the same figure at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, Lock()
        self._kept: dict[Hashable, tuple[float, Any]] = {}

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Return the figure that `make` makes, or the one it has made for this key within the last AGE_S."""
        now = self._clock()
        with self._lock:
            made, value = self._kept.get(key, (float("-inf"), None))
        if now - made < AGE_S:
            return value  # type: ignore[no-any-return]
        value = make()
        with self._lock:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[key] = (now, value)
        return value
