"""Rows of Moodle's log as columns, read from a file or generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from models.rules import Bools, Int64s

#: the columns of mdl_logstore_standard_log that the pipeline reads, in the table's order
COLUMNS = ("id", "eventname", "userid", "timecreated")


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
    #: the student [n]
    userid: Int64s
    #: timecreated [n] epoch ms
    at: Int64s
    #: column name (not id) → whether each row is null [n]
    nulls: Mapping[str, Bools] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.id)

    def take(self, index: Int64s | slice) -> LogRows:
        """Return the rows at `index`, in that order. Nullable columns stay nullable."""
        return replace(
            self,
            id=self.id[index],
            event=self.event[index],
            userid=self.userid[index],
            at=self.at[index],
            nulls={name: mask[index] for name, mask in self.nulls.items()},
        )

    @property
    def written(self) -> Int64s:
        """Estimated time at which each row was written [n] epoch ms: the running maximum of `at`.

        Ids are assigned in the order of writing, so a row was not written before any row with a lower id.
        """
        known = ~self.nulls.get("timecreated", np.zeros(len(self), np.bool_))
        if not known.any():
            return np.zeros(len(self), np.int64)
        return np.maximum.accumulate(np.where(known, self.at, self.at[known][0]))
