"""Workers under a supervisor that starts again whoever ends, as systemd or docker would."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from app.ops.failpoints import VARIABLE
from tools.e2e.workers import TrialError, Worker

#: how long a worker may take until its web page answers [s]
STARTED_S = 60.0
#: between two looks at the workers [s]
_LOOK_S = 0.05


class Fleet:
    """Numbered workers of one app, each with a data directory that stays. Mutable."""

    def __init__(self, variables: Mapping[str, str], directory: Path) -> None:
        self._variables, self._directory = variables, directory
        self.running: dict[int, Worker] = {}
        #: how often a worker was killed with SIGKILL, by itself or by us
        self.kills = 0
        #: why workers ended that nobody had killed
        self.gave_up: list[str] = []

    def data(self, number: int) -> Path:
        """A worker's data directory."""
        return self._directory / f"data-{number}"

    def start(self, number: int, fault: str = "") -> Worker:
        """Start a worker; with a fault it ends by itself sooner or later."""
        variables = {**self._variables, "RISK_DATADIR": str(self.data(number)), VARIABLE: fault}
        self.running[number] = Worker(variables, self._directory / f"worker-{number}.log").start()
        return self.running[number]

    def kill(self, number: int) -> None:
        """SIGKILL."""
        self.running.pop(number).kill()
        self.kills += 1

    def stop(self, number: int) -> float:
        """SIGTERM; how long it took to end [s]. Raises TrialError if it did not end well within 10 s.

        Not before the worker's web page answers: a Python that is still importing just dies of it.
        """
        give_up = time.monotonic() + STARTED_S
        while self.running[number].stats() is None and time.monotonic() < give_up:
            self.supervise()
            time.sleep(_LOOK_S)
        worker, began = self.running.pop(number), time.monotonic()
        code = worker.stop()
        took = time.monotonic() - began
        if code or took > 10.0:
            raise TrialError(f"worker {number} took {took:.1f} s to end after SIGTERM, with {code}:\n{worker.tail()}")
        return took

    def suspend(self, number: int) -> None:
        """SIGSTOP."""
        self.running[number].process.send_signal(signal.SIGSTOP)

    def resume(self, number: int) -> None:
        """SIGCONT."""
        self.running[number].process.send_signal(signal.SIGCONT)

    def wipe(self, number: int) -> None:
        """Remove the state of a worker that does not run."""
        shutil.rmtree(self.data(number), ignore_errors=True)

    def ended(self, number: int, *, timeout: float) -> bool:
        """Wait until a worker with a fault has killed itself; False if it has not come to that place."""
        give_up = time.monotonic() + timeout
        while time.monotonic() < give_up:
            if not self.running[number].running:
                self.kills += 1
                del self.running[number]
                return True
            time.sleep(_LOOK_S)
        return False

    def supervise(self) -> None:
        """Start again whoever has ended, without any fault."""
        for number, worker in list(self.running.items()):
            if not worker.running:
                self.gave_up.append(f"worker {number}, exit code {worker.process.returncode}: {worker.tail(1)}")
                if worker.process.returncode == 0:
                    raise TrialError(f"worker {number} ended with 0 though nobody asked it to:\n{worker.tail()}")
                self.start(number)

    def pause(self, seconds: float) -> None:
        """Let time pass, and look after the workers."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.supervise()
            time.sleep(_LOOK_S)

    def end(self) -> None:
        """Kill what still runs."""
        for number in list(self.running):
            self.running.pop(number).kill()
