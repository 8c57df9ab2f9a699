"""Rows of Moodle's log as columns, read from a file or generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from models.rules import Bools, Int64s

#: the columns of mdl_logstore_standard_log that every log has, in the table's order
COLUMNS = ("id", "eventname", "userid", "timecreated")
#: those that a log may have besides; where they are missing, nothing is filtered and there are no courses
OPTIONAL = ("courseid", "relateduserid", "anonymous", "origin", "realuserid")
#: all of them, in the table's order
ALL_COLUMNS = (
    *("id", "eventname", "userid", "courseid", "relateduserid", "anonymous", "timecreated", "origin", "realuserid"),
)
#: those that are nullable in Moodle's table, and so in its schema, whether there is a null or not
NULLABLE = frozenset(("courseid", "relateduserid", "origin", "realuserid"))


@dataclass(frozen=True)
class Texts:
    """A column of n texts, of which few are distinct."""

    #: index into `names` of each row [n]
    index: Int64s
    names: tuple[str, ...]


@dataclass(frozen=True)
class LogRows:
    """n rows of the log, by increasing unique id.

    Nulls are marked in `nulls`; the column holds 0 there. Columns without nulls are not in `nulls`.
    """

    #: the table's primary key [n]
    id: Int64s
    #: index into `names` of each row's eventname [n]
    event: Int64s
    #: distinct event names
    names: tuple[str, ...]
    #: the user who did it [n]
    userid: Int64s
    #: timecreated [n] epoch ms
    at: Int64s
    #: column name (not id) → whether each row is null [n]
    nulls: Mapping[str, Bools] = field(default_factory=dict)
    #: the columns of `OPTIONAL` that the log has except origin, each [n]
    more: Mapping[str, Int64s] = field(default_factory=dict)
    #: the column origin, if the log has it
    origin: Texts | None = None

    def __len__(self) -> int:
        return len(self.id)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the log's columns, in the table's order."""
        present = {*COLUMNS, *self.more, *(("origin",) if self.origin is not None else ())}
        return tuple(name for name in ALL_COLUMNS if name in present)

    @property
    def nullable(self) -> frozenset[str]:
        """The columns that a schema of this log declares nullable."""
        return frozenset(self.nulls) | (NULLABLE & frozenset(self.columns))

    def take(self, index: Int64s | slice) -> LogRows:
        """Return the rows at `index`, in that order. Nullable columns stay nullable."""
        return replace(
            self,
            id=self.id[index],
            event=self.event[index],
            userid=self.userid[index],
            at=self.at[index],
            nulls={name: mask[index] for name, mask in self.nulls.items()},
            more={name: column[index] for name, column in self.more.items()},
            origin=None if self.origin is None else replace(self.origin, index=self.origin.index[index]),
        )

    def null(self, column: str) -> Bools:
        """Return whether each row is null in `column` [n]."""
        return self.nulls.get(column, np.zeros(len(self), np.bool_))

    @property
    def written(self) -> Int64s:
        """Estimated time at which each row was written [n] epoch ms: the running maximum of `at`.

        Ids are assigned in the order of writing, so a row was not written before any row with a lower id.
        """
        known = ~self.null("timecreated")
        if not known.any():
            return np.zeros(len(self), np.int64)
        return np.maximum.accumulate(np.where(known, self.at, self.at[known][0]))
