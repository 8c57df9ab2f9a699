"""What is measured: reading alone, and the whole job, on the same topic in the same session."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.codecs.log import LogDecoder
from app.codecs.registry import Schemas
from app.names import Names
from app.settings import Settings
from app.trial.reading import read_topic
from app.trial.recount import Truth, differences
from app.trial.workers import Worker
from app.worker import rest_the_collector
from models.chunk import Chunk

#: how long one run of the worker may take [s]
PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Run:
    """One run's figures."""

    events_per_s: float
    #: CPU of the whole process, user and system, all threads [us]
    cpu_us_per_event: float
    #: peak resident memory [MB], 0 where not asked
    rss_mb: float = 0.0
    exact: bool = True


async def read_alone(settings: Settings, events: int, partitions: int) -> Run:
    """aiokafka's public `getmany` and the decoding to columns; no Faust, nothing kept."""
    rest_the_collector()  # the same favour the worker does itself
    decoder = LogDecoder(Schemas(settings.schema_registry))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.broker, isolation_level="read_committed", max_partition_fetch_bytes=1 << 21
    )
    await consumer.start()
    try:
        tps = [TopicPartition(settings.source_topic, p) for p in range(partitions)]
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        seen, began, cpu = 0, time.monotonic(), time.process_time()
        while seen < events:
            for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                offsets = [r.offset for r in records]
                chunk = Chunk(tp.topic, tp.partition, offsets, offsets, [r.value for r in records], 0, 0, 0)  # type: ignore[arg-type]
                seen += len(await decoder.decode(chunk))
        return Run(events / (time.monotonic() - began), (time.process_time() - cpu) / events * 1e6)
    finally:
        await consumer.stop()


async def whole_job(variables: dict[str, str], truth: Truth, log: Path) -> Run:
    """A fresh worker over the whole backlog, from ready to the last row committed; then every row recounted."""
    with Worker(variables, log, level="warn") as worker:
        first = worker.wait(lambda s: s["problem"] is None, timeout=60)
        began, cpu, before = time.monotonic(), _cpu_s(worker), first["counts"].get("visits", 0)
        worker.wait(lambda s: s["counts"].get("visits", 0) >= truth.events, timeout=PATIENCE_S)
        took, used = time.monotonic() - began, _cpu_s(worker) - cpu
        worker.wait_idle(timeout=60, events=truth.events)
        rss_mb = peak_mb(worker)
    settings = Settings.from_env(variables)
    names = Names.of(settings)
    outputs = {"MOODLE_LOGS_SESSIONS_PER_15MINS": names.sessions, "MOODLE_LOGS_PREDICTION_AGG": names.agg}
    outputs |= {"MOODLE_LOGS_PREDICTION": names.prediction, "MOODLE_LOGS_PREDICTION_IN_RISK": names.in_risk}
    topics = {plain: await read_topic(settings.broker, full) for plain, full in outputs.items()}
    events = truth.events - before
    return Run(events / took, used / events * 1e6, rss_mb, not differences(truth, topics))


def _cpu_s(worker: Worker) -> float:
    """CPU the worker's process has used: user and system [s]. The operating system's account (Linux)."""
    fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def peak_mb(worker: Worker) -> float:
    """The most memory the worker's process has had resident [MB]. Linux."""
    return _status_mb(worker, "VmHWM")


def resident_mb(worker: Worker) -> float:
    """The memory the worker's process has resident now [MB]. Linux."""
    return _status_mb(worker, "VmRSS")


def _status_mb(worker: Worker, field: str) -> float:
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(field))
