"""What a supervisor runs: one JSON file per server, and the only record of which servers were started."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from stack.errors import StackError


@dataclass(frozen=True)
class ProcessSpec:
    """A server process to supervise, and when to stop it."""

    name: str
    argv: tuple[str, ...]
    #: port number by purpose
    ports: Mapping[str, int]
    #: pid whose death stops the server; None: no owner
    owner: int | None
    #: wall-clock time at which the server is stopped [s since the epoch]
    until: float
    #: time between SIGTERM and SIGKILL [s]
    grace_s: float

    def write(self, path: Path) -> None:
        """Replace `path` atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        os.replace(draft, path)

    @classmethod
    def read(cls, path: Path) -> ProcessSpec:
        """Read a file written by `write`. Raises StackError if it is missing or invalid."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**fields, "argv": tuple(fields["argv"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StackError(f"cannot read {path}: {error}") from error


@dataclass(frozen=True)
class ServerFiles:
    """Paths of one server under a stack's directory."""

    directory: Path
    name: str

    @property
    def spec(self) -> Path:
        """The server's ProcessSpec; exists from `up` to `down`."""
        return self.directory / "run" / f"{self.name}.json"

    @property
    def supervisor(self) -> Path:
        """Lock file held by the supervisor."""
        return self.spec.with_suffix(".supervisor")

    @property
    def server(self) -> Path:
        """Lock file held by the server itself, also after its supervisor died."""
        return self.spec.with_suffix(".server")

    @property
    def log(self) -> Path:
        """Output of server and supervisor, appended to by every run."""
        return self.directory / "logs" / f"{self.name}.log"

    @property
    def home(self) -> Path:
        """The server's configuration and data."""
        return self.directory / self.name
