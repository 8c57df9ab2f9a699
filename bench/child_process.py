"""Child processes of the bench, which report JSON lines on their standard output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stack.supervisor import die_with_parent
from tools.e2e.workers import ROOT, E2EError

#: time between SIGTERM and SIGKILL [s]
_STOP_S = 10.0
#: time to wait for a line before the child is killed [s]
_LINE_TIMEOUT_S = 600.0


class ChildProcess:
    """`python -m MODULE ARGUMENTS`, started and stopped by the with block; it dies with this process."""

    def __init__(self, module: str, arguments: Sequence[str], variables: Mapping[str, str], log: Path) -> None:
        """variables: override this process's environment; log: receives the child's stderr."""
        self._argv = [sys.executable, "-m", module, *arguments]
        self._environment = {**os.environ, **variables}
        self._log = log
        self.process: subprocess.Popen[str]

    def __enter__(self) -> ChildProcess:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._argv,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                preexec_fn=die_with_parent(os.getpid()),
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_STOP_S)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def read(self) -> dict[str, Any]:
        """Return the fields of the child's next line. Raises E2EError if it ends or takes too long without one."""
        assert self.process.stdout is not None
        timer = threading.Timer(_LINE_TIMEOUT_S, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            code = self.process.wait()
            tail = "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-15:])
            raise E2EError(f"{' '.join(self._argv[1:3])} ended with {code}:\n{tail}")
        fields: dict[str, Any] = json.loads(line)
        return fields


def emit(**fields: object) -> None:
    """Write a line to the parent process."""
    print(json.dumps(fields), flush=True)
