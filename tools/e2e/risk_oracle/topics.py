"""Check the risk topics of a worker, and the predictions that follow from them, against a log that was replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.model_file import load_models
from app.settings import Settings
from tools.e2e.read_topic import Record
from tools.e2e.risk_oracle.check import RiskCheck
from tools.e2e.risk_oracle.days import Calendar
from tools.e2e.risk_oracle.log import Counting, read
from tools.e2e.risk_oracle.predictions import prediction_differences
from tools.e2e.risk_oracle.rows import log_rows
from tools.e2e.risk_oracle.rules import Rules
from tools.e2e.risk_oracle.standing import Standing
from tools.replay.log_rows import LogRows


@dataclass(frozen=True, slots=True)
class RiskVerdict:
    """The comparison of the risk topics with the oracle."""

    #: rows of MOODLE_RISK and of MOODLE_RISK_ALERTS, and days that were scored
    rows: int
    alerts: int
    ticks: int
    #: one line for each of the first differences
    differences: list[str]


def judge_risk(
    settings: Settings, rows: LogRows, topics: Mapping[str, Sequence[Record]], *, in_order: bool = False
) -> RiskVerdict:
    """Compare MOODLE_RISK, MOODLE_RISK_ALERTS and, with a standing model, MOODLE_LOGS_PREDICTION with the oracle.

    rows: the log, of which no row may be late by a day; topics: by unprefixed name; in_order: see RiskCheck.
    """
    models = load_models(settings.model)
    model = None if models is None else models.for_log(with_events=True).standing
    if models is None or model is None:
        raise ValueError(f"RISK_MODEL={settings.model}: there is no MOODLE_RISK")
    calendar = Calendar(settings.timezone)
    per_course = settings.courses == "per-course" and "courseid" in rows.more
    counting = Counting(settings.submission_names, settings.ignored_users, per_course)
    rules = Rules(Standing.of(model.id, model.to_json()), counting, calendar, settings.alert_budget)
    log, risk, alerts = log_rows(rows), topics["MOODLE_RISK"], topics["MOODLE_RISK_ALERTS"]
    history = read(log, counting, calendar, model.cohort.forget_days)
    check = RiskCheck(rules, log, history, risk, alerts, in_order=in_order)
    lines = check.run()
    if models.totals is None:
        lines += prediction_differences(topics["MOODLE_LOGS_PREDICTION"], risk)
    return RiskVerdict(len(risk), len(alerts), check.ticks, lines)
