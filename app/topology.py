"""The topology: declares topics, tables and agents. Their names are durable state.

RISK_SOURCE_TOPIC                        any number of partitions, keyed by log id
   | agent repartition                   decode, read in time order, route by student
   v
<app>-visits                             N partitions, keyed by student; a record is a visit batch
   | agent process                       sessionize, roll up, score: rows and state in one transaction, which
   |                                     the partitions of a worker share; table students: N partitions
   |--> MOODLE_LOGS_SESSIONS_PER_15MINS  1 partition
   |--> MOODLE_LOGS_PREDICTION_AGG       1 partition, compacted
   |--> MOODLE_RISK                      1 partition, compacted: the risk of each student and course, and why
   |--> MOODLE_RISK_ALERTS               1 partition
   |<-> <app>-risk-cohorts               1 partition, compacted: what is usual among all students, day by day
   `--> MOODLE_LOGS_PREDICTION           1 partition
          | agent alert                  prediction > 0.7
          |                              table alerts: 1 partition
          v
        MOODLE_LOGS_PREDICTION_IN_RISK   1 partition

<app>-dead-letters                       records that could not be used, 1 partition
"""

from __future__ import annotations

from typing import cast

from agents.pipeline import Options, Pipeline
from agents.ports import Agent
from agents.risk_output import RiskOptions
from app.faust_app import RiskApp, Runtime
from app.kafka.claims import Claims
from app.kafka.consumer import Consumer
from app.kafka.log import KafkaLog
from app.ops.drain import Drain
from app.ops.preflight import Checked
from app.ops.web import add_pages
from app.settings import Settings
from app.state.owned import OwnedPartitions
from app.state.table import StateTable
from models.counting import CountingRules
from models.days import LocalDays
from models.standing import StandingModel

#: names of agents and tables
REPARTITION, PROCESS, ALERT = "repartition", "process", "alert"
STUDENTS, ALERTS = "students", "alerts"
#: pause between transactions of in-risk events if RISK_LINGER_MS does not group them [s]
ALERT_PAUSE_S = 0.1


def declare(settings: Settings) -> RiskApp:
    """Declare tables, agents and web pages. Touches neither network nor disk."""
    names = settings.topic_names
    app = RiskApp(settings)
    app.declare_table(STUDENTS, "sessions and totals of each student, and how far the log is applied")
    app.declare_table(ALERTS, "up to which prediction the in-risk events are written")
    app.declare_agent(REPARTITION, names.source, "decodes the log, aligns its partitions in time, routes by student")
    app.declare_agent(
        PROCESS,
        names.visits,
        "cuts visits into sessions, rolls them up per student and scores each student",
        actor_per_partition=True,
    )
    app.declare_agent(ALERT, names.prediction, "writes an in-risk event for each prediction above 0.7")
    add_pages(app)
    return app


def assemble(app: RiskApp, checked: Checked, *, drain_for: int | None = None) -> None:
    """Build the runtime of the app's agents and tables. Touches neither network nor disk.

    drain_for: the process for which this worker drains (app/ops/drain.py), None for any other worker.
    """
    settings, names = app.settings, app.settings.topic_names
    counts = {"partitions": checked.partitions, "sources": checked.sources}
    students = _owned(app, STUDENTS, settings.app_id, names.visits, **counts)
    alerts = _owned(app, ALERTS, f"{settings.app_id}-{ALERTS}", names.prediction)
    models = checked.models
    standing = None if models is None else models.standing
    kafka = KafkaLog(settings, students, alerts, cohorts_of=0 if standing is None else checked.partitions)
    options = Options(
        batch_rows=settings.batch_rows,
        emit_every_change=settings.emit_every_change,
        unit=settings.time_unit,
        deduplicate=settings.deduplicates,
        ignored_headers=settings.ignored_headers,
        max_ahead_ms=settings.max_ahead_ms,
        risk=None if standing is None else risk_options(settings, standing, checked.counting),
        alert_pause_s=0.0 if settings.linger_ms else ALERT_PAUSE_S,
        hold_back=drain_for is None,
    )
    pipeline = Pipeline.build(
        kafka,
        names,
        checked.decoder,
        None if models is None else models.totals,
        app.metrics,
        options,
        checked.partitions,
    )
    agents: dict[str, Agent] = {REPARTITION: pipeline.repartition, PROCESS: pipeline.process, ALERT: pipeline.alert}
    drain = None
    if drain_for is not None:
        drain = Drain(names.source, students, checked.partitions, drain_for, with_ticks=standing is not None)
    app.runtime = Runtime(kafka, checked.registry, models, agents, checked.internal, drain)
    app.conf.topic_partitions = checked.partitions


def risk_options(settings: Settings, standing: StandingModel, counting: CountingRules | None = None) -> RiskOptions:
    """Return how the risk is scored and written; counting: what counts in this log, by default as the settings say."""
    return RiskOptions(
        standing,
        LocalDays(settings.zone),
        settings.alert_budget,
        per_course=(counting or settings.counting).per_course,
    )


def _owned(app: RiskApp, table_name: str, prefix: str, topic: str, **counts: int) -> OwnedPartitions:
    """Own the partitions of a table; prefix: of its transactional ids; topic: what its agent reads."""
    table = app.tables[table_name]
    assert isinstance(table, StateTable)
    owned = OwnedPartitions(table, app.settings, prefix, Claims(lambda: cast(Consumer, app.consumer), topic), **counts)
    table.on_owned = owned.renew
    return owned
