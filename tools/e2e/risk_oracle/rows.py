"""The rows of a log that was replayed, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tools.e2e.risk_oracle.log import LogRow
from tools.replay.log_rows import OPTIONAL, LogRows


def log_rows(rows: LogRows) -> list[LogRow]:
    """Return the rows; columns that the log lacks, and nulls, are None."""
    numbers = [_nullable(rows, name, rows.more.get(name)) for name in OPTIONAL if name != "origin"]
    courseid, relateduserid, anonymous, realuserid = numbers
    columns = (
        rows.id.tolist(),
        _nullable(rows, "userid", rows.userid),
        courseid,
        _nullable(rows, "eventname", np.array(rows.names, object)[rows.event]),
        relateduserid,
        realuserid,
        anonymous,
        _nullable(
            rows, "origin", None if rows.origin is None else np.array(rows.origin.names, object)[rows.origin.index]
        ),
        rows.at.tolist(),
    )
    return [LogRow(*row) for row in zip(*columns, strict=True)]


def _nullable(rows: LogRows, name: str, column: Any) -> Sequence[Any]:
    if column is None:
        return [None] * len(rows)
    return [None if null else value for value, null in zip(column.tolist(), rows.null(name).tolist(), strict=True)]
