"""The whole pipeline on a real Kafka, every output row compared with the oracles: `make smoke`."""

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
from tools.e2e.oracle import compacted, differences, expected_tables
from tools.e2e.read_topic import read_outputs, read_risk
from tools.e2e.risk_oracle.topics import judge_risk
from tools.e2e.workers import Worker
from tools.replay import oulad
from tools.replay.progress import replay

#: time the worker has to process the whole log [s]
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a smoke run."""

    events: int
    #: sessions in the final table, predictions made, in-risk events
    sessions: int
    predictions: int
    in_risk: int
    #: rows of MOODLE_RISK, alerts opened and closed, and days scored by ticks
    risks: int
    alerts: int
    ticks: int
    exact: bool
    #: from the first row sent to the last one processed [s]
    wall_s: float
    differences: list[str]

    def as_line(self) -> dict[str, object]:
        """Return everything but the differences, for JSON."""
        figures = asdict(self)
        del figures["differences"]
        return figures


def run(presentations: list[str], limit: int | None, report: Callable[[str], object]) -> Result:
    """Start servers, replay students, run a worker, and compare all output topics with the oracles.

    report: called with a line of progress. Raises stack.StackError or E2EError if something does not start or finish.
    """
    with tempfile.TemporaryDirectory(prefix="moodle-risk-smoke-") as name:
        directory = Path(name)
        report("starting Kafka and the schema registry …")
        servers = stack.up(directory / "stack", owner_pid=os.getpid())
        try:
            return asyncio.run(_run(directory, servers, presentations, limit, report))
        finally:
            stack.down(directory / "stack")


async def _run(
    directory: Path,
    servers: stack.Environment,
    presentations: list[str],
    limit: int | None,
    report: Callable[[str], object],
) -> Result:
    variables = {
        **servers.settings,
        "RISK_APP_ID": "smoke",
        "RISK_MODEL": "v2s",
        "RISK_DATADIR": str(directory / "data"),
    }
    settings = Settings.from_env(variables)
    rows = oulad.generate(presentations, limit=limit)
    students = len(set(rows.userid.tolist()))
    report(f"replaying {len(rows):,} events of {students:,} students ({', '.join(presentations)}) …")
    began = time.monotonic()
    await replay(settings, rows)
    with Worker(variables, directory / "worker.log") as worker:
        await asyncio.to_thread(worker.wait_idle, timeout=TIMEOUT_S, events=len(rows))
        wall_s = time.monotonic() - began
    report("comparing the output topics with the oracles …")
    topics = await read_outputs(settings) | await read_risk(settings)
    expected = expected_tables(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))
    risk = judge_risk(settings, rows, topics)
    unequal = differences(expected, topics, scored=False) + risk.differences
    return Result(
        events=expected.events,
        sessions=len(compacted(topics["MOODLE_LOGS_SESSIONS_PER_15MINS"])),
        predictions=len(topics["MOODLE_LOGS_PREDICTION"]),
        in_risk=len(topics["MOODLE_LOGS_PREDICTION_IN_RISK"]),
        risks=risk.rows,
        alerts=risk.alerts,
        ticks=risk.ticks,
        exact=not unequal,
        wall_s=round(wall_s, 1),
        differences=unequal,
    )
