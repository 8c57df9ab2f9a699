"""The log generated from OULAD: real data are preserved exactly, generated times stay within their bounds."""

import numpy as np
import pytest

from models.sessions import Sessions, cut
from tools.replay import click_times, oulad
from tools.replay.log_rows import LogRows

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def log() -> LogRows:
    return oulad.generate()


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    """Those of the clicks: a submission on a day without clicks is a session of its own."""
    log = oulad.generate(submissions=False)
    return cut(np.unique(log.userid, return_inverse=True)[1], log.at).sessions


def test_every_click_of_every_student_and_day_is_one_row(log: LogRows) -> None:
    """Summed over presentations, since a student in two of them has one userid. 3,246 submissions are on days without
    a click, which are rows of their own."""
    clicks, submissions = oulad.load_active_days(), oulad.load_submissions()
    expected = _per_day(clicks, clicks.clicks)
    handed_in = _per_day(submissions, np.ones(len(submissions.day), np.int64))
    alone = {day: count for day, count in handed_in.items() if day not in expected}
    generated = _clicks_per_day(log.userid, log.at, np.ones(len(log), np.int64))
    assert len(log) == clicks.clicks.sum() + sum(alone.values()) == 3_513_263 + 3_246
    assert generated == expected | alone


def test_submissions_are_events_of_their_days(log: LogRows) -> None:
    submissions = oulad.load_submissions()
    is_submission = log.event == log.names.index(oulad.SUBMISSION)
    expected = _per_day(submissions, np.ones(len(submissions.day), np.int64))
    assert is_submission.sum() == len(submissions.day) == 14_647
    assert _clicks_per_day(log.userid[is_submission], log.at[is_submission], is_submission[is_submission]) == expected
    assert oulad.SUBMISSION not in {log.names[i] for i in np.unique(oulad.generate(["AAA"], submissions=False).event)}


def test_a_submission_changes_no_time_of_another_click() -> None:
    """The totals model was trained on the clicks alone."""
    with_them, without = (oulad.generate(["AAA-2013J"], submissions=given) for given in (True, False))
    assert len(with_them) - len(without) == 291
    assert set(zip(without.userid, without.at, strict=True)) <= set(zip(with_them.userid, with_them.at, strict=True))


def test_each_presentation_is_a_course(log: LogRows) -> None:
    """As sites run them: a student in two presentations has one userid and two courses."""
    assert {str(p): p.course for p in oulad.PRESENTATIONS} == {
        "AAA-2013J": 2, "AAA-2014J": 3, "BBB-2013B": 4, "BBB-2013J": 5
    }  # fmt: skip
    enrolments = oulad.load_enrolments()
    enrolled = set(zip(enrolments.student.tolist(), (enrolments.presentation + 2).tolist(), strict=True))
    assert set(zip(log.userid.tolist(), log.more["courseid"].tolist(), strict=True)) <= enrolled


def _per_day(days: oulad.ActiveDays | oulad.Submissions, count: np.ndarray) -> dict[int, int]:
    starts = np.array([p.start_ms for p in oulad.PRESENTATIONS])
    return _clicks_per_day(days.student, starts[days.presentation] + days.day * DAY_MS, count)


