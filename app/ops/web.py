"""/health and /stats in JSON, /metrics for Prometheus: on the worker's web port."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from app.faust_app import RiskApp
from app.kafka.consumer import Consumer
from app.ops import prometheus
from app.ops.cautions import Cautions, stream_time_ahead_ms
from app.ops.metrics import Metrics
from models.days import LocalDays
from models.position import Position

#: window over which rates are averaged [s]
RATE_S = 10


def add_pages(app: RiskApp) -> None:
    """Serve /health, /stats and /metrics."""
    prometheus.add_page(app, lambda: _problem(app))
    started = time.monotonic()
    rates, cautions = Rates(app.metrics), Cautions(app.metrics)

    @app.page("/health", name="health")
    async def health(web: Any, request: Any) -> Any:
        problem, positions, now_ms = _problem(app), _positions(app).values(), time.time_ns() // 1_000_000
        ahead = stream_time_ahead_ms(positions, now_ms)
        answer = {
            "healthy": problem is None,
            "problem": problem,
            "stream_time_ahead_s": None if ahead is None else round(ahead / 1000),
            "cautions": cautions.lines(positions, now_ms),
        }
        if problem == "rejecting":
            answer["reason"] = app.metrics.rejected_topics.reason
        return web.json(answer, status=200 if problem is None else 503)

    @app.page("/stats", name="stats")
    async def stats(web: Any, request: Any) -> Any:
        return web.json(_stats(app, rates, time.monotonic() - started))

    app.each_second += [lambda: rates.sample(time.monotonic()), cautions.sample]


def _problem(app: RiskApp) -> str | None:
    if app.should_stop:
        return "stopping"
    if app.rebalancing:
        return "rebalancing"
    if app.in_recovery:
        return "recovering"
    if not app.tables.actives_ready:
        return "starting"
    if app.metrics.rejected_topics.reason is not None:
        return "rejecting"
    return None


class Rates:
    """Rates of the counters over the last RATE_S. Mutable: call `sample` once a second."""

    _COUNTED = ("events", "visits", "rows", "rejected")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._samples: deque[tuple[float, list[int]]] = deque(maxlen=RATE_S + 1)

    def sample(self, now_s: float) -> None:
        """Record the counters at `now_s`."""
        self._samples.append((now_s, [self._metrics[name] for name in self._COUNTED]))

    def per_s(self) -> dict[str, float]:
        """Return events read, visits applied, rows written and records rejected per second."""
        if len(self._samples) < 2:
            return dict.fromkeys(self._COUNTED, 0.0)
        (then, old), (now, new) = self._samples[0], self._samples[-1]
        rates = [round((b - a) / (now - then), 1) for a, b in zip(old, new, strict=True)]
        return dict(zip(self._COUNTED, rates, strict=True))


def _positions(app: RiskApp) -> dict[int, Position]:
    """Return the position of each owned partition that has been read."""
    students = [] if app.runtime is None else app.runtime.kafka.owned_students.all()
    return {p.number: p.loaded_position for p in students if p.loaded_position is not None}


def _stats(app: RiskApp, rates: Rates, uptime_s: float) -> dict[str, Any]:
    runtime = app.runtime
    models = None if runtime is None else runtime.models
    model = None if models is None else models.predicting
    students = [] if runtime is None else list(runtime.kafka.owned_students.all())
    positions = _positions(app)
    lags = app.consumer.lags() if app.started and isinstance(app.consumer, Consumer) else {}
    return {
        "app": app.settings.app_id,
        "place": None if app.place is None else app.place.number,
        "web_port": app.settings.web_port,
        "uptime_s": round(uptime_s, 1),
        "problem": _problem(app),
        "model": None if model is None else model.sha256,
        "risk_model": None if models is None or models.standing is None else models.standing.id,
        "lag_looks": app.consumer.end_offset_polls if isinstance(app.consumer, Consumer) else 0,
        "lag": {f"{topic}-{partition}": lag for (topic, partition), lag in sorted(lags.items())},
        "state_partitions": sorted(p.number for p in students),
        "students": sum(position.students for position in positions.values()),
        "students_in_memory": sum(p.known for p in students),
        "rates_per_s": rates.per_s(),
        "scored_days": {p.number: LocalDays.date(t.scored) for p in students if (t := p.loaded_ticks) is not None},
        "observed_ms": {number: position.watermarks.stream_time for number, position in positions.items()},
        "counts": app.metrics.as_dict(),
    }
