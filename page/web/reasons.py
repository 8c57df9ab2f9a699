"""The reasons of an entry, each with the student's figure beside the median of those compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from models.assessment import Figure
from page.web.charts.bars import beside_median

#: what a figure is, and the length of its axis (0: as long as the values need, and at least a fortnight for silence)
_FIGURES = {
    Figure.DAYS_SILENT.name.lower(): ("Days since the last visit", 14),
    Figure.ACTIVE_DAYS_14.name.lower(): ("Days with a visit, of the last 14", 14),
    Figure.ACTIVE_DAYS_28.name.lower(): ("Days with a visit, of the last 28", 28),
    Figure.SUBMISSIONS.name.lower(): ("Days with a submission so far", 0),
}
#: what a reason adds to the logit, from how much on, in a word; 1 multiplies the odds by 2.7
_STRENGTHS = ((1.0, "strong"), (0.4, "clear"), (0.0, "slight"))


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason: its sentence, how much it weighs in a word, and, if both are known, own figure and median."""

    text: str
    strength: str = ""
    label: str = ""
    picture: Markup | None = None


def reasons_of(rows: Iterable[Mapping[str, Any]]) -> list[Reason]:
    """Return the reasons of an entry. Fields that are not as documented are left out."""
    return [_reason(row) for row in rows]


def _reason(row: Mapping[str, Any]) -> Reason:
    sentence = str(row.get("TEXT", ""))
    sentence = sentence[:1].upper() + sentence[1:]
    own, median, weight = row.get("OWN"), row.get("MEDIAN"), row.get("WEIGHT")
    label, most = _FIGURES.get(str(row.get("FIGURE")), ("", 0))
    strength = ""
    if isinstance(weight, int | float):
        strength = next((word for low, word in _STRENGTHS if weight >= low), "")
    if not label or type(own) is not int or type(median) is not int:
        return Reason(sentence, strength)
    own, median = min(max(own, 0), 9_999), min(max(median, 0), 9_999)
    picture = beside_median(own, median, most, f"{label}: this student {own}, median {median}.")
    return Reason(sentence, strength, label, picture)
