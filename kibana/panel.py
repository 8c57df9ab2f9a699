"""What a panel is, and the limit above which a prediction is a warning."""

from __future__ import annotations

from dataclasses import dataclass

from lens import Chart

from models.predictions import THRESHOLD

#: a prediction is a warning if this matches: the rule of the app and of ksql/5_moodle_logs_prediction_in_risk.sql
IN_RISK = f"PREDICTION > {THRESHOLD:g}"
LIMIT = f"{THRESHOLD:.0%}"


@dataclass(frozen=True)
class Panel:
    """A panel: a chart or a Markdown text."""

    id: str
    #: x, y, width and height; the grid has 48 columns
    position: tuple[int, int, int, int]
    title: str
    content: Chart | str
    #: shown on hovering the "i" of the panel
    description: str = ""
    #: ignore the time picker, because the current state includes students last seen before its range
    all_time: bool = False
