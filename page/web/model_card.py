"""The model card in words an adviser understands, from the report of `evaluate` or `train`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from app.errors import ConfigError
from page.web import model_figures
from page.web.charts.figure import Figure, percent

#: what is said of the training data, in words: one look is at one student on one day
_DATA = {
    "looks": "days of the looks",
    "train_looks": "number of looks",
    "train_base_rate": "looks at students who later withdrew or failed",
}


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a model."""

    id: str
    #: what the risk is the probability of
    label: str
    #: where the figures come from, in a sentence
    tested: str
    #: what it was trained on: names and values
    data: Sequence[tuple[str, str]]
    #: a heading and sentences, each with a number that stands out
    claims: Sequence[tuple[str, str]]
    #: what it cannot do: the figures of it
    limits: Sequence[str]
    #: how it decides, by name
    rules: Sequence[tuple[str, str]]
    figures: Sequence[Figure]
    fairness: Sequence[Figure]


@cache
def card_of(path: str) -> Card:
    """Return the card in a report, which is read once; path: of a report.json, empty: that of the model that ships.

    Raises ConfigError with one line.
    """
    try:
        if path:
            text = Path(path).read_text("utf-8")
        else:
            text = (files("page") / "data" / "model-card.json").read_text("utf-8")
        return _card(json.loads(text))
    except OSError as error:
        raise ConfigError(f"RISK_PAGE_REPORT: {path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ConfigError(
            f"RISK_PAGE_REPORT: {path} is no report.json of `faust -A app evaluate --report` ({error!r:.100})"
        ) from error


def _card(report: Mapping[str, Any]) -> Card:
    model, looks = report["model"], report["looks"]
    tested = (
        f"{report['split']}: {looks['number']:,} weekly looks at {looks['students']:,} students, on the days "
        f"{report['days']} of the course. {percent(looks['base_rate'])} of the looks were at students who later "
        "withdrew or failed."
    )
    return Card(
        str(model["id"]),
        str(model["label"]),
        tested,
        [(_DATA.get(name, name.replace("_", " ")), _plain(name, value)) for name, value in model["data"].items()],
        _claims(report),
        _limits(report),
        _rules(model),
        model_figures.quality(report),
        model_figures.groups(report),
    )


def _claims(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the figures say, with the number first."""
    ranking, alerts, base = report["ranking"][0], report["alerts"], report["looks"]["base_rate"]
    claims = [
        (
            _of_100(ranking["auc"]["value"]),
            "times the risk ranks them rightly: of two students, one who will be lost and one who will not, the first "
            "has the higher risk. Tossing a coin would be right 50 of 100 times.",
        )
    ]
    top = ranking["top_0.1"]
    claims.append(
        (
            _of_100(top["precision"]),
            "students among the tenth with the highest risk later withdrew or failed. Of all students it was "
            f"{100 * base:.0f} of 100.",
        )
    )
    if alerts["precision"] is not None:
        claims.append(
            (
                _of_100(alerts["precision"]),
                "alerts were right: the student later withdrew or failed. There were "
                f"{alerts['per_100_students_and_week']:.1f} new alerts a week for each 100 students.",
            )
        )
    if alerts["lost_with_an_alert"] is not None:
        claims.append(
            (
                _of_100(1 - alerts["lost_with_an_alert"]),
                "students who were lost never had an alert. No alert does not mean that all is well.",
            )
        )
    return claims


def _limits(report: Mapping[str, Any]) -> list[str]:
    found = []
    withdrawal = report["withdrawal"]
    if withdrawal is not None:
        found.append(
            f"It does not say when. A formal withdrawal within {withdrawal['days']} days is hardly predictable: it "
            f"follows {100 * withdrawal['base_rate']:.1f} of 100 looks, and "
            f"{100 * withdrawal['top_0.1']['precision']:.1f} of 100 looks at the tenth with the highest risk."
        )
    days = report["model"]["bands"]["high_after_days"]
    return [
        *found,
        f"In the first {days} days of a student it hardly tells students apart. Until then nobody is in the band High, "
        "and nobody has an alert.",
        "It does not see who never came: somebody without a single visit is not on these pages. Compare with the list "
        "of those enrolled.",
        "It does not know who has left. Who has been silent for long is in the band Gone: check the enrolment.",
        "It knows visits and submissions, nothing else: no illness, no bereavement, no agreed pause, no work offline.",
        "It was fitted on other courses. Here the order of the students may hold, and the percentages be too high or "
        "too low.",
    ]


def _rules(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    bands, alerts, gone, cohort = model["bands"], model["alerts"], model["gone"], model["cohort"]
    return [
        ("Raised", f"a risk of {percent(bands['raised'])} or more"),
        ("High", f"a risk of {percent(bands['high'])} or more, from day {bands['high_after_days']} of a student on"),
        (
            "Gone",
            f"silent for {gone['silent_days']} days or more, while half of the others were there within "
            f"{gone['median_days']} days: there is no risk",
        ),
        ("Unknown", f"fewer than {cohort['minimum']} students to compare with: there is no risk"),
        (
            "Compared with",
            f"students of the same course whose first visit was within {cohort['weeks']} weeks of this student's",
        ),
        ("Alert opens", f"after {alerts['ticks']} days in a row with a risk of {percent(alerts['on'])} or more"),
        (
            "Alert closes",
            f"after {alerts['ticks']} days in a row with a risk below {percent(alerts['off'])}, or when the student "
            "is in the band Gone",
        ),
        ("Recent days count more", f"a day {model['half_life_days']:g} days ago counts half as much as today"),
    ]


def _of_100(share: float) -> str:
    return f"{100 * share:.0f} of 100"


def _plain(name: str, value: object) -> str:
    """A value of the training data: rates as percentages, numbers with their thousands apart."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float) and name.endswith("rate"):
        return percent(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
