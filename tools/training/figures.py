"""All figures of a report, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from models.standing import StandingModel
from tools.training import cases, evaluation, metrics
from tools.training.evaluation import DAILY, V1, Compared, Sample
from tools.training.inputs import Input
from tools.training.leads import leads
from tools.training.looks import take_looks
from tools.training.standing import base_shift, probability
from tools.training.train import SECOND_TEST, TEST, TRAIN


def figures(
    data: Input,
    model: StandingModel,
    compared: Sequence[Compared],
    *,
    days: range,
    split: str,
    fitted: str,
    command: str,
) -> tuple[dict[str, Any], Sample]:
    """Return the figures of a model that was not trained on the students it is compared on, and the looks at them."""
    looks = evaluation.sample(compared, days)
    _, without = take_looks([each.scored.run for each in compared], model.cohort, model.half_life_days, days)
    result = {
        "model": {**asdict(model), "id": model.id, "sha256": model.sha256},
        "command": command,
        "split": split[:1].upper() + split[1:],
        "fitted": fitted[:1].upper() + fitted[1:],
        "days": f"{days[0]} to {days[-1]}",
        "looks": {
            "number": len(looks),
            "students": len(np.unique(looks.student)),
            "base_rate": round(float(looks.lost.mean()), 4),
        },
        "exclusions": {
            **data.exclusions,
            "looks at students with too few peers": without,
        },
        "ranking": evaluation.ranking(looks, (DAILY, evaluation.EVENTS, V1)),
        "by_day": evaluation.by_day(evaluation.sample(compared, _all_weeks(days)), model.bands.high),
        "leads": leads(compared, days),
        "alerts": evaluation.alerts(compared, days),
        "cases": None if data.cases is None else cases.figures(compared, data.cases),
        "reasons": evaluation.reasons(looks, model),
        "withdrawal": evaluation.withdrawal(looks),
        "calibration": {name: evaluation.calibration(looks, name) for name in (DAILY, V1)},
        "fairness": evaluation.fairness(looks, data.groups.attributes, model.bands.high),
    }
    return result, looks


def _all_weeks(days: range) -> range:
    """The weekly looks, and those of the week before the first."""
    return range(min(days.start, 7), days.stop, days.step)


def elsewhere(data: Input, model: StandingModel) -> list[dict[str, Any]]:
    """Calibration on the shipped presentations that the model was not trained on, as it is and with its level shifted
    to the base rate of the previous run of the same module."""
    trained, _ = take_looks(data.named(TRAIN), model.cohort, model.half_life_days)
    rows = []
    for name in (*TEST, *SECOND_TEST):
        module = name.partition("-")[0]
        (run,) = data.named([name])
        before = [other for other in data.runs if other.name.startswith(module) and other.start < run.start]
        previous = max(before, key=lambda other: other.start)
        looks, _ = take_looks([run], model.cohort, model.half_life_days)
        earlier, _ = take_looks([previous], model.cohort, model.half_life_days)
        shift = base_shift(float(earlier.lost.mean()), float(trained.lost.mean()))
        p = probability(model, looks)
        shifted = 1 / (1 + (1 / p - 1) * np.exp(-shift))
        rows.append(
            {
                "course": name,
                "looks": len(looks),
                "base_rate": round(float(looks.lost.mean()), 4),
                "auc": round(metrics.auc(looks.lost, p), 4),
                "ece": round(metrics.calibration_error(looks.lost, p), 4),
                "previous": previous.name,
                "base_shift": round(shift, 4),
                "ece_shifted": round(metrics.calibration_error(looks.lost, shifted), 4),
            }
        )
    return rows


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that the artefact keeps."""
    by_name = {row["score"]: row for row in result["ranking"]}
    daily = by_name[DAILY]
    kept = ("opened", "per_100_students_and_week", "precision")
    return {
        "split": result["split"],
        "looks": result["looks"],
        "auc": daily["auc"],
        "brier": daily["brier"],
        "ece": daily["ece"],
        "auc_of_v1": by_name[V1]["auc"]["value"],
        "auc_of_silence": by_name[evaluation.SILENCE]["auc"]["value"],
        "auc_by_events_only": by_name[evaluation.EVENTS]["auc"]["value"],
        "alerts": {name: result["alerts"][name] for name in kept},
    }
