"""The figures of a report: what a standing model would have said, against what became of the students."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from models.assessment import Band
from models.rules import Bools, Float64s, Int64s
from models.standing import SUBMISSIONS, StandingModel
from tools.training import metrics
from tools.training.metrics import Interval
from tools.training.scored import Risks, Scored

#: how many days before a withdrawal a student should be flagged
LEADS = (1, 14, 28)
#: smallest group of students whose figures are shown
MIN_GROUP = 20
#: shares of each week's students for whom there may be time
TOP_SHARES = (0.1, 0.2)


@dataclass(frozen=True)
class Sample:
    """n looks at students who are enrolled, have an outcome, and a daily score."""

    #: one number for each student in a run [n]
    student: Int64s
    #: id in the log [n]
    userid: Int64s
    #: days since the start of the course [n]
    day: Int64s
    lost: Bools
    #: name of a score → that score [n]; 0 where there is none, since nobody would have been told anything
    scores: Mapping[str, Float64s]
    #: whether the student withdrew in the 28 days after the look [n]
    leaves: Bools
    band: Int64s
    alert: Bools
    visits_reason: Bools
    submissions_reason: Bools

    def __len__(self) -> int:
        return len(self.student)

    def take(self, rows: Int64s | Bools) -> Sample:
        """The looks at `rows`."""
        columns = {name: cells[rows] for name, cells in vars(self).items() if name != "scores"}
        return replace(self, **columns, scores={name: p[rows] for name, p in self.scores.items()})


@dataclass(frozen=True)
class Compared:
    """A course run scored by the model, and by what it is compared with."""

    scored: Scored
    #: name of a score → the score at the end of each day [d, m], nan for none
    scores: Mapping[str, Risks]


#: names of scores: by the tick of the day before, by events alone, by the totals model, and days without a visit
DAILY, EVENTS, V1, SILENCE = "daily", "events only", "v1", "silence"


def sample(compared: Sequence[Compared], days: range) -> Sample:
    """Return the looks at the end of each of `days` after the start of each course."""
    parts: list[dict[str, Any]] = []
    offset = 0
    for each in compared:
        run, scored = each.scored.run, each.scored
        for day in run.landmarks(days):
            i = scored.at(day)
            cells = {name: rows[i].astype(np.float64) for name, rows in each.scores.items()}
            rows = np.flatnonzero(run.enrolled(day) & ~np.isnan(cells[DAILY]))
            parts.append(
                {
                    "student": offset + rows,
                    "userid": run.student[rows],
                    "day": np.full(len(rows), day - run.start),
                    "lost": run.lost[rows],
                    "scores": {name: np.nan_to_num(p[rows]) for name, p in cells.items()},
                    "leaves": (run.withdrawn & (run.last < day + LEADS[-1]))[rows],
                    "band": scored.band[i, rows].astype(np.int64),
                    "alert": scored.alert[i, rows],
                    "visits_reason": scored.visits_reason[i, rows],
                    "submissions_reason": scored.submissions_reason[i, rows],
                }
            )
        offset += len(run.student)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "scores"}
    scores = {name: np.concatenate([part["scores"][name] for part in parts]) for name in parts[0]["scores"]}
    return Sample(**columns, scores=scores)


def ranking(looks: Sample, probabilities: Sequence[str]) -> list[dict[str, Any]]:
    """How well each score ranks; Brier score and calibration of `probabilities` only."""
    rows = []
    y = looks.lost
    for name, p in looks.scores.items():
        row: dict[str, Any] = {"score": name, "looks": len(y)}
        row["auc"] = _interval(metrics.bootstrap(metrics.weighted_auc, y, p, looks.student))
        if name != DAILY:
            row["daily_minus_this"] = _interval(metrics.difference(y, looks.scores[DAILY], p, looks.student))
        if name in probabilities:
            row["brier"] = rounded(metrics.brier(y, p))
            row["ece"] = _interval(metrics.bootstrap(metrics.weighted_calibration_error, y, p, looks.student))
        for share in TOP_SHARES:
            precision, recall = metrics.top(y, p, looks.day, share)
            row[f"top_{share:g}"] = {"precision": rounded(precision), "recall": rounded(recall)}
        rows.append(row)
    return rows


def by_day(looks: Sample, high: float) -> list[dict[str, Any]]:
    """AUC of each score by day, and the share and precision of those above `high`, in HIGH, and in GONE."""
    rows = []
    for day in np.unique(looks.day).tolist():
        part = looks.take(looks.day == day)
        row: dict[str, Any] = {"day": day, "students": len(part), "base_rate": rounded(float(part.lost.mean()))}
        row["auc"] = {name: rounded(metrics.auc(part.lost, p)) for name, p in part.scores.items()}
        flagged = {
            DAILY: part.scores[DAILY] > high,
            "HIGH": part.band == Band.HIGH,
            "GONE": part.band == Band.GONE,
            "alert": part.alert,
            SILENCE: part.scores[SILENCE] >= 14,
        } | ({V1: part.scores[V1] > high} if V1 in part.scores else {})
        row["flagged"] = {name: _share(part.lost, which) for name, which in flagged.items()}
        rows.append(row)
    return rows


def alerts(compared: Sequence[Compared], days: range) -> dict[str, Any]:
    """Alerts by the model's own rule: how many, how precise, and who of those lost ever had one."""
    daily = range(days.start, days[-1] + 1)
    opened = enrolled_opened = lost_opened = gone_opened = student_days = 0
    ever = lost = open_days = 0
    before: list[bool] = []
    gone: list[bool] = []
    for each in compared:
        run, scored = each.scored.run, each.scored
        looked = np.zeros(len(run.student), np.bool_)
        for day in run.landmarks(daily):
            i = scored.at(day)
            present = run.enrolled(day) & (scored.silent[i] >= 0)
            student_days += int(present.sum())
            open_days += int(scored.alert[i][present].sum())
            looked |= present
            new = scored.opened[scored.opened_day == i]
            opened += len(new)
            enrolled_opened += int(present[new].sum())
            lost_opened += int((present & run.lost)[new].sum())
            gone_opened += int((run.known & ~present)[new].sum())
        had = np.zeros(len(run.student), np.bool_)
        inside = np.isin(scored.opened_day, [scored.at(day) for day in run.landmarks(daily)])
        had[scored.opened[inside]] = True
        ever += int((had & looked & run.lost).sum())
        lost += int((looked & run.lost).sum())
        first, last = run.start + days.start + LEADS[1], run.last_day
        who = np.flatnonzero(run.withdrawn & (run.last + 1 > first) & (run.last + 1 <= last))
        who = who[scored.silent[-1, who] >= 0]
        before += scored.alert[run.last[who] - run.first_day, who].tolist()
        gone += (scored.band[run.last[who] - run.first_day, who] == Band.GONE).tolist()
    weeks = student_days / 7
    return {
        "opened": enrolled_opened,
        "per_100_students_and_week": rounded(100 * enrolled_opened / weeks),
        "precision": rounded(lost_opened / enrolled_opened) if enrolled_opened else None,
        "opened_for_students_who_had_left": gone_opened,
        "open": rounded(open_days / student_days),
        "lost_with_an_alert": rounded(ever / lost) if lost else None,
        "open_the_day_before_a_withdrawal": rounded(float(np.mean(before))) if before else None,
        "gone_the_day_before_a_withdrawal": rounded(float(np.mean(gone))) if gone else None,
    }


