"""The banner on every page: what is the matter with the data."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from page.reader.state import Phase
from page.store.meta import Meta, read_meta
from page.web.services import Services

_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Banner:
    """What is the matter with the data."""

    #: loading: not all of the topics has been read yet; failed: nothing is read; stale: no event for long
    kind: Literal["loading", "failed", "stale"]
    #: of the topics that has been read, 0 to 1; 1 unless loading
    share: float = 1.0
    #: what has failed, a line
    line: str = ""
    #: time of the newest event [epoch ms]; None: there is none
    newest: int | None = None
    #: its age [h]; 0 unless stale
    hours: int = 0


def banner_of(services: Services, meta: Meta | None = None) -> Banner | None:
    """Return what is the matter with the data; None if nothing is. meta: of the database, if it has been read."""
    state, newest = services.follower.state, (meta or read_meta(services.database.read())).newest_event
    if state.kind is Phase.FAILED:
        return Banner("failed", line=state.line, newest=newest)
    if state.kind is Phase.LOADING:
        return Banner("loading", share=state.share, newest=newest)
    limit = services.settings.page_stale_hours
    if not limit or newest is None:
        return None
    hours = (time.time_ns() // 1_000_000 - newest) / _HOUR_MS
    return Banner("stale", newest=newest, hours=int(hours)) if hours >= limit else None
