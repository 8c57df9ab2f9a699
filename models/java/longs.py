"""`Long.parseLong`, for ASCII digits only: Java also takes the digits of other scripts."""

from __future__ import annotations

import re

LONG_MIN, LONG_MAX = -(1 << 63), (1 << 63) - 1
_LONG = re.compile(r"([+-]?)0*([0-9]{1,19})")


def parse_long(text: str) -> int | None:
    """The 64-bit integer that `text` denotes, None if there is none."""
    match = _LONG.fullmatch(text)
    if match is None:
        return None
    number = int(match[1] + match[2])
    return number if LONG_MIN <= number <= LONG_MAX else None