def reasons(looks: Sample, model: StandingModel) -> dict[str, Any]:
    """How often each reason is given for a risk in HIGH."""
    high = looks.take(looks.band == Band.HIGH)
    n = len(high)
    none = ~(high.visits_reason | high.submissions_reason)
    rows: dict[str, Any] = {"high": n}
    if n:
        rows |= {"VISITS": rounded(high.visits_reason.mean()), "none": rounded(none.mean())}
        if SUBMISSIONS in model.features:
            rows["SUBMISSIONS"] = rounded(high.submissions_reason.mean())
    return rows


def withdrawal(looks: Sample) -> dict[str, Any] | None:
    """How well the daily score finds those who withdraw within 28 days; None if nobody does."""
    y = looks.leaves
    if not y.any() or y.all():
        return None
    precision, recall = metrics.top(y, looks.scores[DAILY], looks.day, TOP_SHARES[0])
    auc = metrics.bootstrap(metrics.weighted_auc, y, looks.scores[DAILY], looks.student)
    return {
        "days": LEADS[-1],
        "base_rate": rounded(y.mean()),
        "auc": _interval(auc),
        "top_0.1": {"precision": rounded(precision), "recall": rounded(recall)},
    }


def calibration(looks: Sample, name: str) -> list[dict[str, Any]]:
    """The calibration curve of a score."""
    return [
        {"mean": rounded(mean), "lost": rounded(share), "looks": n}
        for mean, share, n in metrics.reliability(looks.lost, looks.scores[name])
    ]


def fairness(looks: Sample, attributes: Mapping[str, Mapping[int, str]], high: float) -> list[dict[str, Any]]:
    """Figures of groups of at least MIN_GROUP students, at all looks; flagged: above `high`."""
    rows = []
    flagged = looks.scores[DAILY] > high
    for attribute, groups in attributes.items():
        of = np.array([groups.get(user, "") for user in looks.userid.tolist()])
        for group in sorted(set(of.tolist()) - {""}):
            part = of == group
            if len(np.unique(looks.student[part])) < MIN_GROUP:
                continue
            y, flag, student = looks.lost[part], flagged[part], looks.student[part]
            rows.append(
                {
                    "attribute": attribute,
                    "group": group,
                    "students": len(np.unique(student)),
                    "base_rate": rounded(y.mean()),
                    "mean_risk": rounded(looks.scores[DAILY][part].mean()),
                    "flagged": rounded(flag.mean()),
                    "tpr": _rate(y, flag, student),
                    "fpr": _rate(~y, flag, student),
                    "ppv": _rate(flag, y, student),
                }
            )
    return rows


def _rate(among: Bools, which: Bools, student: Int64s) -> dict[str, Any] | None:
    """The share of `which` among some looks, with its interval over students; None if there are none."""
    if not among.any():
        return None

    def share(y: Bools, p: Float64s, weight: Float64s) -> float:
        total = (weight * y).sum()
        return float((weight * y * p).sum() / total) if total else float("nan")

    return _interval(metrics.bootstrap(share, among, which.astype(np.float64), student))


def _share(lost: Bools, flagged: Bools) -> dict[str, Any]:
    precision = rounded(float(lost[flagged].mean())) if flagged.any() else None
    return {"share": rounded(float(flagged.mean())), "precision": precision}


def _interval(interval: Interval) -> dict[str, float]:
    return {name: rounded(value) for name, value in asdict(interval).items()}


def rounded(value: float) -> float:
    """Return a figure as a report keeps it."""
    return round(float(value), 4)
