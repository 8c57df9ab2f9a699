"""Workers forked from a process that has already imported the app, for tests that start many of them.

A forked worker runs the same program (Faust's command line with `-A app worker`) without importing it again.
tests/test_worker.py starts a worker the plain way, and so do demo, smoke, chaos and bench in their tests.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack.supervisor import die_with_parent
from tools.e2e.workers import ROOT, Worker

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["app", "app.worker", "aiohttp", "faust.cli.worker", "faust.transport.drivers.aiokafka", "faust.stores.rocksdb"]
)

#: multiprocessing reaps all children when it forks, and an exit code can be read only once: a second, concurrent
#: reader would get 255
_REAPING = threading.Lock()


def _run(arguments: Sequence[str], settings: Mapping[str, str], log: str) -> None:
    """Turn a forked process into `faust -A app` with these arguments."""
    set_death_signal = die_with_parent(os.getppid())
    if set_death_signal is not None:
        set_death_signal()
    with open(log, "ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.chdir(ROOT)
    os.environ.update(settings)
    sys.argv = ["faust", "-A", "app", *arguments]
    from faust.cli.faust import cli

    import app
    from app.settings import Settings
    from app.topology import declare

    app.app = declare(Settings.from_env(os.environ))  # as app/__init__.py does on import
    cli()


class ForkedProcess:
    """The part of the subprocess.Popen interface that Worker uses."""

    def __init__(
        self, settings: Mapping[str, str], log: Path, arguments: Sequence[str] = ("worker", "-l", "info")
    ) -> None:
        """arguments: of `faust -A app`."""
        self._process = _CONTEXT.Process(target=_run, args=(arguments, dict(settings), str(log)), daemon=True)
        with _REAPING:
            self._process.start()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        with _REAPING:
            return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.returncode) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("worker", timeout or 0)
            time.sleep(0.01)
        return code


class ForkedWorker(Worker):
    """A worker whose process is forked."""

    def __init__(self, settings: Mapping[str, str], log: Path) -> None:
        super().__init__(settings, log)
        self._settings = self.settings

    def start(self) -> ForkedWorker:
        """Fork the process."""
        self._process = ForkedProcess(self._settings, self.log)
        return self
