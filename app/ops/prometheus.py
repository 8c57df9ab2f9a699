"""/metrics: what Prometheus scrapes. Everything but the histograms is read at the scrape, so events pay nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from app.faust_app import RiskApp
from app.kafka.consumer import Consumer
from models import counting
from models.rules import NEVER
from models.watermarks import Watermarks

#: what /health and moodle_risk_problem can name
PROBLEMS = ("stopping", "rebalancing", "recovering", "starting", "rejecting")
#: reasons of dead letters; each begins at 0, so that an alert sees the first one
REASONS = (
    # of the source topic's records
    *("bad-magic", "truncated", "malformed", "unknown-schema", "unreadable-schema", "type-mismatch"),
    *("wrong-schema", "unreadable-batch"),
    *("negative-time", "time-too-large", "ahead-of-clock"),
    # of visit batches
    "bad-frame",
    # of predictions
    *("not UTF-8", "not JSON", "not a JSON object", "JSON nested too deep", "key too long"),
    *("created_date is negative", "userid is no BIGINT", "created_date is no BIGINT", "prediction is no DOUBLE"),
)


@dataclass(frozen=True, slots=True)
class Help:
    """How a counter of app.ops.metrics.Metrics appears on the page."""

    text: str
    #: name of the label that has the counter's reasons, and the values that begin at 0
    label: str = ""
    known: tuple[str, ...] = ()


#: every counter, as moodle_risk_NAME_total
COUNTERS: Mapping[str, Help] = {
    "events": Help("Records read from the source topic."),
    "source_tombstones": Help("Tombstones among the events."),
    "rejected": Help("Records that became dead letters.", "reason", REASONS),
    "not_counted": Help("Events that do not count for the risk.", "reason", counting.REASONS),
    "suspicious_unit": Help("Events whose timecreated does not look like RISK_TIME_UNIT."),
    "odd_schema": Help("Records of a schema that is not, or not quite, one of the log's."),
    "ahead": Help("Events more than an hour ahead of the clock."),
    "visits": Help("Visits applied to the state, late ones included."),
    "late": Help("Visits refused because they are too far behind stream time."),
    "repeated": Help("Visits dropped because they had been applied before."),
    "duplicates": Help("Rows dropped because a row with their log id had been applied."),
    "ticks": Help("Days as of which a visits partition has scored its students."),
    "scored": Help("Entries, of a student in a course, scored by ticks."),
    "forgotten": Help("Students erased by faust -A app forget."),
    "without_log_id": Help("Rows without a log id, which de-duplication cannot recognise."),
    "detached_slices": Help("Source ranges refused because they would leave a hole; their new owner sends them again."),
    "outdated_batches": Help("Visit batches dropped because they were made for another number of partitions."),
    "gaps": Help("Gaps in the source offsets because a visit batch was damaged: visits are missing."),
    "flushes": Help("Flushes of the state; those of several partitions may share a transaction."),
    "rows": Help("Rows written to the output topics.", "topic"),
    "predictions_read": Help("Predictions read by the agent alert."),
}


class WorkerCollector(Collector):
    """Reads the metrics of one worker at each scrape."""

    def __init__(self, app: RiskApp, problem: Callable[[], str | None], started_s: float) -> None:
        """problem: what /health says; started_s: time.monotonic() at the start."""
        self._app, self._problem, self._started_s = app, problem, started_s

    def collect(self) -> Iterator[Metric]:
        """Return all metrics but the histograms."""
        yield self._build()
        yield from self._counters()
        yield from self._health()
        yield from self._consumer()
        yield from self._state()

    def _build(self) -> Metric:
        runtime = self._app.runtime
        models = None if runtime is None else runtime.models
        model = None if models is None else models.predicting
        build = {
            "version": installed_version(),
            "app": self._app.settings.app_id,
            "model": model.sha256 if model else "",
        }
        return InfoMetricFamily(
            "moodle_risk_build", "Version of the program, RISK_APP_ID, SHA-256 of the model.", build
        )

    def _counters(self) -> Iterator[Metric]:
        metrics, names = self._app.metrics, self._app.settings.topic_names
        topics = (*names.outputs, names.risk, names.risk_alerts)
        counted = metrics.counters()
        for name in {**COUNTERS, **counted}:
            text = COUNTERS.get(name, Help(f"The counter {name} of /stats."))
            by_reason = metrics.reasons(name)
            label = text.label or ("reason" if by_reason else "")
            family = CounterMetricFamily(f"moodle_risk_{name}", text.text, labels=[label] if label else [])
            if label:
                known = topics if label == "topic" else text.known
                for value, number in {**dict.fromkeys(known, 0), **by_reason}.items():
                    family.add_metric([value], number)
            else:
                family.add_metric([], counted.get(name, 0))
            yield family

    def _health(self) -> Iterator[Metric]:
        app, problem = self._app, self._problem()
        yield gauge("healthy", "1 if the worker processes its partitions.", float(problem is None))
        states = [(name, float(name == problem)) for name in dict.fromkeys((*PROBLEMS, problem)) if name]
        yield labelled("problem", "1 for the problem that /health names.", "problem", states)
        yield gauge("uptime_seconds", "Time since the start.", time.monotonic() - self._started_s)
        if app.started:
            yield gauge("stalled_seconds", "Time for which there was work and none was done.", app.watchdog.stalled_s)
        yield gauge("group_generation", "Generation of the consumer group.", app.consumer_generation_id)
        rebalances = CounterMetricFamily("moodle_risk_rebalances", "Rebalances of the consumer group.")
        rebalances.add_metric([], app.monitor.rebalances)
        yield rebalances

    def _consumer(self) -> Iterator[Metric]:
        consumer = self._app.consumer if self._app.started else None
        if not isinstance(consumer, Consumer):
            return
        lag = GaugeMetricFamily(
            "moodle_risk_lag_records", "Records of an owned partition not processed yet.", labels=["topic", "partition"]
        )
        for (topic, partition), records in sorted(consumer.lags().items()):
            lag.add_metric([topic, str(partition)], records)
        yield lag
        polls = CounterMetricFamily("moodle_risk_end_offset_polls", "How often Kafka has answered with the ends.")
        polls.add_metric([], consumer.end_offset_polls)
        yield polls

    def _state(self) -> Iterator[Metric]:
        runtime = self._app.runtime
        if runtime is None:
            return
        owned = list(runtime.kafka.owned_students.all())
        positions = {p.number: p.loaded_position for p in owned}
        known = {number: position for number, position in positions.items() if position is not None}
        yield gauge("partitions", "Partitions of the table students, of all workers.", self._app.conf.topic_partitions)
        yield gauge("owned_partitions", "Partitions of the table students that this worker owns.", len(owned))
        students = [(str(number), position.students) for number, position in known.items()]
        yield labelled("students", "Students with a state record.", "partition", students)
        cached = [(str(p.number), p.known) for p in owned]
        yield labelled("cached_students", "State records cached in memory.", "partition", cached)
        yield labelled("state_disk_bytes", "Size of the local databases, standbys included.", "table", self._disk())
        yield from self._time({str(number): position.watermarks for number, position in known.items()})
        yield labelled(
            "watermark_seconds",
            "Largest event time of a source partition that an owned partition has applied, since the epoch.",
            "partition",
            _watermarks(position.watermarks.at.tolist() for position in known.values()),
        )

    def _time(self, partitions: Mapping[str, Watermarks]) -> Iterator[Metric]:
        known = {number: watermarks for number, watermarks in partitions.items() if watermarks.stream_time != NEVER}
        now, at = time.time(), {number: watermarks.stream_time / 1000 for number, watermarks in known.items()}
        yield labelled("stream_time_seconds", "Stream time since the epoch.", "partition", at.items())
        yield labelled(
            "stream_time_delay_seconds",
            "How far stream time is behind the clock; below 0: ahead of it.",
            "partition",
            ((number, now - seconds) for number, seconds in at.items()),
        )
        yield labelled(
            "stream_time_held_seconds",
            "How far stream time is behind the newest event, because a source partition has a backlog.",
            "partition",
            ((number, max(0, w.newest - w.stream_time) / 1000) for number, w in known.items()),
        )

    def _disk(self) -> list[tuple[str, float]]:
        directory = Path(self._app.conf.tabledir)
        return [(name, sum(map(disk_bytes, directory.glob(f"{name}-*.db")))) for name in sorted(self._app.tables)]


def _watermarks(positions: Iterable[list[int]]) -> list[tuple[str, float]]:
    latest: dict[int, int] = {}
    for position in positions:
        for source, at in enumerate(position):
            latest[source] = max(at, latest.get(source, NEVER))
    return [(str(source), at / 1000) for source, at in latest.items() if at != NEVER]


def gauge(name: str, text: str, value: float) -> Metric:
    """Return a gauge without labels."""
    return GaugeMetricFamily(f"moodle_risk_{name}", text, value=value)


def labelled(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    """Return a gauge with one label."""
    family = GaugeMetricFamily(f"moodle_risk_{name}", text, labels=[label])
    for key, value in values:
        family.add_metric([key], value)
    return family


def disk_bytes(directory: Path) -> int:
    """Return the size of the files of a directory [bytes]; RocksDB may remove any of them meanwhile."""
    total = 0
    try:
        with os.scandir(directory) as files:
            for file in files:
                total += file.stat().st_size
    except FileNotFoundError:
        pass
    return total


def installed_version() -> str:
    """Return the version of this program; "unknown" if it is run from a bare checkout."""
    try:
        return version("moodle-risk")
    except PackageNotFoundError:
        return "unknown"


def add_page(app: RiskApp, problem: Callable[[], str | None]) -> None:
    """Serve /metrics in the format that the request asks for."""
    started_s = time.monotonic()
    registered: list[Collector] = []

    @app.page("/metrics", name="metrics")
    async def metrics(web: Any, request: Any) -> Any:
        registry = app.metrics.registry
        if not registered:  # at the first scrape: an app is declared at import, where nothing is read
            disable_created_metrics()  # type: ignore[no-untyped-call]  # a time for each histogram, which nothing uses
            registered.extend([ProcessCollector(registry=registry), PlatformCollector(registry=registry)])
            registered.append(GCCollector(registry=registry))
            registered.append(WorkerCollector(app, problem, started_s))
            registry.register(registered[-1])
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.bytes(encode(registry), headers={"Content-Type": content_type})
