"""CPU and memory of processes, from Linux's clocks and /proc."""

from __future__ import annotations

import os
import time
from pathlib import Path

#: the kernel's number of the scheduler's CPU time among a process's clocks
_CPUCLOCK_SCHED = 2


def cpu_s(pid: int | None = None) -> float:
    """Return the CPU time of a process so far: user and system, all threads, also ended ones [s].

    This is clock_getcpuclockid(3): the value that /proc/PID/stat has in ticks of 10 ms, but in nanoseconds, which short
    runs need. Raises OSError if the process is gone.
    """
    return time.clock_gettime((~(pid or os.getpid()) << 3) | _CPUCLOCK_SCHED)


def machine_s() -> float:
    """Return the CPU time of all processes of the machine so far, over all cores [s]."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq")
    ticks = dict(zip(names, map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]), strict=False))
    return sum(ticks[name] for name in names if name not in ("idle", "iowait")) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int | None = None) -> float:
    """Return the peak resident memory of a process [MB]."""
    return _status_mb(pid, "VmHWM")


def resident_mb(pid: int | None = None) -> float:
    """Return the resident memory of a process [MB]."""
    return _status_mb(pid, "VmRSS")


def _status_mb(pid: int | None, field: str) -> float:
    # not getrusage's maxrss, which includes the parent's memory from before the exec
    status = Path(f"/proc/{pid or 'self'}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(field))
