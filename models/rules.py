"""The constants and predicates of KSQL 5.3's session windows, each defined once.

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

#: inactivity gap that ends a session [ms]; exactly this much still joins (SessionWindows: inclusive)
GAP_MS = 900_000
#: how far before stream time a session may end and still take a visit [ms]: one day less the gap
GRACE_MS = 85_500_000
#: how far stream time may run ahead of what a source partition without backlog was last known to have been read to [ms]
MAX_LEAD_MS = GRACE_MS // 2
#: retention of the session store [ms]
RETENTION_MS = 86_400_000
#: width of a store segment [ms]; sessions expire by whole segments
SEGMENT_MS = 43_200_000
#: largest event time whose window bounds fit 64 bits [ms]
MAX_AT = 2**63 - 1 - GAP_MS
#: stream time and watermarks before the first event [ms]
NEVER = -1


def oldest_segment(stream_time: Int64s) -> Int64s:
    """The oldest visible store segment at each `stream_time` [n] ms (RocksDB segments expire as a whole)."""
    return np.floor_divide(stream_time - RETENTION_MS, SEGMENT_MS)


def visible(end: Int64s, stream_time: Int64s) -> Bools:
    """Whether sessions that `end` [n] ms are still in the store at `stream_time` [n] ms."""
    return np.floor_divide(end, SEGMENT_MS) >= oldest_segment(stream_time)


def is_late(at: Int64s, stream_time: Int64s) -> Bools:
    """Whether visits `at` [n] ms may be refused at `stream_time` [n] ms, which includes the visits themselves.

    A visit that is not late makes or joins a session within the grace, whatever that session is, and reaches no
    expired one: both rules concern late visits only.
    """
    return at < stream_time - GRACE_MS


def refused(end: Int64s, stream_time: Int64s) -> Bools:
    """Whether merged sessions that `end` [n] ms are past the grace at `stream_time` [n] ms: not exactly at it."""
    return end < stream_time - GRACE_MS
