"""Session records: what a batch of visits removes from and adds to the sessions, in order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.factorize import argsort_pairs
from models.rules import Bools, Int64s
from models.sessions import Sessions


@dataclass(frozen=True, slots=True)
class SessionChanges:
    """Changes of the sessions table, each the removal or the addition of one session."""

    sessions: Sessions
    #: -1: removed, +1: added [r]
    delta: Int64s
    #: the visit of the batch that caused it [r]
    cause: Int64s
    #: whether the change is written to the topic: a session overwritten under its own key is
    #: subtracted from the totals but needs no tombstone [r]
    written: Bools

    def __len__(self) -> int:
        return len(self.delta)

    def take(self, rows: Int64s | Bools) -> SessionChanges:
        """The records at `rows` (indices or a mask), in that order."""
        return SessionChanges(self.sessions.take(rows), self.delta[rows], self.cause[rows], self.written[rows])


@dataclass(frozen=True, slots=True)
class Step:
    """One step's removals and additions: sessions with the visit that caused each."""

    removed: Sessions
    removed_by: Int64s
    #: the visit that had made each removed session, -1: it was there before the batch
    removed_created_by: Int64s
    added: Sessions
    added_by: Int64s


def concatenate(parts: list[Sessions]) -> Sessions:
    """The sessions of all `parts`, one after another."""
    return Sessions(
        np.concatenate([p.owner for p in parts]),
        np.concatenate([p.start for p in parts]),
        np.concatenate([p.end for p in parts]),
        np.concatenate([p.count for p in parts]),
    )


def _changes(
    removed: Sessions, removed_by: Int64s, added: Sessions, added_by: Int64s, written: Bools
) -> SessionChanges:
    delta = np.ones(len(removed) + len(added), np.int64)
    delta[: len(removed)] = -1
    return SessionChanges(concatenate([removed, added]), delta, np.concatenate((removed_by, added_by)), written)


def every_change(steps: list[Step]) -> SessionChanges:
    """Every revision, in order of the visits: KSQL's sequence with its cache off.

    Kafka Streams KStreamSessionWindowAggregate: unless the visit stands alone at its own instant,
    a tombstone for every session it found, ascending by (end, start); then the row.
    """
    removed = concatenate([s.removed for s in steps])
    removed_by = np.concatenate([s.removed_by for s in steps])
    added = concatenate([s.added for s in steps])
    added_by = np.concatenate([s.added_by for s in steps])
    # the visit makes one session: look its shape up for the sessions it removed
    instant = np.zeros(int(added_by.max(initial=-1)) + 1, np.bool_)
    instant[added_by] = added.start == added.end
    written = np.concatenate((~instant[removed_by], np.ones(len(added), np.bool_)))
    changes = _changes(removed, removed_by, added, added_by, written)
    return changes.take(argsort_pairs(2 * changes.cause + (changes.delta > 0), changes.sessions.end))


def net_change(steps: list[Step], alive: Sessions, created_by: Int64s) -> SessionChanges:
    """One change per session: what was there before the batch and is gone, what is new or revised.

    `alive` are the sessions after the batch, `born` [m] the visit that made each (-1: untouched).
    KSQL's sequence with its cache on has the same end state.
    """
    removed = concatenate([s.removed for s in steps])
    old = np.concatenate([s.removed_created_by for s in steps]) < 0
    removed, removed_by = removed.take(old), np.concatenate([s.removed_by for s in steps])[old]
    added, added_by = alive.take(created_by >= 0), created_by[created_by >= 0]
    overwritten = _in_both(removed, added)
    written = np.concatenate((~overwritten, np.ones(len(added), np.bool_)))
    changes = _changes(removed, removed_by, added, added_by, written)
    return changes.take(argsort_pairs(2 * changes.sessions.owner + (changes.delta > 0), changes.sessions.end))


def _in_both(left: Sessions, right: Sessions) -> Bools:
    """Whether each of `left` stands in `right` with the same owner, start and end."""
    both = concatenate([left, right])
    order = argsort_pairs(both.owner, both.start)
    ordered = both.take(order)
    same = np.zeros(len(order), np.bool_)
    if len(order):
        twin = (
            (ordered.owner[1:] == ordered.owner[:-1])
            & (ordered.start[1:] == ordered.start[:-1])
            & (ordered.end[1:] == ordered.end[:-1])
        )
        # no side has two of one owner and start; the order is stable, so the one of `left` comes first
        same[order[:-1]] = twin
    return same[: len(left)]
