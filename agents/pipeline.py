"""The three agents of the pipeline, built over any log.

The worker builds them over Kafka, the test driver over a log in memory: the same code runs in the worker, in
the parity cases and in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.alert import Alert
from agents.ports import Log, Metrics
from agents.process import Process
from agents.repartition import Repartition
from agents.risk_output import RiskOptions
from codec.moodle_log import LogDecoder
from models.risk import RiskModel
from models.topic_names import TopicNames


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the agents."""

    #: maximum number of visits in one flush or visit batch
    batch_rows: int
    #: whether to write every revision, as KSQL does with its cache off, or one row per key and flush
    emit_every_change: bool
    #: unit of timecreated, ms or s
    unit: str
    #: whether rows whose log id has been applied are dropped
    deduplicate: bool = False
    #: names of record headers that are not forwarded (models/headers.py)
    ignored_headers: Sequence[str] = ()
    #: events further ahead of the clock than this are rejected [ms], 0 for none
    max_ahead_ms: int = 0
    #: how the risk of standing is scored and written, None: not at all
    risk: RiskOptions | None = None
    #: pause of `alert` at the end of its topic [s]
    alert_pause_s: float = 0.0
    #: whether `repartition` holds back visits that slower partitions may precede, and heartbeats
    hold_back: bool = True


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The agents of one app."""

    repartition: Repartition
    process: Process
    alert: Alert

    @classmethod
    def build(
        cls,
        log: Log,
        names: TopicNames,
        decoder: LogDecoder,
        model: RiskModel | None,
        metrics: Metrics,
        options: Options,
        partitions: int,
    ) -> Pipeline:
        """Build the agents; partitions: of the visits topic; model: of totals, None for none."""
        return cls(
            Repartition(
                log,
                names,
                decoder,
                metrics,
                partitions=partitions,
                batch_rows=options.batch_rows,
                unit=options.unit,
                hold_back=options.hold_back,
                ignored_headers=options.ignored_headers,
                max_ahead_ms=options.max_ahead_ms,
                last_tick=None if options.risk is None else options.risk.days.last_tick,
            ),
            Process(
                log,
                names,
                model,
                metrics,
                batch_rows=options.batch_rows,
                emit_every_change=options.emit_every_change,
                deduplicate=options.deduplicate,
                risk=options.risk,
            ),
            Alert(log, names, metrics, pause_s=options.alert_pause_s),
        )
