"""The rows of a log that was replayed, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tools.e2e.risk_oracle.log import LogRow
from tools.replay.log_rows import OPTIONAL, LogRows, Texts


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


def columns_of(rows: Sequence[LogRow]) -> LogRows:
    """Return such rows as the columns of a log that has all of them."""
    event, origin = _texts([row.eventname for row in rows]), _texts([row.origin for row in rows])
    numbers = {
        name: np.array([getattr(row, name) or 0 for row in rows], np.int64) for name in OPTIONAL if name != "origin"
    }
    nulls = {
        name: np.array([getattr(row, name) is None for row in rows], np.bool_)
        for name in ("userid", "eventname", *OPTIONAL)
    }
    return LogRows(
        np.array([row.id for row in rows], np.int64),
        event.index,
        event.names,
        np.array([row.userid or 0 for row in rows], np.int64),
        np.array([row.at for row in rows], np.int64),
        {name: mask for name, mask in nulls.items() if mask.any()},
        numbers,
        origin,
    )


def _texts(column: Sequence[str | None]) -> Texts:
    names = tuple(dict.fromkeys(text or "" for text in column))
    index = {name: i for i, name in enumerate(names)}
    return Texts(np.array([index[text or ""] for text in column], np.int64), names)
