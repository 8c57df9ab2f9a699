"""Apply a batch of visits to the sessions of their students, with KSQL's rules for late visits and expired sessions.

Most visits are on time, and their order does not matter: they are divided into runs and absorbed at once. A late
visit must see the sessions exactly as the visits before it left them, so a student's visits are applied in waves:
every late visit is a wave of its own, the visits between two late ones are one wave. The n-th waves of all students
are applied together. To emit every change, every visit is a wave of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.factorize import argsort_codes, argsort_pairs
from models.grouped import group_starts, grouped_cumsum
from models.rules import SEGMENT_MS, Bools, Int64s, is_late, oldest_segment, refused, visible
from models.session_changes import SessionChanges, Step, concatenate, every_change, net_change
from models.sessions import Sessions, absorb, cut

#: below every segment number: no session has expired
_ALL_VISIBLE = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Windowed:
    """The result of one batch."""

    #: changes of the sessions, in the order in which to emit them
    changes: SessionChanges
    #: the sessions afterwards, without expired ones, which no later visit can reach
    sessions: Sessions
    #: whether each visit was refused as too late [n]
    late: Bools


def apply(
    sessions: Sessions, owner: Int64s, at: Int64s, before: Int64s, now: int, *, emit_every_change: bool
) -> Windowed:
    """Apply visits in arrival order to the `sessions` of their students.

    owner [n]: the student's index; at [n] ms; before [n]: stream time before each visit, ms; now: stream time after
    the batch, ms; emit_every_change: return every revision, otherwise one change per session.
    """
    stream_time = np.maximum(before, at)
    late_candidate = is_late(at, stream_time)
    wave = _wave_numbers(owner, late_candidate, emit_every_change)
    waves = _split_waves(wave)
    last_wave = np.zeros(int(owner.max(initial=-1)) + 1, np.int64)
    if len(waves) > 1:
        np.maximum.at(last_wave, owner, wave)
    wave_state = _WaveState(sessions, np.full(len(sessions), -1, np.int64))
    late = np.zeros(len(owner), np.bool_)
    for number, visits in enumerate(waves):
        candidates = visits[late_candidate[visits]]
        if len(candidates):
            oldest_visible = np.full(len(last_wave), _ALL_VISIBLE)
            oldest_visible[owner[candidates]] = oldest_segment(before[candidates])
            wave_state.set_expired_aside(oldest_visible)
            late[candidates] = wave_state.is_refused(owner[candidates], at[candidates], stream_time[candidates])
            visits = visits[~late[visits]]
        wave_state.absorb_wave(visits, owner[visits], at[visits])
        if number + 1 < len(waves):
            wave_state.retire(last_wave <= number)
    alive, created_by = wave_state.finish()
    changes = every_change(wave_state.steps) if emit_every_change else net_change(wave_state.steps, alive, created_by)
    return Windowed(changes, alive.take(visible(alive.end, np.full(len(alive), now))), late)


def _wave_numbers(owner: Int64s, late_candidate: Bools, emit_every_change: bool) -> Int64s:
    """The wave of each visit [n]: non-decreasing in arrival order within each student."""
    if not emit_every_change and not late_candidate.any():
        return np.zeros(len(owner), np.int64)
    order = argsort_codes(owner, int(owner.max(initial=0)) + 1)
    sorted_owner, opens_wave = owner[order], late_candidate[order]
    opens_wave[1:] |= late_candidate[order][:-1]
    if emit_every_change:
        opens_wave[:] = True
    opens_wave[group_starts(sorted_owner)] = False
    wave = np.empty(len(owner), np.int64)
    wave[order] = grouped_cumsum(sorted_owner, opens_wave.astype(np.int64))
    return wave


def _split_waves(wave: Int64s) -> list[Int64s]:
    """The visits of each wave, in arrival order; empty waves are left out."""
    if not wave.any():
        return [np.arange(len(wave))] if len(wave) else []
    by_wave = np.argsort(wave, kind="stable")
    return np.split(by_wave, np.flatnonzero(group_starts(wave[by_wave]))[1:])


class _WaveState:
    """The sessions of the batch's students between two waves. Mutable, used only by `apply`."""

    def __init__(self, sessions: Sessions, created_by: Int64s) -> None:
        self._open, self._created_by = sessions, created_by
        #: sessions that no later wave changes, with the visit that created each
        self._aside: list[tuple[Sessions, Int64s]] = []
        self.steps: list[Step] = []

    def set_expired_aside(self, oldest_visible: Int64s) -> None:
        """Set aside the sessions that have expired for their owners; `oldest_visible` [u]: store segment."""
        self._set_aside(self._open.end // SEGMENT_MS < oldest_visible[self._open.owner])

    def retire(self, finished: Bools) -> None:
        """Set aside the sessions of owners without a later wave; `finished` [u]."""
        if finished.any():
            self._set_aside(finished[self._open.owner])

    def _set_aside(self, rows: Bools) -> None:
        if rows.any():
            self._aside.append((self._open.take(rows), self._created_by[rows]))
            self._open, self._created_by = self._open.take(~rows), self._created_by[~rows]

    def is_refused(self, owner: Int64s, at: Int64s, stream_time: Int64s) -> Bools:
        """Whether the session that each visit, alone in its student's wave, makes or joins is past the grace."""
        runs = cut(owner, at)
        merge = absorb(self._open, runs.sessions)
        return refused(merge.sessions.end[merge.of_arrival[runs.run]], stream_time)

    def absorb_wave(self, visits: Int64s, owner: Int64s, at: Int64s) -> None:
        """Absorb the visits of one wave (indices [k], owner [k], at [k] ms) and record its step."""
        runs = cut(owner, at)
        merge = absorb(self._open, runs.sessions)
        cause = np.full(len(merge.sessions), -1, np.int64)
        # visits ascend, so the last one assigned to a session is its latest cause
        cause[merge.of_arrival[runs.run]] = visits
        changed = merge.touched[merge.of_session]
        self.steps.append(
            Step(
                removed=self._open.take(changed),
                removed_by=cause[merge.of_session[changed]],
                removed_created_by=self._created_by[changed],
                added=merge.sessions.take(merge.touched),
                added_by=cause[merge.touched],
            )
        )
        created_by = cause
        created_by[merge.of_session[~changed]] = self._created_by[~changed]
        self._open, self._created_by = merge.sessions, created_by

    def finish(self) -> tuple[Sessions, Int64s]:
        """All sessions, sorted by (owner, start), with the visit that created each (-1: older than the batch)."""
        if not self.steps:  # no visits: `concatenate` needs one step at least
            self.steps.append(_empty_step())
        if not self._aside:
            return self._open, self._created_by
        sessions = concatenate([s for s, _ in self._aside] + [self._open])
        created_by = np.concatenate([by for _, by in self._aside] + [self._created_by])
        order = argsort_pairs(sessions.owner, sessions.start)
        return sessions.take(order), created_by[order]


def _empty_step() -> Step:
    none, empty = Sessions.none(), np.empty(0, np.int64)
    return Step(none, empty, empty, none, empty)
