"""The end offsets at which an assignment begins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import TypeVar

from faust.types import TP

from app.errors import MissingRecords

#: interval between requests for the partitions' end offsets [s]
END_OFFSETS_INTERVAL_S = 0.5
#: answers after which a partition's end is believed to be below its committed offset
_ATTEMPTS = 8
#: a partition
P = TypeVar("P", bound=Hashable)


async def ends_and_missing(
    positions: Mapping[P, int],
    highwaters: Callable[..., Awaitable[Mapping[P, int]]],
    attempts: int,
    interval_s: float,
) -> tuple[dict[P, int], list[P]]:
    """Return the end offset of each partition, and those of which it stays below the position.

    They are asked for up to `attempts` times, `interval_s` apart: a broker that was suspended may lead a partition in
    its own opinion only, and answer with an old end.
    """
    ends: dict[P, int] = {}
    missing = list(positions)
    for _ in range(attempts):
        if ends:
            await asyncio.sleep(interval_s)
        ends |= await highwaters(*missing) if missing else {}
        missing = [tp for tp in missing if positions[tp] > ends[tp]]
        if not missing:
            break
    return ends, missing


async def ends_behind(
    positions: Mapping[TP, int], highwaters: Callable[..., Awaitable[Mapping[TP, int]]]
) -> dict[TP, int]:
    """Return the end offset of each partition. Raises MissingRecords if one stays below its position."""
    ends, missing = await ends_and_missing(positions, highwaters, _ATTEMPTS, END_OFFSETS_INTERVAL_S)
    if not missing:
        return ends
    tp = missing[0]
    raise MissingRecords(
        f"topic {tp.topic} partition {tp.partition} ends at offset {ends[tp]}, but {positions[tp]} was "
        "committed: the topic was deleted and created again; set another RISK_APP_ID to start over"
    )
