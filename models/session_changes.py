"""Changes of the sessions table: the sessions that a batch of visits removes and adds, in order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.factorize import argsort_pairs
from models.rules import Bools, Int64s
from models.sessions import Sessions


@dataclass(frozen=True, slots=True)
class SessionChanges:
    """Changes in order, each the removal or the addition of one session."""

    sessions: Sessions
    #: -1: removed, +1: added [r]
    delta: Int64s
    #: the visit of the batch that caused the change [r]
    cause: Int64s
    #: whether the change is written to the topic: a session that is overwritten under the same key is subtracted
    #: from the totals but needs no tombstone [r]
    written: Bools

    def __len__(self) -> int:
        return len(self.delta)

    def take(self, rows: Int64s | Bools) -> SessionChanges:
        """The changes at `rows` (indices or a mask), in that order."""
        return SessionChanges(self.sessions.take(rows), self.delta[rows], self.cause[rows], self.written[rows])


@dataclass(frozen=True, slots=True)
class Step:
    """Sessions that one wave removes and adds, with the visit that caused each."""

    removed: Sessions
    removed_by: Int64s
    #: the visit that created each removed session, -1: it existed before the batch
    removed_created_by: Int64s
    added: Sessions
    added_by: Int64s


def concatenate(parts: list[Sessions]) -> Sessions:
    """The sessions of all `parts`, one after another."""
    if len(parts) == 1:
        return parts[0]
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
    """Every revision, in the order of the visits: KSQL's sequence with its cache off.

    Kafka Streams KStreamSessionWindowAggregate: for each visit a tombstone for every session it merges, ascending
    by (end, start), unless the merged session has length 0; then the merged session.
    """
    removed = concatenate([s.removed for s in steps])
    removed_by = np.concatenate([s.removed_by for s in steps])
    added = concatenate([s.added for s in steps])
    added_by = np.concatenate([s.added_by for s in steps])
    # each visit adds one session: whether that has length 0 decides about the sessions the visit removes
    is_instant = np.zeros(int(added_by.max(initial=-1)) + 1, np.bool_)
    is_instant[added_by] = added.start == added.end
    written = np.concatenate((~is_instant[removed_by], np.ones(len(added), np.bool_)))
    changes = _changes(removed, removed_by, added, added_by, written)
    return changes.take(argsort_pairs(2 * changes.cause + (changes.delta > 0), changes.sessions.end))


def net_change(steps: list[Step], alive: Sessions, created_by: Int64s) -> SessionChanges:
    """One change per session: the removal of those that existed before the batch only, the addition of new ones.

    `alive` are the sessions after the batch, `created_by` [m] the visit that created each (-1: unchanged). KSQL's
    sequence with its cache on leads to the same state.
    """
    removed = concatenate([s.removed for s in steps])
    existed = np.concatenate([s.removed_created_by for s in steps]) < 0
    removed, removed_by = removed.take(existed), np.concatenate([s.removed_by for s in steps])[existed]
    added, added_by = alive.take(created_by >= 0), created_by[created_by >= 0]
    overwritten = _in_both(removed, added)
    written = np.concatenate((~overwritten, np.ones(len(added), np.bool_)))
    changes = _changes(removed, removed_by, added, added_by, written)
    return changes.take(argsort_pairs(2 * changes.sessions.owner + (changes.delta > 0), changes.sessions.end))


def _in_both(left: Sessions, right: Sessions) -> Bools:
    """Whether each session of `left` is in `right` too, with the same owner, start and end."""
    both = concatenate([left, right])
    order = argsort_pairs(both.owner, both.start)
    ordered = both.take(order)
    same = np.zeros(len(order), np.bool_)
    if len(order):
        equal = (
            (ordered.owner[1:] == ordered.owner[:-1])
            & (ordered.start[1:] == ordered.start[:-1])
            & (ordered.end[1:] == ordered.end[:-1])
        )
        # neither side has two sessions of one owner and start; the sort is stable, so that of `left` comes first
        same[order[:-1]] = equal
    return same[: len(left)]
