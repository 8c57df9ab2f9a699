"""What a batch of visits does to its students' sessions, under the late and the expiry rule.

Most visits are on time, and for them order does not matter: they are cut into runs and absorbed at
once. A late visit sees the sessions exactly as the visits before it left them, so the batch is taken
in waves: every late visit is a wave of its own student alone, the visits between two late ones are one.
"Every change" is the same with a wave for every visit. Other students share the waves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.factorize import argsort_codes, argsort_pairs
from models.grouped import group_starts, grouped_cumsum
from models.rules import SEGMENT_MS, Bools, Int64s, is_late, oldest_segment, refused, visible
from models.session_changes import SessionChanges, Step, concatenate, every_change, net_change
from models.sessions import Sessions, absorb, cut

#: below every segment number: nothing has expired
_ALL_VISIBLE = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Windowed:
    """The outcome of one batch."""

    #: changes of the sessions, in the order to emit them
    changes: SessionChanges
    #: the sessions afterwards, without those that no visit can reach any more
    sessions: Sessions
    #: whether each visit was refused as too late [n]
    late: Bools


def apply(
    sessions: Sessions, owner: Int64s, at: Int64s, before: Int64s, now: int, *, emit_every_change: bool
) -> Windowed:
    """Apply visits in arrival order to the `sessions` of their students.

    owner [n]: the student's code; at [n] ms; before [n]: observed time before each visit, ms;
    now: observed time after the batch, ms; each: report every revision, or one change a session.
    """
    stream_time = np.maximum(before, at)
    doubtful = is_late(at, stream_time)
    wave = _waves(owner, doubtful, emit_every_change)
    waves = _parts(wave)
    last_wave = np.zeros(int(owner.max(initial=-1)) + 1, np.int64)
    if len(waves) > 1:
        np.maximum.at(last_wave, owner, wave)
    wave_state = _WaveState(sessions, np.full(len(sessions), -1, np.int64))
    late = np.zeros(len(owner), np.bool_)
    for number, visits in enumerate(waves):
        some_late = visits[doubtful[visits]]
        if len(some_late):
            floor = np.full(len(last_wave), _ALL_VISIBLE)
            floor[owner[some_late]] = oldest_segment(before[some_late])
            wave_state.hide_expired(floor)
            late[some_late] = wave_state.would_refuse(owner[some_late], at[some_late], stream_time[some_late])
            visits = visits[~late[visits]]
        wave_state.enter(visits, owner[visits], at[visits])
        if number + 1 < len(waves):
            wave_state.retire(last_wave <= number)
    alive, created_by = wave_state.close()
    changes = every_change(wave_state.steps) if emit_every_change else net_change(wave_state.steps, alive, created_by)
    return Windowed(changes, alive.take(visible(alive.end, np.full(len(alive), now))), late)


def _waves(owner: Int64s, doubtful: Bools, emit_every_change: bool) -> Int64s:
    """The wave of each visit [n]: within one student non-decreasing in arrival order."""
    if not emit_every_change and not doubtful.any():
        return np.zeros(len(owner), np.int64)
    order = argsort_codes(owner, int(owner.max(initial=0)) + 1)
    whose, opens = owner[order], doubtful[order]
    opens[1:] |= doubtful[order][:-1]
    if emit_every_change:
        opens[:] = True
    opens[group_starts(whose)] = False
    wave = np.empty(len(owner), np.int64)
    wave[order] = grouped_cumsum(whose, opens.astype(np.int64))
    return wave


def _parts(wave: Int64s) -> list[Int64s]:
    """The visits of each wave, in arrival order; no wave without any."""
    if not wave.any():
        return [np.arange(len(wave))] if len(wave) else []
    by_wave = np.argsort(wave, kind="stable")
    return np.split(by_wave, np.flatnonzero(group_starts(wave[by_wave]))[1:])


class _WaveState:
    """The sessions of the batch's students while its waves are entered. Mutable, and local to `apply`."""

    def __init__(self, sessions: Sessions, created_by: Int64s) -> None:
        self._open, self._created_by = sessions, created_by
        #: sessions no later wave can change, with the visit that made each
        self._done: list[tuple[Sessions, Int64s]] = []
        self.steps: list[Step] = []

    def hide_expired(self, floor: Int64s) -> None:
        """Set aside what has expired for the owners of this wave; `floor` [u]: oldest visible segment."""
        self._set_aside(self._open.end // SEGMENT_MS < floor[self._open.owner])

    def retire(self, finished: Bools) -> None:
        """Set aside the sessions of owners that have no later wave; `finished` [u]."""
        if finished.any():
            self._set_aside(finished[self._open.owner])

    def _set_aside(self, gone: Bools) -> None:
        if gone.any():
            self._done.append((self._open.take(gone), self._created_by[gone]))
            self._open, self._created_by = self._open.take(~gone), self._created_by[~gone]

    def would_refuse(self, owner: Int64s, at: Int64s, stream_time: Int64s) -> Bools:
        """Whether each late visit, alone in its student's wave, would make a session past the grace."""
        runs = cut(owner, at)
        merge = absorb(self._open, runs.sessions)
        return refused(merge.sessions.end[merge.of_arrival[runs.run]], stream_time)

    def enter(self, visits: Int64s, owner: Int64s, at: Int64s) -> None:
        """Absorb the visits (indices [k], owner [k], at [k] ms) and write the step down."""
        runs = cut(owner, at)
        merge = absorb(self._open, runs.sessions)
        cause = np.full(len(merge.sessions), -1, np.int64)
        # visits ascend, so the last one written to a session is its latest cause
        cause[merge.of_arrival[runs.run]] = visits
        hit = merge.touched[merge.of_session]
        self.steps.append(
            Step(
                removed=self._open.take(hit),
                removed_by=cause[merge.of_session[hit]],
                removed_created_by=self._created_by[hit],
                added=merge.sessions.take(merge.touched),
                added_by=cause[merge.touched],
            )
        )
        created_by = cause
        created_by[merge.of_session[~hit]] = self._created_by[~hit]
        self._open, self._created_by = merge.sessions, created_by

    def close(self) -> tuple[Sessions, Int64s]:
        """All sessions, sorted by (owner, start), with the visit that made each (-1: none of this batch)."""
        if not self.steps:  # nothing was entered: the sessions are as they came
            self.steps.append(_nothing())
        sessions = concatenate([s for s, _ in self._done] + [self._open])
        created_by = np.concatenate([b for _, b in self._done] + [self._created_by])
        order = argsort_pairs(sessions.owner, sessions.start)
        return sessions.take(order), created_by[order]


def _nothing() -> Step:
    none, empty = Sessions.none(), np.empty(0, np.int64)
    return Step(none, empty, empty, none, empty)
