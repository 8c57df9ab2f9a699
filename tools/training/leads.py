"""How early those who withdrew were flagged, by each score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.rules import Bools, Float64s
from tools.training.evaluation import LEADS, Compared, rounded

#: share of the student-days that are flagged where scores are compared by their leads
FLAGGED_SHARE = 0.15
#: days before a withdrawal that a plot of leads has
MAX_LEAD = 56


def leads(compared: Sequence[Compared], days: range) -> dict[str, Any]:
    """Who of those who withdrew was flagged how long before, with 15 % of the student-days flagged by each score."""
    daily = range(days.start, days[-1] + 1)
    result: dict[str, Any] = {"share_flagged": FLAGGED_SHARE, "scores": {}}
    for name in compared[0].scores:
        looks = _student_days(compared, name, daily)
        limit = float(np.quantile(looks[1], 1 - FLAGGED_SHARE))
        flagged = looks[1] > limit
        before = np.concatenate([_flags_before(each, name, limit, daily) for each in compared])
        result["withdrawn"] = len(before)
        if not len(before):
            break
        last = before[:, 1]
        lead = np.array([_continuous(row) for row in before[last][:, 1:]])
        result["scores"][name] = {
            "flagged": rounded(float(flagged.mean())),
            "precision": rounded(float(looks[0][flagged].mean())) if flagged.any() else None,
            "before": {str(k): rounded(float(before[:, k].mean())) for k in LEADS},
            "curve": [rounded(float(share)) for share in before.mean(0)],
            "median_lead": float(np.median(lead)) if len(lead) else None,
        }
    return result


def _student_days(compared: Sequence[Compared], name: str, days: range) -> tuple[Bools, Float64s]:
    looks = [
        (each.scored.run.lost[rows], each.scores[name][i, rows])
        for each in compared
        for day in each.scored.run.landmarks(days)
        for i in [each.scored.at(day)]
        for rows in [np.flatnonzero(each.scored.run.enrolled(day) & ~np.isnan(each.scores[name][i]))]
    ]
    lost, p = zip(*looks, strict=True)
    return np.concatenate(lost), np.concatenate(p)


def _flags_before(each: Compared, name: str, limit: float, days: range) -> Bools:
    """Whether each student who withdrew [w] was flagged 0 … MAX_LEAD days before the last day [w, MAX_LEAD + 1]."""
    run, cells = each.scored.run, each.scores[name]
    first, last = run.start + days.start + LEADS[1], run.last_day
    # the day of the withdrawal is the one after the last day of the enrolment
    who = np.flatnonzero(run.withdrawn & (run.last + 1 > first) & (run.last + 1 <= last))
    who = who[(each.scored.silent[-1, who] >= 0)]
    flags = np.zeros((len(who), MAX_LEAD + 1), np.bool_)
    for k in range(MAX_LEAD + 1):
        i = run.last[who] + 1 - k - run.first_day
        inside = i >= 0
        flags[inside, k] = np.nan_to_num(cells[i[inside], who[inside]], nan=-1.0) > limit
    return flags


def _continuous(flags: Bools) -> int:
    """For how many days a student had been flagged without a break."""
    off = np.flatnonzero(~flags)
    return int(off[0]) if len(off) else len(flags)
