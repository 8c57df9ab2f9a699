"""What the operating system says a process has used: CPU and memory. Linux."""

from __future__ import annotations

import os
import time
from pathlib import Path

#: the kernel's number for "CPU time as the scheduler counted it" among a process's clocks
_CPUCLOCK_SCHED = 2


def cpu_s(pid: int | None = None) -> float:
    """CPU a process has used so far: user and system, all threads, also those that have ended [s].

    This is clock_getcpuclockid(3): the number /proc/PID/stat has in ticks of 10 ms, in nanoseconds, so that a run
    of half a second can be told from another. Raises OSError for a process that is gone.
    """
    return time.clock_gettime((~(pid or os.getpid()) << 3) | _CPUCLOCK_SCHED)


def machine_s() -> float:
    """CPU all processes of this machine have used so far, on all its cores [s]."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq")
    ticks = dict(zip(names, map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]), strict=False))
    return sum(ticks[name] for name in names if name not in ("idle", "iowait")) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int | None = None) -> float:
    """The most memory a process has had resident [MB]."""
    return _status_mb(pid, "VmHWM")


def resident_mb(pid: int | None = None) -> float:
    """The memory a process has resident now [MB]."""
    return _status_mb(pid, "VmRSS")


def _status_mb(pid: int | None, field: str) -> float:
    # not getrusage's maxrss: that one remembers the parent's memory, from before the exec
    status = Path(f"/proc/{pid or 'self'}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(field))
