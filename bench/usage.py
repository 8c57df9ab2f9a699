"""What a program uses while it is measured: CPU of itself, of the broker and of the machine; its requests to Kafka."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench import request_counts
from bench.procfs import cpu_s, machine_s
from models.rules import Int64s


@dataclass(frozen=True, slots=True)
class Usage:
    """Use between two points in time. CPU: 1.0 is one core."""

    cpu_share: float = 0.0
    #: of the broker, for all its clients; 0.0: not measured
    broker_share: float = 0.0
    machine_share: float = 0.0
    #: requests per second by the name of the API; empty: not counted
    requests: Mapping[str, float] = field(default_factory=dict)


#: not measured
NOTHING = Usage()


class Meter:
    """Measures from its creation on."""

    def __init__(self, pid: int | None = None, broker_pid: int | None = None, counts: Path | None = None) -> None:
        """Begin. pid: the measured program; counts: file of bench/request_counts.py. None: not measured."""
        self._pids = (pid, broker_pid)
        self._counts = counts
        self._began = time.monotonic()
        self._cpu, self._requests = self._read()

    def read(self) -> Usage:
        """Return what was used since the creation."""
        took = time.monotonic() - self._began
        cpu, requests = self._read()
        rates: dict[str, float] = {}
        for api, count in enumerate((requests - self._requests).tolist()):
            if count:
                name = request_counts.NAMES.get(api, "others")
                rates[name] = round(rates.get(name, 0.0) + count / took, 2)
        own, broker, machine = ((now - before) / took for now, before in zip(cpu, self._cpu, strict=True))
        return Usage(own, broker, machine, rates)

    def _read(self) -> tuple[list[float], Int64s]:
        """Return CPU [s] of the program, the broker and the machine, and the numbers of requests [128]."""
        counts = request_counts.read(self._counts) if self._counts else np.zeros(0, np.int64)
        return [*(cpu_s(pid) if pid else 0.0 for pid in self._pids), machine_s()], counts
