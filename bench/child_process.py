"""Each thing that is measured is a process of its own: started here, and gone when the bench is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from stack.supervisor import dying_with
from tools.e2e.workers import ROOT, TrialError

#: how long a child that was told to stop may take [s]
_STOP_S = 10.0
#: how long a child may take for anything before it is killed [s]
_PATIENCE_S = 600.0


class Child:
    """`python -m MODULE ARGUMENTS`, which says on its standard output a JSON line a step. Ends with the block."""

    def __init__(self, module: str, arguments: list[str], variables: Mapping[str, str], log: Path) -> None:
        """variables: put over this process's environment; log: what it says on its standard error goes there."""
        self._argv = [sys.executable, "-m", module, *arguments]
        self._environment = {**os.environ, **variables}
        self._log = log
        self.process: subprocess.Popen[str]

    def __enter__(self) -> Child:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._argv,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                preexec_fn=dying_with(os.getpid()),
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

    def said(self) -> dict[str, Any]:
        """Its next line. Raises TrialError if it ends without one, or has none for long."""
        assert self.process.stdout is not None
        patience = threading.Timer(_PATIENCE_S, self.process.kill)
        patience.start()
        line = self.process.stdout.readline()
        patience.cancel()
        if not line:
            code = self.process.wait()
            end = "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-15:])
            raise TrialError(f"{' '.join(self._argv[1:3])} ended with {code}:\n{end}")
        found: dict[str, Any] = json.loads(line)
        return found


def say(**facts: object) -> None:
    """A child's line to its parent."""
    print(json.dumps(facts), flush=True)
