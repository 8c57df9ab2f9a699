"""The log made of OULAD: what is real in it is exactly the data, what is drawn stays in its bounds."""

import numpy as np
import pytest

from models.sessions import Sessions, cut
from tools.replay import click_times as clock
from tools.replay import oulad
from tools.replay.log_rows import LogRows

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def log() -> LogRows:
    return oulad.generate()


@pytest.fixture(scope="module")
def sessions(log: LogRows) -> Sessions:
    return cut(np.unique(log.userid, return_inverse=True)[1], log.at).sessions


def test_every_click_of_every_student_and_day_is_one_row(log: LogRows) -> None:
    """Sums over presentations, since a student in two is one userid."""
    days = oulad.days()
    starts = np.array([one.starts for one in oulad.PRESENTATIONS])
    real = _tally(days.student, starts[days.presentation] + days.day * DAY_MS, days.clicks)
    made = _tally(log.userid, log.at, np.ones(len(log), np.int64))
    assert len(log) == days.clicks.sum() == 3_513_263
    assert all(np.array_equal(a, b) for a, b in zip(real, made, strict=True))


def _tally(student: np.ndarray, at: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(student, UTC day) pairs as numbers, and how many clicks each has."""
    pair, row = np.unique(student * 100_000 + at // DAY_MS, return_inverse=True)
    return pair, np.bincount(row, count)


def test_presentations_start_on_the_first_of_february_or_october_utc() -> None:
    starts = {str(one): np.datetime64(one.starts, "ms").astype(str) for one in oulad.PRESENTATIONS}
    assert starts["BBB-2013B"] == "2013-02-01T00:00:00.000"
    assert starts["AAA-2014J"] == "2014-10-01T00:00:00.000"


def test_the_same_seed_gives_the_same_log() -> None:
    one, other, third = (oulad.generate(["AAA"], seed=seed, last_day=10) for seed in (1, 1, 2))
    assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("event", "userid", "at"))
    assert not np.array_equal(one.at, third.at)


def test_the_seed_gives_this_very_log(log: LogRows) -> None:
    """The draws use no generator of numpy's: another version gives the same rows."""
    assert log.at[[0, 1_000_000, 3_000_000]].tolist() == AT
    assert log.userid[[0, 1_000_000, 3_000_000]].tolist() == USERID


AT = [1358899257000, 1371710972000, 1412521510000]
USERID = [547689, 501432, 1398979]


def test_a_students_day_does_not_depend_on_what_else_is_generated(log: LogRows) -> None:
    alone = oulad.generate(["BBB-2013B"], last_day=30)
    student = int(alone.userid[0])
    until = oulad.named(["BBB-2013B"])[0].midnight(31)
    among = np.sort(log.at[(log.userid == student) & (log.at < until)])
    assert np.array_equal(np.sort(alone.at[alone.userid == student]), among)


def test_a_limit_keeps_the_first_rows() -> None:
    whole, cut_off = (oulad.generate(["AAA-2013J"], last_day=5, limit=n) for n in (None, 1000))
    assert len(cut_off) == 1000
    assert np.array_equal(cut_off.at, whole.at[:1000])
    assert np.array_equal(cut_off.userid, whole.userid[:1000])


def test_ids_count_from_one_in_the_order_of_writing_nearly_that_of_time(log: LogRows) -> None:
    assert np.array_equal(log.id, np.arange(1, len(log) + 1))
    behind = log.written - log.at
    assert 0 < (behind > 0).mean() < 0.2
    assert behind.max() < oulad.LONGEST_REQUEST_MS


def test_times_are_whole_seconds_as_moodles_are(log: LogRows) -> None:
    assert not (log.at % 1000).any()


def test_drawn_sessions_of_a_day_look_like_real_ones(sessions: Sessions) -> None:
    """Measured on real Moodle logs: 1, 2, 3, 4 sessions a day in 38, 23, 15, 9 % of days."""
    _, count = np.unique(sessions.owner * 100_000 + sessions.start // DAY_MS, return_counts=True)
    share = np.bincount(count)[1:5] / len(count)
    assert share == pytest.approx([0.38, 0.23, 0.15, 0.09], abs=0.05)
    assert 4 <= np.median(sessions.count) <= 7


def test_hours_of_the_day_look_like_real_ones(log: LogRows) -> None:
    """Busy from 9 to 17 h, each hour from 1 to 4 h below 0.6 %."""
    share = np.bincount(log.at // 3_600_000 % 24) / len(log)
    assert share[1:5].max() < 0.006
    assert share[9:18].min() > share[:9].max()


def test_the_busiest_day_stays_inside_the_day() -> None:
    """10 000 clicks would fill days at the usual pace: they are drawn faster, into at most 40 sessions."""
    state = clock.after(np.zeros(3, np.uint64), np.arange(3))
    drawn = clock.draw(state, np.array([10_000, 1, 2_000]))
    assert drawn.second.min() >= 0
    assert drawn.second.max() < clock.DAY_S
    found = cut(drawn.day, drawn.second * 1000).sessions
    assert np.array_equal(np.bincount(found.owner), np.bincount(drawn.day, drawn.opens))
    assert np.bincount(found.owner).max() <= clock.MOST_SESSIONS


def test_a_drawn_session_is_a_session_the_pipeline_finds() -> None:
    """On real days: same openings, none joined to its neighbour, none broken by a long gap."""
    clicks = oulad.days().clicks[:30_000]
    drawn = clock.draw(clock.after(np.zeros(len(clicks), np.uint64), np.arange(len(clicks))), clicks)
    found = cut(drawn.day, drawn.second * 1000).sessions
    assert np.array_equal(found.count, np.diff(np.append(np.flatnonzero(drawn.opens), len(drawn.day))))


def test_outcomes_are_all_enrolments_with_their_results() -> None:
    known = oulad.outcomes()
    assert len(known.student) == 4752
    assert int(known.lost.sum()) == 2346
    bbb = oulad.named(["BBB-2013J"])[0]
    assert len(known.enrolled(bbb, 14)) > len(known.enrolled(bbb, 112))


def test_everyone_in_the_log_is_enrolled(log: LogRows) -> None:
    assert set(log.userid.tolist()) <= set(oulad.outcomes().student.tolist())


def test_an_unknown_presentation_is_named() -> None:
    with pytest.raises(ValueError, match="no presentation 'CCC': there are AAA-2013J"):
        oulad.generate(["CCC"])


def test_no_days_make_no_rows() -> None:
    assert len(oulad.generate(["AAA"], last_day=-100)) == 0
