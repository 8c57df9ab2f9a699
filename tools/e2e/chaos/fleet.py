"""Workers under a supervisor that restarts each one that exits, as systemd or docker would."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from app.ops.failpoints import VARIABLE
from tools.e2e.workers import E2EError, Worker

#: time a worker has until its web server answers [s]
START_S = 60.0
#: time a worker has to exit after SIGTERM [s]
STOP_S = 10.0
#: interval at which workers are checked [s]
_POLL_S = 0.05


class Fleet:
    """Numbered workers of one app, each with a data directory that persists over restarts. Mutable."""

    def __init__(self, variables: Mapping[str, str], directory: Path) -> None:
        self._variables, self._directory = variables, directory
        self.running: dict[int, Worker] = {}
        #: number of SIGKILLs, sent by the fleet or by a failpoint
        self.kills = 0
        #: exits that no action caused: worker, exit code, last line of the log
        self.unexpected_exits: list[str] = []

    def data(self, number: int) -> Path:
        """Return a worker's data directory."""
        return self._directory / f"data-{number}"

    def start(self, number: int, fault: str = "") -> Worker:
        """Start a worker; `fault` is a failpoint to arm, as in MOODLE_RISK_FAULT."""
        variables = {**self._variables, "RISK_DATADIR": str(self.data(number)), VARIABLE: fault}
        self.running[number] = Worker(variables, self._directory / f"worker-{number}.log").start()
        return self.running[number]

    def kill(self, number: int) -> None:
        """Send SIGKILL to a worker and wait for its exit."""
        self.running.pop(number).kill()
        self.kills += 1

    def stop(self, number: int) -> None:
        """Stop a worker with SIGTERM. Raises E2EError unless it exits with 0 within STOP_S.

        The signal is sent only once the web server answers: while Python still imports, SIGTERM just kills it.
        """
        deadline = time.monotonic() + START_S
        while self.running[number].stats() is None and time.monotonic() < deadline:
            self.supervise()
            time.sleep(_POLL_S)
        worker, began = self.running.pop(number), time.monotonic()
        code = worker.stop()
        took = time.monotonic() - began
        if code or took > STOP_S:
            raise E2EError(f"worker {number} exited with {code}, {took:.1f} s after SIGTERM:\n{worker.tail()}")

    def suspend(self, number: int) -> None:
        """Send SIGSTOP to a worker."""
        self.running[number].process.send_signal(signal.SIGSTOP)

    def resume(self, number: int) -> None:
        """Send SIGCONT to a worker."""
        self.running[number].process.send_signal(signal.SIGCONT)

    def wipe(self, number: int) -> None:
        """Remove the data directory of a worker that does not run."""
        shutil.rmtree(self.data(number), ignore_errors=True)

    def wait_for_failpoint(self, number: int, *, timeout: float) -> bool:
        """Wait until a worker's failpoint has killed it; return False if that did not happen within `timeout` s."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not self.running[number].running:
                self.kills += 1
                del self.running[number]
                return True
            time.sleep(_POLL_S)
        return False

    def supervise(self) -> None:
        """Restart every worker that has exited, without a failpoint. Raises E2EError if one exited with 0."""
        for number, worker in list(self.running.items()):
            if not worker.running:
                code = worker.process.returncode
                self.unexpected_exits.append(f"worker {number}, exit code {code}: {worker.tail(1)}")
                if code == 0:
                    raise E2EError(f"worker {number} exited with 0 without being asked to:\n{worker.tail()}")
                self.start(number)

    def sleep(self, seconds: float) -> None:
        """Let time pass while supervising the workers."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.supervise()
            time.sleep(_POLL_S)

    def kill_all(self) -> None:
        """Kill all running workers."""
        for number in list(self.running):
            self.running.pop(number).kill()


def wait_until(
    done: Callable[[], bool], seconds: float, problem: str, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Wait until `done`. Raises E2EError with the problem after `seconds`; sleep: Fleet.sleep also supervises."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise E2EError(f"{problem} after {seconds:g} s")
        sleep(0.1)
