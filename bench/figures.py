"""The figures of one session of measuring, as values; and those that are only cited."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one thing."""

    events_per_s: float
    #: CPU of the whole process, user and system, all threads [us]
    cpu_us_per_event: float
    #: peak resident memory of the process [MB]
    rss_mb: float = 0.0
    #: what its end state has wrong, a line each; None: nobody looked
    wrong: tuple[str, ...] | None = None

    def __str__(self) -> str:
        exact = {None: "", True: ", exact", False: ", NOT exact"}[None if self.wrong is None else not self.wrong]
        return f"{self.cpu_us_per_event:,.2f} µs CPU per event, {self.events_per_s:,.0f} events/s{exact}"


@dataclass(frozen=True, slots=True)
class Series:
    """All runs of one thing, on one log."""

    #: what it is, for programs; README's and the plot's rows go by it
    key: str
    label: str
    events: int
    students: int
    runs: tuple[Run, ...]

    @property
    def cpu_best(self) -> float:
        """Least CPU per event [us]."""
        return min(r.cpu_us_per_event for r in self.runs)

    @property
    def cpu_median(self) -> float:
        """CPU per event, the median of the runs [us]."""
        return statistics.median(r.cpu_us_per_event for r in self.runs)

    @property
    def rate_best(self) -> float:
        """Most events a second."""
        return max(r.events_per_s for r in self.runs)

    @property
    def rate_median(self) -> float:
        """Events a second, the median of the runs."""
        return statistics.median(r.events_per_s for r in self.runs)

    @property
    def exact(self) -> bool | None:
        """Whether every run's end state was; None where nobody looked."""
        return None if any(r.wrong is None for r in self.runs) else not any(r.wrong for r in self.runs)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
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
    """How much dearer one thing is than another, both in one session."""

    #: best run over best run
    best: float
    #: median of the rounds' own ratios: both of a round are measured one right after the other
    median: float

    @classmethod
    def of(cls, job: Series, read: Series) -> Ratio:
        """CPU of `job` over that of `read`; their runs are in the order of the rounds."""
        rounds = [j.cpu_us_per_event / r.cpu_us_per_event for j, r in zip(job.runs, read.runs, strict=True)]
        return cls(job.cpu_best / read.cpu_best, statistics.median(rounds))

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"best": round(self.best, 2), "median": round(self.median, 2)}


@dataclass(frozen=True, slots=True)
class Latency:
    """From the producer's `send` to a reader that reads committed, of single events at an even rate."""

    key: str
    label: str
    #: events a second, and how many were counted
    rate: float
    events: int
    #: events no prediction was seen for
    unseen: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    #: of one core, while the load ran: the process between, and everything on the machine (2.0: two cores are full)
    cpu_share: float = 0.0
    machine_share: float = 0.0
    #: how late the load itself was, 99th percentile [ms]: what is more than a few ms says the machine was busy
    load_late_ms: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: round(x, 3) if isinstance(x, float) else x for name, x in asdict(self).items()}


def percentiles(latency_ms: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Median, 99th percentile and maximum of latencies [n] ms; NaN where there are none.

    Each is a latency that occurred (the smallest one that so large a share does not exceed), never one between two.
    """
    if not len(latency_ms):
        return np.nan, np.nan, np.nan
    p50, p99 = np.percentile(latency_ms, [50, 99], method="inverted_cdf")
    return float(p50), float(p99), float(latency_ms.max())


@dataclass(frozen=True, slots=True)
class Cited:
    """A figure this command does not measure."""

    key: str
    label: str
    #: from, to [us]
    cpu_us_per_event: tuple[float, float]
    events_per_s: tuple[float, float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


#: real KSQL 5.3, the same job without scoring, a million events, one JVM, on the same kind of machine: the project's
#: own earlier measurement. No command of this repository makes it again
CITED: Sequence[Cited] = (
    Cited("ksql", "KSQL 5.3, default cache, 1 partition (cited)", (47.0, 50.0), (26_000.0, 27_000.0)),
    Cited("ksql-uncached", "KSQL 5.3, cache off, 1 partition (cited)", (101.0, 101.0), (16_000.0, 16_000.0)),
)
