"""/health and /stats: JSON on the worker's web port, for a supervisor and for a person."""

from __future__ import annotations

import time
from typing import Any

from app.binding import RiskApp
from app.transport.driver import Consumer


def add_pages(app: RiskApp) -> None:
    """Serve the two pages, and none of Faust's own."""
    started = time.monotonic()

    @app.page("/health", name="health")
    async def health(web: Any, request: Any) -> Any:
        problem = _problem(app)
        answer = {"healthy": problem is None, "problem": problem}
        return web.json(answer, status=200 if problem is None else 503)

    @app.page("/stats", name="stats")
    async def stats(web: Any, request: Any) -> Any:
        return web.json(_stats(app, time.monotonic() - started))


def _problem(app: RiskApp) -> str | None:
    if app.should_stop:
        return "stopping"
    if app.rebalancing:
        return "rebalancing"
    if app.in_recovery:
        return "recovering"
    if not app.tables.actives_ready:
        return "starting"
    return None


def _stats(app: RiskApp, uptime_s: float) -> dict[str, Any]:
    pipeline, kafka = app.pipeline, app.kafka
    lags = app.consumer.lags() if app.started and isinstance(app.consumer, Consumer) else {}
    return {
        "app": app.settings.app_id,
        "uptime_s": round(uptime_s, 1),
        "problem": _problem(app),
        "model": None if pipeline.model is None else pipeline.model.sha256,
        "lag_looks": app.consumer.looks if isinstance(app.consumer, Consumer) else 0,
        "lag": {f"{topic}-{partition}": lag for (topic, partition), lag in sorted(lags.items())},
        "students_in_memory": sum(p.known for p in kafka.owned_students.all()),
        "observed_ms": {p.number: p.front.clocks.observed for p in kafka.owned_students.all()},
        "counts": pipeline.counts.as_dict(),
    }
