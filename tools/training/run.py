"""What the commands `train` and `evaluate` do."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.errors import ConfigError
from app.model_file import TOTALS, WITHOUT_SUBMISSIONS, load
from app.settings import Settings
from models.standing import StandingModel
from tools.training import cases, inputs, report, totals, train
from tools.training.evaluation import Compared
from tools.training.figures import elsewhere, figures, summary
from tools.training.inputs import Input, Source
from tools.training.looks import DAYS
from tools.training.plots import plots
from tools.training.standing import WITH_SUBMISSIONS, WITHOUT

#: number of refused rows that are named
NAMED = 10


def train_totals(output: Path, seed: int) -> list[str]:
    """Train the totals model on the shipped students; return lines to print."""
    model = totals.write(output, seed)
    metrics = [f"  {name}: {value}" for name, value in sorted(model.metrics.items())]
    return [f"{output}: model {TOTALS}, sha256 {model.sha256[:12]}", *metrics]


def train_shipped(output: Path, kind: str, directory: Path | None, groups: Path | None, seed: int) -> list[str]:
    """Train a standing model on the shipped students, and evaluate it; return lines to print."""
    data = inputs.load_oulad(None, groups, seed)
    model = train.train_shipped(data, kind)
    runs = data.named(train.TEST)
    compared = [train.compare(run, model) for run in runs]
    split = f"trained on {', '.join(train.TRAIN)}, tested on {', '.join(train.TEST)}"
    return _finish(data, model, compared, output, directory, DAYS, split=split, fitted="", extra=True)


def train_own(
    source: Source, settings: Settings, output: Path, test: Sequence[str], days: range, directory: Path | None
) -> list[str]:
    """Train a standing model on own students, and evaluate it; return lines to print. Raises ConfigError."""
    data = _load(source, settings)
    features = WITH_SUBMISSIONS if data.has_submissions else WITHOUT
    base = _standing("v2s" if data.has_submissions else WITHOUT_SUBMISSIONS)
    trained = train.train(data, base, features=features, test=test, days=days)
    return _finish(
        data, trained.model, trained.compared, output, directory, days, split=trained.split, fitted=trained.fitted
    )


def evaluate_own(
    source: Source, settings: Settings, name: str, test: Sequence[str], days: range, directory: Path | None
) -> list[str]:
    """Evaluate a model on own students; return lines to print. Raises ConfigError."""
    model, data = _standing(name), _load(source, settings)
    runs = data.named(test) if test else list(data.runs)
    compared = [train.compare(run, model, settings.alert_budget) for run in runs]
    split = f"evaluated on {', '.join(run.name for run in runs)}"
    return _finish(data, model, compared, None, directory, days, split=split, fitted="")


def report_shipped(name: str, directory: Path, groups: Path | None) -> list[str]:
    """Write the report of a model on the shipped students that the models that ship were not trained on."""
    model, data = _standing(name), inputs.load_oulad(None, groups)
    runs = data.named(train.TEST)
    compared = [train.compare(run, model) for run in runs]
    split = f"tested on {', '.join(train.TEST)}, which the models that ship were not trained on"
    return _finish(data, model, compared, None, directory, DAYS, split=split, fitted="", extra=True)


def _finish(
    data: Input,
    model: StandingModel,
    compared: Sequence[Compared],
    output: Path | None,
    directory: Path | None,
    days: range,
    *,
    split: str,
    fitted: str,
    extra: bool = False,
) -> list[str]:
    """Evaluate, write the artefact and the report; return lines to print."""
    if not any(run.landmarks(days) for run in (each.scored.run for each in compared)):
        raise ConfigError(f"the log ends before day {days[0]} of every course: there is nothing to evaluate")
    result, looks = figures(data, model, compared, days=days, split=split, fitted=fitted, command=_command())
    lines = [line for line in (fitted, split) if line]
    if output is not None:
        kept = summary(result)
        model = replace(model, metrics=kept)
        output.write_text(model.to_json(), encoding="utf-8")
        result["model"] |= {"metrics": kept, "id": model.id, "sha256": model.sha256}
        lines.append(f"{output}: model {model.id}")
    if extra:
        result["elsewhere"] = elsewhere(data, model)
    lines += _table(result)
    if directory is not None:
        written = report.write(directory, result, plots(looks, result, model.id.partition("-")[0]))
        lines.append(f"{directory}: {', '.join(path.name for path in written)}")
    return lines


def _table(result: Mapping[str, Any]) -> list[str]:
    lines = []
    for row in result["ranking"]:
        auc = row["auc"]
        ece = f", ECE {row['ece']['value']:.3f}" if "ece" in row else ""
        lines.append(f"  {row['score']:<12} AUC {auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]{ece}")
    alerts = result["alerts"]
    precision = "" if alerts["precision"] is None else f", precision {alerts['precision']:.2f}"
    lines.append(f"  alerts: {alerts['per_100_students_and_week']:.1f} per 100 students and week{precision}")
    return lines + ([] if result["cases"] is None else cases.lines(result["cases"]))


def _standing(name: str) -> StandingModel:
    model = load(name)
    if not isinstance(model, StandingModel):
        raise ConfigError(f"--model {name}: a totals model is only compared with, in every report")
    return model


def _load(source: Source, settings: Settings) -> Input:
    """Load the input, and name refused rows on stderr."""
    data = inputs.load(source, settings)
    for file, refused in (("outcomes", data.refused), ("groups", data.groups.refused), ("cases", data.refused_cases)):
        for row in refused[:NAMED]:
            print(f"moodle-risk: {file}, {row}: refused", file=sys.stderr)
        if len(refused) > NAMED:
            print(f"moodle-risk: {file}: {len(refused) - NAMED:,} more rows refused", file=sys.stderr)
    return data


def _command() -> str:
    """The command that is being run, for the report."""
    arguments = sys.argv[1:]
    if "train" not in arguments and "evaluate" not in arguments:
        return "faust -A app train"
    return shlex.join(["faust", *arguments])
