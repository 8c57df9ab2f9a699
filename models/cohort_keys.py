"""Keys and values of the topic of cohort sums, in which the visits partitions tell one another what is usual.

day|partition|piece    the sums of one partition as of a day, in pieces (models/cohorts.py)
reached|partition      the last day of which a partition's sums are there, as text; written behind them
"""

from __future__ import annotations

_REACHED = b"reached|"


def sums_key(day: int, partition: int, piece: int) -> bytes:
    """The key of a piece of a partition's sums."""
    return b"%d|%d|%d" % (day, partition, piece)


def reached_key(partition: int) -> bytes:
    """The key of the last day that a partition has reached."""
    return _REACHED + b"%d" % partition


def parse(key: bytes) -> tuple[int | None, int, int]:
    """Day, partition and piece; the day is None for the key of the day that a partition has reached."""
    if key.startswith(_REACHED):
        return None, int(key[len(_REACHED) :]), 0
    day, partition, piece = key.split(b"|")
    return int(day), int(partition), int(piece)
