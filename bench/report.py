"""Results of a session as tables and as JSON."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.figures import CITED, Latency, Series
from bench.session import Report

#: packages on which the figures may depend
PACKAGES = ("aiokafka", "faust-streaming", "numpy", "fastavro", "rocksdict")


def machine() -> dict[str, Any]:
    """Describe the machine."""
    cpus = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal: *(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cores": os.cpu_count(),
        "cpu": cpus[1] if cpus else platform.machine(),
        "memory_gb": round(int(memory[1]) / 1e6) if memory else None,
        "system": platform.platform(terse=True),
        # above the number of cores, other processes were running and have distorted the figures
        "load_average": round(os.getloadavg()[0], 1),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python, Kafka and PACKAGES."""
    artifacts = json.loads(files("stack").joinpath("artifacts.json").read_text())
    kafka = next(root.rsplit(":", 1)[1] for root in artifacts["kafka"]["roots"] if ":kafka_" in root)
    return {"python": platform.python_version(), "kafka": kafka} | {name: version(name) for name in PACKAGES}


def document(report: Report, partitions: int) -> dict[str, Any]:
    """Return all results, for docs/bench.json."""
    ratios = {
        str(series.students): {
            "to_getmany": report.ratio(series.students).as_dict(),
            "to_batches": report.ratio(series.students, "read-batches").as_dict(),
        }
        for series in report.series
        if series.key == "job"
    }
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "partitions": partitions,
        "measured": [series.as_dict() for series in report.series],
        "ratios": ratios,
        "latency": [latency.as_dict() for latency in report.latencies],
        "cited": [latency.as_dict() for latency in CITED],
        "line": line(report),
    }


def line(report: Report) -> dict[str, Any]:
    """Return the main figures of the first log, and the latencies if they were measured."""
    job, read, ratio = report.of("job"), report.of("read"), report.ratio()
    live = {latency.key: latency for latency in report.latencies}
    fields: dict[str, Any] = {
        "events": job.events,
        "cpu_us_per_event": round(job.cpu_best, 2),
        "read_cpu_us_per_event": round(read.cpu_best, 2),
        "ratio": round(ratio.best, 2),
        "ratio_median": round(ratio.median, 2),
        "events_per_s": round(job.rate_best),
        "rss_mb": round(max(r.rss_mb for r in job.runs)),
    }
    for key, name in (("app", "latency"), ("floor", "floor_latency")):
        if key in live:
            fields |= {f"{name}_p50_ms": round(live[key].p50_ms, 1), f"{name}_p99_ms": round(live[key].p99_ms, 1)}
    return fields | {"exact": report.exact}


def caption(document: dict[str, Any]) -> str:
    """Return date, machine and versions in two lines."""
    machine, versions = document["machine"], document["versions"]
    packages = {"faust": versions["faust-streaming"], **{name: versions[name] for name in ("aiokafka", "numpy")}}
    return (
        f"{document['date']}, {machine['cores']} cores ({machine['cpu']}), {machine['system']}, "
        f"load average {machine['load_average']} at the end\n"
        f"Python {versions['python']}, Kafka {versions['kafka']} on the same machine, "
        f"{document['partitions']} partitions" + "".join(f", {name} {number}" for name, number in packages.items())
    )


def throughput(report: Report, document: dict[str, Any]) -> Table:
    """Return a table of CPU, rate and memory: the best run, and the median in brackets."""
    table = Table(title="Processing a backlog: best run (median); CPU of the whole process", caption=caption(document))
    table.add_column("")
    for column in ("students", "events", "runs", "CPU µs/event", "events/s", "peak MB", "exact"):
        table.add_column(column, justify="right")
    students = None
    for series in report.series:
        if students not in (None, series.students):
            table.add_section()
        students = series.students
        table.add_row(*_measured(series))
    table.add_section()
    for cited in CITED:
        cpu, rate = (_span(span) for span in (cited.cpu_us_per_event, cited.events_per_s))
        table.add_row(cited.label, "", "1,000,000", "", cpu, rate, "", "")
    return table


def _measured(series: Series) -> list[str]:
    exact = {None: "", True: "yes", False: "NO"}[series.exact]
    cpu = f"{series.cpu_best:,.2f} ({series.cpu_median:,.2f})"
    rate = f"{series.rate_best:,.0f} ({series.rate_median:,.0f})"
    peak = f"{max(r.rss_mb for r in series.runs):,.0f}"
    return [series.label, f"{series.students:,}", f"{series.events:,}", str(len(series.runs)), cpu, rate, peak, exact]


def _span(span: tuple[float, float]) -> str:
    low, high = (f"{x:,.0f}" for x in span)
    return low if low == high else f"{low} to {high}"


def ratios(report: Report) -> Table:
    """Return a table of the whole job's CPU divided by that of reading."""
    table = Table(title="CPU of the whole job (batch), as a multiple of reading and decoding")
    for column in ("students", "to getmany: best/best", "median", "to the batch reader: best/best", "median"):
        table.add_column(column, justify="right")
    for job in (series for series in report.series if series.key == "job"):
        both = (report.ratio(job.students), report.ratio(job.students, "read-batches"))
        table.add_row(f"{job.students:,}", *(f"{x:.2f}" for ratio in both for x in (ratio.best, ratio.median)))
    return table


def latency(report: Report) -> Table:
    """Return a table of latencies [ms] and CPU."""
    table = Table(title="Latency of single events at a constant rate: from produced to visible for read_committed")
    table.add_column("")
    for column in (
        "events/s",
        "events",
        "p50 ms",
        "p99 ms",
        "max ms",
        "CPU of a core",
        "all CPU",
        "unseen",
        "load delay, p99 ms",
    ):
        table.add_column(column, justify="right")
    for latency in report.latencies:
        table.add_row(*_latency(latency))
    return table


def _latency(latency: Latency) -> list[str]:
    times = [f"{x:.1f}" for x in (latency.p50_ms, latency.p99_ms, latency.max_ms)]
    tail = [
        f"{latency.usage.cpu_share:.0%}",
        f"{latency.usage.machine_share:.0%}",
        str(latency.unseen),
        f"{latency.load_late_ms:.1f}",
    ]
    return [latency.label, f"{latency.rate:,.0f}", f"{latency.events:,}", *times, *tail]
