"""The numbers and predicates of KSQL 5.3's session windows, each at one place.

All times are epoch ms. Sources: Kafka Streams `SessionWindows` (inclusive gap), its session
aggregate (grace) and its segmented session store (expiry), as KSQL 5.3 configures them for
`WINDOW SESSION (15 minutes)`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Float64s = npt.NDArray[np.float64]

#: silence that closes a session [ms]; exactly this much still joins (SessionWindows: inclusive)
GAP_MS = 900_000
#: how far behind observed time a session may end and still take a visit [ms]: one day less the gap
GRACE_MS = 85_500_000
#: how long the session store keeps a segment [ms]
RETENTION_MS = 86_400_000
#: width of one store segment [ms]; sessions expire by whole segments
SEGMENT_MS = 43_200_000
#: the largest event time whose window bounds fit 64 bits [ms]
MAX_AT = 2**63 - 1 - GAP_MS
#: "no event yet": observed time and clocks at the start [ms]
NEVER = -1


def oldest_segment(stream_time: Int64s) -> Int64s:
    """First store segment still visible at each `observed` time [n] ms (RocksDB segments expire whole)."""
    return np.floor_divide(stream_time - RETENTION_MS, SEGMENT_MS)


def visible(end: Int64s, stream_time: Int64s) -> Bools:
    """Whether sessions that `end` [n] ms are still in the store at `observed` [n] ms."""
    return np.floor_divide(end, SEGMENT_MS) >= oldest_segment(stream_time)


def is_late(at: Int64s, stream_time: Int64s) -> Bools:
    """Whether visits `at` [n] ms may be refused at `observed` [n] ms, their own time included.

    A visit that is not late makes or joins a session inside the grace whatever that session is,
    and reaches no expired one: only late visits need a look at either rule.
    """
    return at < stream_time - GRACE_MS


def refused(end: Int64s, stream_time: Int64s) -> Bools:
    """Whether a merged session that `end`s [n] ms is past the grace (exactly at the limit it is kept)."""
    return end < stream_time - GRACE_MS
