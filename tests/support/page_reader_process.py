"""A reader of the advisers' page in a process of its own, to be killed: forked, so that imports are paid for once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.settings import Settings
from page.reader import reading, writing
from page.reader.follow import Follower
from page.reader.state import Phase
from page.store.apply import Changes
from page.store.database import Database
from tools.e2e.programs import ROOT

#: most records in a batch of these readers, longest time between their commits, and a pause in each batch [s]: they are
#: killed before they have read everything, and mostly within a transaction
BATCH, COMMIT_S, PAUSE_S = 500, 0.1, 0.1


class ReaderProcess:
    """Starts readers over the same file, one after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self) -> int:
        """Start a reader; return its process id once it has opened the file."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("start\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def run_for(self, seconds: float) -> None:
        """Start a reader, and kill it."""
        pid = self.start()
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> str:
        """Wait for the end of the reader; return `live` if it has read all topics, else why not."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def reader_process(variables: Mapping[str, str], path: Path, history_days: int) -> Iterator[ReaderProcess]:
    """Run the process that forks readers of the database in `path`; a reader ends when it is live."""
    arguments = [sys.executable, "-m", "tests.support.page_reader_process", str(path), str(history_days)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **variables}, cwd=ROOT
    ) as process:
        try:
            yield ReaderProcess(process)
        finally:
            process.kill()


def _main(path: Path, history_days: int) -> None:
    for _ in sys.stdin:
        pid = os.fork()
        if not pid:
            _read(path, history_days)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print("live" if status == 0 else json.dumps(status), flush=True)


def _read(path: Path, history_days: int) -> None:
    reading._LOADING_RECORDS = BATCH  # type: ignore[attr-defined]  # noqa: SLF001
    writing._LOADING_S = COMMIT_S  # type: ignore[attr-defined]  # noqa: SLF001
    apply = writing.apply

    def slowly(*args: Any, **kwargs: Any) -> Changes:
        time.sleep(PAUSE_S)
        return apply(*args, **kwargs)

    writing.apply = slowly
    settings = Settings.from_env(os.environ)
    database = Database.open(path)
    print(os.getpid(), flush=True)
    follower = Follower(
        settings, database, cases_topic=settings.topic_names.cases, history_days=history_days, on_crash=_end
    )
    follower.start()
    while follower.state.kind != Phase.LIVE:
        time.sleep(0.02)
    follower.stop()
    database.close()


def _end(_: BaseException) -> None:
    os._exit(1)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
