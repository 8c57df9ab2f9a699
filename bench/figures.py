"""Results of a measuring session, and figures cited from elsewhere."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.usage import NOTHING, Usage


@dataclass(frozen=True, slots=True)
class Run:
    """Result of one run of one program."""

    events_per_s: float
    #: CPU time of the whole process, user and system, all threads [us]
    cpu_us_per_event: float
    #: peak resident memory of the process [MB]
    rss_mb: float = 0.0
    #: differences of the end state from the expected one, a line each; None: not checked
    wrong: tuple[str, ...] | None = None

    def __str__(self) -> str:
        exact = {None: "", True: ", exact", False: ", NOT exact"}[None if self.wrong is None else not self.wrong]
        return f"{self.cpu_us_per_event:,.2f} µs CPU per event, {self.events_per_s:,.0f} events/s{exact}"


@dataclass(frozen=True, slots=True)
class Series:
    """All runs of one program on one log."""

    #: identifies the program in JSON, tables and the plot
    key: str
    label: str
    events: int
    students: int
    runs: tuple[Run, ...]

    @property
    def cpu_best(self) -> float:
        """Minimum CPU per event [us]."""
        return min(r.cpu_us_per_event for r in self.runs)

    @property
    def cpu_median(self) -> float:
        """Median CPU per event [us]."""
        return statistics.median(r.cpu_us_per_event for r in self.runs)

    @property
    def rate_best(self) -> float:
        """Maximum events per second."""
        return max(r.events_per_s for r in self.runs)

    @property
    def rate_median(self) -> float:
        """Median events per second."""
        return statistics.median(r.events_per_s for r in self.runs)

    @property
    def exact(self) -> bool | None:
        """Whether the end state of every run was exact; None if one was not checked."""
        return None if any(r.wrong is None for r in self.runs) else not any(r.wrong for r in self.runs)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON fields."""
        return {
            "key": self.key,
            "label": self.label,
            "events": self.events,
            "students": self.students,
            "cpu_us_per_event": {"best": round(self.cpu_best, 3), "median": round(self.cpu_median, 3)},
            "events_per_s": {"best": round(self.rate_best), "median": round(self.rate_median)},
            "rss_mb": round(max(r.rss_mb for r in self.runs)),
            "exact": self.exact,
            "wrong": sorted({line for r in self.runs for line in r.wrong or ()}),
            "runs": [[round(r.cpu_us_per_event, 3), round(r.events_per_s)] for r in self.runs],
        }


@dataclass(frozen=True, slots=True)
class Ratio:
    """CPU of one program relative to another, both measured in one session."""

    #: ratio of the best runs
    best: float
    #: median of the ratios of each round, in which both are measured one right after the other
    median: float

    @classmethod
    def of(cls, job: Series, read: Series) -> Ratio:
        """Divide the CPU of `job` by that of `read`; both list their runs in the order of the rounds."""
        rounds = [j.cpu_us_per_event / r.cpu_us_per_event for j, r in zip(job.runs, read.runs, strict=True)]
        return cls(job.cpu_best / read.cpu_best, statistics.median(rounds))

    def as_dict(self) -> dict[str, float]:
        """Return the JSON fields."""
        return {"best": round(self.best, 2), "median": round(self.median, 2)}


@dataclass(frozen=True, slots=True)
class Latency:
    """Time from the producer's `send` to a read_committed consumer, for single events at a constant rate."""

    key: str
    label: str
    #: events per second
    rate: float
    #: number of measured events
    events: int
    #: events for which no prediction was seen
    unseen: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    #: what the measured program used during the load
    usage: Usage = NOTHING
    #: delay of the load against its schedule, 99th percentile [ms]; more than a few ms means a busy machine
    load_late_ms: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON fields."""
        fields = asdict(self)
        fields |= fields.pop("usage")
        return {name: round(x, 3) if isinstance(x, float) else x for name, x in fields.items()}


@dataclass(frozen=True, slots=True)
class LiveCost:
    """What a program costs at a constant rate of single events, or idle, with its latency."""

    #: "app": a worker; "floor": the bare loop
    key: str
    partitions: int
    #: RISK_LINGER_MS; None: the bare loop, which has no such setting
    linger_ms: int | None
    #: events per second; 0: idle
    rate: float
    usage: Usage
    #: None: idle
    latency: Latency | None = None

    @classmethod
    def of(cls, latency: Latency, partitions: int, linger_ms: int | None) -> LiveCost:
        """Return the cost under the load of `latency`."""
        return cls(latency.key, partitions, linger_ms, latency.rate, latency.usage, latency)

    def above(self, broker_share: float) -> LiveCost:
        """Return it without the CPU that the broker needs for the load alone, or idle."""
        return replace(self, usage=replace(self.usage, broker_share=self.usage.broker_share - broker_share))

    @property
    def program(self) -> str:
        """What tables call the program."""
        return "bare loop" if self.key == "floor" else "worker"

    @property
    def unseen(self) -> int:
        """Number of events without a prediction."""
        return self.latency.unseen if self.latency else 0

    def __str__(self) -> str:
        linger = "" if self.linger_ms is None else f", linger {self.linger_ms} ms"
        times = f", p50 {self.latency.p50_ms:.1f} ms, p99 {self.latency.p99_ms:.1f} ms" if self.latency else ""
        usage = self.usage
        return (
            f"{self.program}, {self.partitions} partitions{linger}, {self.rate:,.0f} events/s: "
            f"CPU {usage.cpu_share:.1%}, broker {usage.broker_share:.1%} with the load{times}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON fields."""
        names = ("key", "partitions", "linger_ms", "rate")
        usage = {name: round(x, 4) if isinstance(x, float) else x for name, x in asdict(self.usage).items()}
        live = self.latency.as_dict() if self.latency else {}
        times = {
            name: live[name] for name in ("events", "unseen", "p50_ms", "p99_ms", "max_ms", "load_late_ms") if live
        }
        return {name: getattr(self, name) for name in names} | usage | times


def percentiles(latency_ms: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return median, 99th percentile and maximum of latencies [n] ms; NaN if there are none.

    Each is a latency that occurred, never interpolated (numpy's method `inverted_cdf`).
    """
    if not len(latency_ms):
        return np.nan, np.nan, np.nan
    p50, p99 = np.percentile(latency_ms, [50, 99], method="inverted_cdf")
    return float(p50), float(p99), float(latency_ms.max())


@dataclass(frozen=True, slots=True)
class Cited:
    """A figure that is not measured by this command."""

    key: str
    label: str
    #: lower and upper bound [us]
    cpu_us_per_event: tuple[float, float]
    events_per_s: tuple[float, float]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON fields."""
        return asdict(self)


#: KSQL 5.3 with the same job without scoring, a million events, one JVM, on the same kind of machine: an earlier
#: measurement of this project that no command of the repository repeats
CITED: Sequence[Cited] = (
    Cited("ksql", "KSQL 5.3, default cache, 1 partition (cited)", (47.0, 50.0), (26_000.0, 27_000.0)),
    Cited("ksql-uncached", "KSQL 5.3, cache off, 1 partition (cited)", (101.0, 101.0), (16_000.0, 16_000.0)),
)
