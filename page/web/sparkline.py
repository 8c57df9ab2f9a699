"""The small picture of a risk's history in a row of the list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from page.web.words import percent

#: days shown, and the size of the picture in its own units, ten to a pixel
DAYS = 56
WIDTH, HEIGHT, _PAD = 960, 280, 30


@dataclass(frozen=True, slots=True)
class Sparkline:
    """Lines within WIDTH by HEIGHT, the newest risk at the right, and the same in words."""

    #: `points` of polylines: a risk stays what it is until the next one
    lines: list[str]
    #: place of the newest risk, None if there is none now
    end: tuple[int, int] | None
    text: str


def sparkline(history: Sequence[tuple[int, int | None]], today: int) -> Sparkline | None:
    """Draw a history: (day, risk in 1e-4, None where there is none), by day; None for fewer than two risks.

    The first may be older than the picture: it is the one in force where the picture begins.
    """
    risks = [risk for _, risk in history if risk is not None]
    if len(risks) < 2:
        return None
    lines: list[str] = []
    points: list[str] = []
    last: int | None = None
    for day, risk in history:
        x = _x(min(max(day, today - DAYS), today), today)
        if last is not None:
            points.append(f"{x},{_y(last)}")
        if risk is None:
            if points:
                lines.append(" ".join(points))
            points = []
        elif last is None or risk != last:
            points.append(f"{x},{_y(risk)}")
        last = risk
    end = None
    if last is not None:
        end = (_x(today, today), _y(last))
        lines.append(" ".join([*points, f"{end[0]},{end[1]}"]))
    now = "no risk now" if last is None else f"now {percent(last)}"
    text = f"Risk in the last 8 weeks: lowest {percent(min(risks))}, highest {percent(max(risks))}, {now}"
    return Sparkline(lines, end, text.replace("\u00a0", " "))


def _x(day: int, today: int) -> int:
    return WIDTH - _PAD - (WIDTH - 2 * _PAD) * (today - day) // DAYS


def _y(risk: int) -> int:
    return HEIGHT - _PAD - (HEIGHT - 2 * _PAD) * risk // 10_000
