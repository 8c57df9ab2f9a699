"""How far the reader is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """What the reader does."""

    #: it reads what was in the topics when it began; what the page shows is not complete
    LOADING = "loading"
    #: what the page shows is what the topics say
    LIVE = "live"
    #: it cannot read now, and says why; it tries again by itself
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class State:
    """How far the reader is."""

    kind: Phase = Phase.LOADING
    #: part of the topics that has been read [0…1]
    share: float = 0.0
    #: what is wrong or waited for, and what to do; empty if nothing is
    line: str = ""
    #: whether the topics have once been read to their end: what the page shows is complete as of some time
    is_complete: bool = False
    #: number of records that were in the topics and not in the database when last asked
    behind: int = 0
