"""A report of a standing model: Markdown with plots beside it, and HTML in one file.

That of a model that ships is its model card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.training import cases
from tools.training.evaluation import DAILY, EVENTS, SILENCE, V1
from tools.training.html_page import to_html
from tools.training.markdown import bracket, number, percent, plain, table


def write(directory: Path, figures: Mapping[str, Any], drawn: Mapping[str, str]) -> list[Path]:
    """Write report.md, report.html, report.json and the plots; return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    text = markdown(figures, list(drawn))
    files = {f"{name}.svg": svg for name, svg in drawn.items()}
    files["report.md"] = text
    files["report.html"] = to_html(text, drawn)
    files["report.json"] = json.dumps(figures, indent=1, sort_keys=True) + "\n"
    for name, content in files.items():
        (directory / name).write_text(content, encoding="utf-8")
    return [directory / name for name in files]


def markdown(figures: Mapping[str, Any], plots: Sequence[str]) -> str:
    """Return the report as Markdown."""
    sections = [
        _head(figures),
        _purpose(figures),
        _data(figures),
        _ranking(figures),
        _plots(plots, ("roc", "precision-recall")),
        _days(figures),
        _plots(plots, ("flagged-by-day", "precision-by-day")),
        _timer(figures),
        _plots(plots, ("lead-time",)),
        _alerts(figures),
        cases.section(figures.get("cases")),
        _reasons(figures),
        _calibration(figures),
        _plots(plots, ("reliability",)),
        _fairness(figures),
        _plots(plots, ("fairness-tpr", "fairness-fpr")),
        _model(figures),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(figures: Mapping[str, Any]) -> str:
    return (
        f"# Report of the risk model {figures['model']['id']}\n\n"
        f"Made by `{figures['command']}`. sha256 `{figures['model']['sha256']}`. The label is "
        f"“{figures['model']['label']}”. {figures['split']}: {figures['looks']['number']:,} weekly looks at "
        f"{figures['looks']['students']:,} enrolled students on the days {figures['days']} of the course; "
        f"{percent(figures['looks']['base_rate'])} of the looks are at students later withdrawn or failed.\n\n"
        "A look sees what a worker has published at the end of that day: the tick of the day before. Brackets are 95 % "
        "intervals from resampling students."
    )


def _purpose(figures: Mapping[str, Any]) -> str:
    alerts = figures["alerts"]
    right = "" if alerts["precision"] is None else f"Of the alerts here, {percent(alerts['precision'])} were right"
    missed = (
        ""
        if alerts["lost_with_an_alert"] is None
        else f"; of those who were lost, {percent(1 - alerts['lost_with_an_alert'])} never had one"
    )
    return (
        "## What it is for, and what not\n\n"
        "**For**: telling a tutor which students of a running course to contact first, and why. The risk compares a "
        "student's activity with that of the students who began the course in the same weeks.\n\n"
        "**Not for**: any automatic action about a person; grading, admission, fees or discipline; comparing courses, "
        f"tutors or institutions; students outside the log. A prediction is not a fact. {right}{missed}.\n\n"
        "**Where it is wrong**\n\n"
        + _withdrawal(figures)
        + "- In the first two weeks nothing ranks students well. No student is in the band HIGH, and none gets an "
        "alert, before the 14th day after the first visit.\n"
        "- It does not see who never came: only a roster does. Where the log is all there is, it does not know who has "
        "left either: a student who has been silent for long is in the band GONE, and may have an alert before that.\n"
        "- The weight of submissions depends on how many there are: with another rhythm of deadlines train again, or "
        "use v2.\n"
        "- The models that ship were fitted on two modules of one distance university. Elsewhere the ranking may hold, "
        "and the level will not: see the calibration, and train the level on own outcomes.\n"
        "- The audit of groups below is of few students. The model knows no attribute of a person, and none may be "
        "used."
    )


def _withdrawal(figures: Mapping[str, Any]) -> str:
    found = figures["withdrawal"]
    if found is None:
        return ""
    top = found["top_0.1"]
    return (
        f"- **A formal withdrawal within {found['days']} days is hardly predictable**, and not what the risk is about: "
        f"it follows {number(found['base_rate'] * 100, 1)} % of the looks, the AUC for it is "
        f"{bracket(found['auc'])}, and of the ten percent with the highest risk "
        f"{number(top['precision'] * 100, 1)} % withdraw in that time. No date should be read from a risk.\n"
    )


def _data(figures: Mapping[str, Any]) -> str:
    data = figures["model"]["data"]
    lines = [f"- {name.replace('_', ' ')}: {plain(value)}" for name, value in data.items()]
    exclusions = [f"- {name}: {count:,}" for name, count in figures["exclusions"].items()]
    parts = ["## Data", f"{figures['fitted']}." if figures.get("fitted") else "", "Trained on:", "\n".join(lines)]
    parts += ["Left out of the evaluation:", "\n".join(exclusions)]
    return "\n\n".join(part for part in parts if part)


def _ranking(figures: Mapping[str, Any]) -> str:
    rows = []
    for row in figures["ranking"]:
        top = [row[f"top_{share}"] for share in ("0.1", "0.2")]
        rows.append(
            [
                _name(figures, row["score"]),
                bracket(row["auc"]),
                bracket(row["daily_minus_this"], signed=True) if "daily_minus_this" in row else "",
                number(row.get("brier")),
                bracket(row["ece"]) if "ece" in row else "",
                *(f"{number(t['precision'], 2)} / {number(t['recall'], 2)}" for t in top),
            ]
        )
    head = ["score", "AUC", "daily minus this", "Brier", "ECE", "top 10 % a week: precision / recall", "top 20 %"]
    return "## How well it ranks\n\n" + table(head, rows)


def _days(figures: Mapping[str, Any]) -> str:
    rows = []
    names = [name for name in (DAILY, V1, SILENCE) if name in figures["by_day"][0]["flagged"]]
    for row in figures["by_day"]:
        flags = [
            f"{number(row['flagged'][name]['share'], 2)} / {number(row['flagged'][name]['precision'], 2)}"
            for name in names
        ]
        auc = [number(row["auc"][name]) for name in names]
        others = [
            f"{number(row['flagged'][name]['share'], 2)} / {number(row['flagged'][name]['precision'], 2)}"
            for name in ("HIGH", "GONE", "alert")
        ]
        rows.append([str(row["day"]), f"{row['students']:,}", number(row["base_rate"], 2), *auc, *flags, *others])
    auc_names = [f"AUC {_name(figures, name)}" for name in names]
    flag_names = [f"{_name(figures, name)} {'≥ 14 d' if name == SILENCE else '> 0.7'}" for name in names]
    head = ["day", "students", "base", *auc_names, *flag_names, "HIGH", "GONE", "alert open"]
    text = (
        "Of flags: their share of the students, and their precision, the share of them later withdrawn or failed. The "
        "risk above 0.7 includes students in the band GONE, for whom no risk is published; so their alerts are closed."
    )
    return f"## By day of the course\n\n{text}\n\n" + table(head, rows)


def _timer(figures: Mapping[str, Any]) -> str:
    leads = figures["leads"]
    if not leads["withdrawn"]:
        return ""
    rows = [
        [
            _name(figures, name),
            *(number(row["before"][str(k)], 2) for k in (1, 14, 28)),
            number(row["precision"], 2),
            "" if row["median_lead"] is None else f"{row['median_lead']:g}",
        ]
        for name, row in leads["scores"].items()
    ]
    head = ["score", "flagged 1 day before", "14 days", "28 days", "precision", "median days flagged without a break"]
    return (
        f"## How early: {leads['withdrawn']} students who withdrew\n\nEach score flags "
        f"{percent(leads['share_flagged'])} of the student-days.\n\n" + table(head, rows)
    )


def _alerts(figures: Mapping[str, Any]) -> str:
    alerts = figures["alerts"]
    labels = {
        "opened": "alerts opened for enrolled students",
        "per_100_students_and_week": "per 100 students and week",
        "precision": "of these, for students later withdrawn or failed",
        "open": "share of student-days with an open alert",
        "lost_with_an_alert": "of those later withdrawn or failed, ever with an alert",
        "open_the_day_before_a_withdrawal": "of those who withdrew, with an open alert the day before",
        "gone_the_day_before_a_withdrawal": "of those who withdrew, in the band GONE the day before",
        "opened_for_students_who_had_left": "opened for students who had left, which the log does not say",
    }
    known = {name: alerts[name] for name in labels if alerts[name] is not None}
    rows = [
        [labels[name], f"{value:,}" if isinstance(value, int) else number(value, 2)] for name, value in known.items()
    ]
    return "## Alerts, by the model's own rule\n\n" + table(["figure", "value"], rows)


def _reasons(figures: Mapping[str, Any]) -> str:
    reasons = figures["reasons"]
    if not reasons["high"]:
        return ""
    names = [name for name in ("VISITS", "SUBMISSIONS", "none") if name in reasons]
    rows = [[name, percent(reasons[name])] for name in names]
    return f"## Reasons given for the {reasons['high']:,} looks in the band HIGH\n\n" + table(["reason", "share"], rows)


def _calibration(figures: Mapping[str, Any]) -> str:
    rows = [
        [_name(figures, score), number(b["mean"], 2), number(b["lost"], 2), f"{b['looks']:,}"]
        for score, bins in figures["calibration"].items()
        for b in bins
    ]
    text = "## Calibration\n\n" + table(["score", "mean risk", "later lost", "looks"], rows)
    if figures.get("elsewhere"):
        shifts = [
            [
                row["course"], f"{row['looks']:,}", number(row["base_rate"], 2), number(row["auc"]),
                number(row["ece"]), row["previous"], number(row["base_shift"], 2), number(row["ece_shifted"]),
            ]
            for row in figures["elsewhere"]
        ]  # fmt: skip
        head = ["course", "looks", "base", "AUC", "ECE", "previous run", "shift to its base [log odds]", "ECE shifted"]
        text += (
            "\n\nA shift of the level (`base_shift`) to the base rate of a course's previous run helps where the base "
            "is another than in training, and hurts where it has moved since:\n\n" + table(head, shifts)
        )
    return text


def _fairness(figures: Mapping[str, Any]) -> str:
    if not figures["fairness"]:
        return "## Groups\n\nNo groups were given (`--groups`): fairness was not audited."
    rows = [
        [
            f"{row['attribute']} {row['group']}", f"{row['students']:,}", number(row["base_rate"], 2),
            number(row["mean_risk"], 2), number(row["flagged"], 2),
            *("" if row[rate] is None else bracket(row[rate]) for rate in ("tpr", "fpr", "ppv")),
        ]
        for row in figures["fairness"]
    ]  # fmt: skip
    head = ["group", "students", "base", "mean risk", "above 0.7", "TPR", "FPR", "PPV"]
    return (
        "## Groups\n\nFor the audit only: the model does not know them. Groups below 20 students are left out.\n\n"
        + table(head, rows)
    )


def _model(figures: Mapping[str, Any]) -> str:
    model = figures["model"]
    terms = " ".join(
        f"{'-' if value < 0 else '+'} {abs(value):.3f} · Δ{name}"
        for name, value in zip(model["features"], model["coefficients"], strict=True)
    )
    level = f"{model['intercept']:.3f}" + (f" + {model['base_shift']:.3f}" if model["base_shift"] else "")
    rows = [
        [f"{name}.{rule}", plain(value)]
        for name in ("cohort", "bands", "gone", "alerts", "reasons")
        for rule, value in model[name].items()
    ]
    rows += [[name, plain(model[name])] for name in ("half_life_days", "publish_change", "timezone")]
    return (
        f"## The model\n\n    logit = {level} {terms}\n\nΔ is a student's figure minus its mean among the peers: `act` "
        "is log(1 + active days, decayed with the half-life), `log1p_silent` is log(1 + days since the last visit), "
        "`submissions` is the number of days with a submission.\n\n" + table(["rule", "value"], rows)
    )


def _name(figures: Mapping[str, Any], score: str) -> str:
    kind = figures["model"]["id"].partition("-")[0]
    names = {DAILY: f"**{kind}, daily**", EVENTS: f"{kind}, events only", V1: "v1", SILENCE: "days silent"}
    return names[score]


def _plots(known: Sequence[str], names: Sequence[str]) -> str:
    return "\n".join(f"![{name}]({name}.svg)" for name in names if name in known)
