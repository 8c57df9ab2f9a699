"""The whole way on a real Kafka, and every row recounted: `make smoke`."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import stack
from app.settings import Settings
from models.topic_names import TopicNames
from tools.e2e.oracle import compacted, differences, recount
from tools.e2e.read_topic import Record, read_topic
from tools.e2e.workers import Worker
from tools.replay import oulad
from tools.replay.progress import replay

#: how long the worker may take for the log [s]
PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a smoke run found."""

    events: int
    #: sessions at the end, predictions made, in-risk events
    sessions: int
    predictions: int
    in_risk: int
    exact: bool
    #: from the first row sent to the last one processed [s]
    wall_s: float
    differences: list[str]

    def as_line(self) -> dict[str, object]:
        """The figures, for JSON."""
        figures = asdict(self)
        del figures["differences"]
        return figures


def run(presentations: list[str], limit: int | None, say: Callable[[str], object]) -> Result:
    """Start servers, replay students, run a worker, and compare all four topics with a recount.

    Raises stack.StackError or TrialError where something does not start or come to its end.
    """
    with tempfile.TemporaryDirectory(prefix="moodle-risk-smoke-") as name:
        directory = Path(name)
        say("starting Kafka and the registry …")
        servers = stack.up(directory / "stack", owner_pid=os.getpid())
        try:
            return asyncio.run(_run(directory, servers, presentations, limit, say))
        finally:
            stack.down(directory / "stack")


async def _run(
    directory: Path,
    servers: stack.Environment,
    presentations: list[str],
    limit: int | None,
    say: Callable[[str], object],
) -> Result:
    variables = {
        **servers.settings,
        "RISK_APP_ID": "smoke",
        "RISK_DATADIR": str(directory / "data"),
    }
    settings = Settings.from_env(variables)
    rows = oulad.generate(presentations, limit=limit)
    say(f"replaying {len(rows):,} events of {len(set(rows.userid.tolist())):,} students ({', '.join(presentations)}) …")
    began = time.monotonic()
    await replay(settings, rows)
    with Worker(variables, directory / "worker.log") as worker:
        await asyncio.to_thread(worker.wait_idle, timeout=PATIENCE_S, events=len(rows))
        wall_s = time.monotonic() - began
    say("reading the four topics back and recounting …")
    names = settings.topic_names
    topics = {
        t: await read_topic(settings.broker, t) for t in (names.sessions, names.agg, names.prediction, names.in_risk)
    }
    truth = recount(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))
    wrong = differences(truth, topics)
    return _result(truth.events, topics, names, wrong, wall_s)


def _result(events: int, topics: dict[str, list[Record]], names: TopicNames, wrong: list[str], wall_s: float) -> Result:
    return Result(
        events=events,
        sessions=len(compacted(topics[names.sessions])),
        predictions=len(topics[names.prediction]),
        in_risk=len(topics[names.in_risk]),
        exact=not wrong,
        wall_s=round(wall_s, 1),
        differences=wrong,
    )
