"""The plots of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.rules import Float64s
from tools.training import metrics
from tools.training.evaluation import DAILY, EVENTS, SILENCE, V1, Sample
from tools.training.leads import MAX_LEAD
from tools.training.svg import Axis, Line, chart, intervals, share

#: largest number of points of a curve
POINTS = 200


def plots(looks: Sample, figures: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return file name → SVG; name: of the model."""
    labels = {DAILY: name, EVENTS: f"{name}, events only", V1: "v1 (totals)", SILENCE: "days silent"}
    drawn = {
        "reliability": _reliability(figures, labels),
        "roc": _curve("ROC", looks, labels, metrics.roc, "false positive rate", "true positive rate", "bottom right"),
        "precision-recall": _curve(
            "Precision and recall", looks, labels, metrics.precision_recall, "recall", "precision", "top right"
        ),
        "flagged-by-day": _by_day(figures, labels),
        "precision-by-day": _precision_by_day(figures, labels),
    }
    if figures["leads"]["withdrawn"]:
        drawn["lead-time"] = _leads(figures["leads"], labels)
    if figures["fairness"]:
        drawn["fairness-tpr"] = _fairness("Flagged among those later lost", figures["fairness"], "tpr", 0.6)
        drawn["fairness-fpr"] = _fairness("Flagged among the others", figures["fairness"], "fpr", 0.1)
    return drawn


def _reliability(figures: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    lines = [Line("perfect", [0, 1], [0, 1], dashed=True, colour=4)]
    for i, (score, bins) in enumerate(figures["calibration"].items()):
        lines.append(Line(labels[score], [b["mean"] for b in bins], [b["lost"] for b in bins], dots=True, colour=i))
    return chart("Reliability", share("predicted risk"), share("share later lost"), lines)


def _curve(title: str, looks: Sample, labels: Mapping[str, str], curve: Any, x: str, y: str, legend: str) -> str:
    lines = [Line(labels[name], *_thin(*curve(looks.lost, p))) for name, p in looks.scores.items()]
    return chart(title, share(x), share(y), lines, legend=legend)


def _thin(x: Float64s, y: Float64s) -> tuple[list[float], list[float]]:
    """At most POINTS points of a curve, the first and the last among them."""
    rows = np.unique(np.linspace(0, len(x) - 1, POINTS).round().astype(np.int64))
    return x[rows].tolist(), y[rows].tolist()


def _days(rows: Sequence[Mapping[str, Any]]) -> Axis:
    days = [row["day"] for row in rows]
    low, high = min(days), max(days)
    step = max(7, round((high - low) / 8 / 7) * 7)
    return Axis("day of the course", low, max(high, low + 1), list(range(low, high + 1, step)))


def _by_day(figures: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    rows = figures["by_day"]
    names = {DAILY: labels[DAILY] + " above 0.7", "GONE": "GONE", V1: labels[V1] + " above 0.7", SILENCE: "silent 14 d"}
    lines = [
        Line(text, [r["day"] for r in rows], [r["flagged"][name]["share"] for r in rows])
        for name, text in names.items()
        if name in rows[0]["flagged"]
    ]
    return chart("Share flagged", _days(rows), share("share of the enrolled", 0.6), lines, legend="top right")


def _precision_by_day(figures: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    rows = figures["by_day"]
    names = {DAILY: labels[DAILY] + " above 0.7", V1: labels[V1] + " above 0.7", SILENCE: "silent 14 d"}
    lines = [Line("base rate", [r["day"] for r in rows], [r["base_rate"] for r in rows], dashed=True, colour=4)]
    for i, (name, text) in enumerate(names.items()):
        known = [r for r in rows if r["flagged"].get(name, {}).get("precision") is not None]
        y = [r["flagged"][name]["precision"] for r in known]
        lines.append(Line(text, [r["day"] for r in known], y, colour=i))
    return chart("Precision of flags", _days(rows), share("share later lost"), [li for li in lines if li.x])


def _leads(leads: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    days = list(range(MAX_LEAD + 1))
    lines = [Line(labels[name], days, row["curve"]) for name, row in leads["scores"].items()]
    axis = Axis("days before the withdrawal", 0, MAX_LEAD, list(range(0, MAX_LEAD + 1, 14)))
    title = f"Flagged before a withdrawal ({100 * leads['share_flagged']:.0f} % of student-days flagged)"
    return chart(title, axis, share("share of those who withdrew", 0.8), lines, legend="top right")


def _fairness(title: str, rows: Sequence[Mapping[str, Any]], rate: str, high: float) -> str:
    known = [row for row in rows if row[rate] is not None]
    cells = [
        (f"{r['attribute']} {r['group']} ({r['students']})", r[rate]["value"], r[rate]["low"], r[rate]["high"])
        for r in known
    ]
    top = max([high, *(row[rate]["high"] for row in known)])
    return intervals(title, share("share", round(top + 0.05, 1)), cells)
