"""The log as training sees it: what each row is to the risk, by the rules that the worker applies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.counting import ACTED_AS, ANONYMOUS, ORIGIN, ORIGINS, SUBMITTED, CountingRules, RiskColumns, judge
from models.days import MAX_BEHIND_MS
from models.rules import NEVER, Bools, Int64s
from models.visits import COUNTED, EXTRA, SUBMISSION, Visits
from tools.replay.log_rows import LogRows


@dataclass(frozen=True)
class CountedLog:
    """n rows in arrival order; a submission handed in by somebody else is a row of its own that follows (EXTRA)."""

    student: Int64s
    #: courseid [n], 0: none
    course: Int64s
    #: event time [n] ms
    at: Int64s
    #: bits of models/visits.py [n]
    kind: Int64s
    #: reason → number of rows that do not count
    not_counted: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.student)

    @property
    def stream_time(self) -> Int64s:
        """The latest event time up to each row [n] ms."""
        return np.maximum.accumulate(self.at)

    @property
    def counts(self) -> Bools:
        """Which rows set a bit [n]."""
        before = np.append(NEVER, self.stream_time[:-1])[: len(self)]
        counts: Bools = ((self.kind & COUNTED) != 0) & (self.at >= before - MAX_BEHIND_MS)
        return counts

    @property
    def submissions(self) -> Bools:
        """Which rows are submissions that count [n]."""
        submissions: Bools = self.counts & ((self.kind & SUBMISSION) != 0)
        return submissions

    @property
    def visits(self) -> Bools:
        """Which rows are events of the log, as KSQL counts them [n]."""
        visits: Bools = (self.kind & EXTRA) == 0
        return visits

    @property
    def has_courses(self) -> bool:
        """Whether any row has a course."""
        return bool((self.course > 0).any())


def count_rows(rows: LogRows, rules: CountingRules) -> CountedLog:
    """Return the rows of a file, or generated ones; those without userid or time are left out."""
    n, zero = len(rows), np.zeros(len(rows), np.int64)

    def column(name: str) -> Int64s:
        return np.where(rows.null(name), 0, rows.more.get(name, zero))

    submitted = np.isin(rows.event, [i for i, name in enumerate(rows.names) if name in rules.submission_events])
    marks = np.where(submitted, SUBMITTED, 0) | np.where(column("realuserid") != 0, ACTED_AS, 0)
    marks |= np.where(column("anonymous") != 0, ANONYMOUS, 0)
    if rows.origin is not None:
        known = np.array([name in ORIGINS for name in rows.origin.names], np.bool_)[rows.origin.index]
        marks |= np.where(known | rows.null("origin"), 0, ORIGIN)
    course = column("courseid") if rules.per_course else zero
    columns = RiskColumns(course, np.where(submitted, column("relateduserid"), 0), marks.astype(np.uint8))
    valid = ~rows.null("timecreated") & (rows.at >= 0)
    judged = judge(rules, np.where(rows.null("userid"), 0, rows.userid), columns)
    extra = np.flatnonzero(judged.other)
    order = np.argsort(np.append(np.arange(n), extra), kind="stable")

    def with_extra(own: Int64s, others: Int64s) -> Int64s:
        return np.append(own, others)[order]

    keep = with_extra(valid.astype(np.int64), valid[extra].astype(np.int64)) > 0
    handed_in = np.full(len(extra), COUNTED | SUBMISSION | EXTRA)
    return CountedLog(
        with_extra(rows.userid, judged.other[extra])[keep],
        with_extra(judged.course, judged.course[extra])[keep],
        with_extra(rows.at, rows.at[extra])[keep],
        with_extra(judged.kind.astype(np.int64), handed_in)[keep],
        judged.not_counted(),
    )


def of_visits(visits: Visits, not_counted: Mapping[str, int]) -> CountedLog:
    """Return the rows that a worker's decoder has read for the risk."""
    assert visits.course is not None, "read for the risk"
    assert visits.kind is not None, "read for the risk"
    keep = ~visits.null
    return CountedLog(
        visits.student[keep], visits.course[keep], visits.at[keep], visits.kind[keep].astype(np.int64), not_counted
    )