def _clicks_per_day(student: np.ndarray, at: np.ndarray, count: np.ndarray) -> dict[int, int]:
    """Return the number of clicks of each (student, UTC day), which is one number."""
    pair, row = np.unique(student * 100_000 + at // DAY_MS, return_inverse=True)
    return dict(zip(pair.tolist(), np.bincount(row, count).astype(int).tolist(), strict=True))


def test_presentations_start_on_the_first_of_february_or_october_utc() -> None:
    starts = {str(p): np.datetime64(p.start_ms, "ms").astype(str) for p in oulad.PRESENTATIONS}
    assert starts["BBB-2013B"] == "2013-02-01T00:00:00.000"
    assert starts["AAA-2014J"] == "2014-10-01T00:00:00.000"


def test_same_seed_gives_the_same_log() -> None:
    first, again, other_seed = (oulad.generate(["AAA"], seed=seed, last_day=10) for seed in (1, 1, 2))
    assert all(np.array_equal(getattr(first, name), getattr(again, name)) for name in ("event", "userid", "at"))
    assert not np.array_equal(first.at, other_seed.at)


def test_seed_1_gives_these_rows(log: LogRows) -> None:
    """The log does not depend on the version of numpy, because its random generators are not used."""
    assert log.at[[0, 1_000_000, 3_000_000]].tolist() == AT
    assert log.userid[[0, 1_000_000, 3_000_000]].tolist() == USERID


AT = [1358899257000, 1371668009000, 1412456500000]
USERID = [547689, 486391, 484897]


def test_students_day_does_not_depend_on_other_rows(log: LogRows) -> None:
    alone = oulad.generate(["BBB-2013B"], last_day=30)
    student = int(alone.userid[0])
    until = oulad.select_presentations(["BBB-2013B"])[0].midnight(31)
    in_whole_log = np.sort(log.at[(log.userid == student) & (log.at < until)])
    assert np.array_equal(np.sort(alone.at[alone.userid == student]), in_whole_log)


def test_limit_keeps_the_first_rows() -> None:
    whole, limited = (oulad.generate(["AAA-2013J"], last_day=5, limit=n) for n in (None, 1000))
    assert len(limited) == 1000
    assert np.array_equal(limited.at, whole.at[:1000])
    assert np.array_equal(limited.userid, whole.userid[:1000])


def test_ids_count_from_1_almost_in_time_order(log: LogRows) -> None:
    assert np.array_equal(log.id, np.arange(1, len(log) + 1))
    delay = log.written - log.at
    assert 0 < (delay > 0).mean() < 0.2
    assert delay.max() < oulad.MAX_REQUEST_MS


def test_times_are_whole_seconds_as_in_moodle(log: LogRows) -> None:
    assert not (log.at % 1000).any()


def test_sessions_per_day_are_distributed_as_in_real_logs(sessions: Sessions) -> None:
    """In real Moodle logs 38, 23, 15, 9 % of days have 1, 2, 3, 4 sessions."""
    _, count = np.unique(sessions.owner * 100_000 + sessions.start // DAY_MS, return_counts=True)
    share = np.bincount(count)[1:5] / len(count)
    assert share == pytest.approx([0.38, 0.23, 0.15, 0.09], abs=0.05)
    assert 4 <= np.median(sessions.count) <= 7


def test_hours_are_distributed_as_in_real_logs(log: LogRows) -> None:
    """Busy from 9 to 17 h; each hour from 1 to 4 h has less than 0.6 % of the events."""
    share = np.bincount(log.at // 3_600_000 % 24) / len(log)
    assert share[1:5].max() < 0.006
    assert share[9:18].min() > share[:9].max()


def test_sessions_of_a_very_busy_day_fit_into_it() -> None:
    """10,000 clicks would take days at the usual rate: gaps are scaled down, in at most 40 sessions."""
    state = click_times.combine(np.zeros(3, np.uint64), np.arange(3))
    clicks = click_times.draw(state, np.array([10_000, 1, 2_000]))
    assert clicks.second.min() >= 0
    assert clicks.second.max() < click_times.DAY_S
    sessions = cut(clicks.day, clicks.second * 1000).sessions
    assert np.array_equal(np.bincount(sessions.owner), np.bincount(clicks.day, clicks.opens))
    assert np.bincount(sessions.owner).max() <= click_times.MAX_SESSIONS


def test_pipeline_finds_exactly_the_generated_sessions() -> None:
    """On real days: no two sessions are joined, and none is split by a long gap."""
    counts = oulad.load_active_days().clicks[:30_000]
    clicks = click_times.draw(click_times.combine(np.zeros(len(counts), np.uint64), np.arange(len(counts))), counts)
    sessions = cut(clicks.day, clicks.second * 1000).sessions
    assert np.array_equal(sessions.count, np.diff(np.append(np.flatnonzero(clicks.opens), len(clicks.day))))


def test_all_enrolments_are_loaded_with_their_results() -> None:
    enrolments = oulad.load_enrolments()
    assert len(enrolments.student) == 4752
    assert int(enrolments.unsuccessful.sum()) == 2346
    bbb = oulad.select_presentations(["BBB-2013J"])[0]
    assert len(enrolments.enrolled(bbb, 14)) > len(enrolments.enrolled(bbb, 112))


def test_every_student_in_the_log_is_enrolled(log: LogRows) -> None:
    assert set(log.userid.tolist()) <= set(oulad.load_enrolments().student.tolist())


def test_unknown_presentation_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown presentation 'CCC': choose from AAA-2013J"):
        oulad.generate(["CCC"])


def test_log_without_days_is_empty() -> None:
    assert len(oulad.generate(["AAA"], last_day=-100)) == 0
