"""Damaged records of the state tables: each is refused."""

from __future__ import annotations

import numpy as np
import pytest

from models import position as positions
from models import state
from models.position import Position
from models.sessions import Sessions
from models.totals import Totals
from models.watermarks import Watermarks
from tests.support.damage import MUTANTS, Damage


def test_every_damaged_state_record_is_refused() -> None:
    """No damage turns a student's record into another student's."""
    damage, rng = Damage(5), np.random.default_rng(5)
    u = 400
    owner = np.sort(rng.integers(0, u, 3 * u))
    start = rng.integers(0, 2**41, len(owner))
    totals = Totals(*(rng.integers(0, 2**k, u) for k in (12, 20, 9, 41)))
    intact = state.pack(totals, Sessions(owner, start, start + 900_000, rng.integers(1, 99, len(owner))))
    state.check(intact, state.VERSION, "a state record")
    while damage.made < MUTANTS["state records"]:
        a, b = (intact[damage.below(u)] for _ in range(2))
        changed = damage.mutate(a, b)
        if changed not in intact:
            with pytest.raises(state.StateError, match="a state record"):
                state.check([a, changed, b], state.VERSION, "a state record")


def test_every_damaged_position_is_refused() -> None:
    """A wrong position or next offset would lose or repeat records."""
    damage, rng = Damage(6), np.random.default_rng(6)
    intact = []
    for s in range(1, 40):
        at, confirmed = rng.integers(0, 2**41, (2, s))
        watermarks = Watermarks(at, np.ones(s, np.bool_), confirmed, int(rng.integers(0, 2**41)))
        intact.append(positions.pack(Position(rng.integers(0, 2**35, s), watermarks, rng.random(s) < 0.1, s)))
    offsets = [positions.pack_next_offset(int(n)) for n in rng.integers(0, 2**40, 40)]
    while damage.made < MUTANTS["positions"]:
        kind = damage.made % 2
        a, b = ((intact, offsets)[kind][damage.below(39)] for _ in range(2))
        changed = damage.mutate(a, b)
        if changed not in (intact, offsets)[kind]:
            with pytest.raises(state.StateError, match=("a position record", "a next-offset record")[kind]):
                positions.unpack_next_offset(changed) if kind else positions.unpack(changed, 3)
