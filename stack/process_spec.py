"""What a keeper is told to run: one small file a server, and the only record of what was started here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from stack.errors import StackError


@dataclass(frozen=True)
class Orders:
    """One server to keep running, and until when."""

    name: str
    argv: tuple[str, ...]
    #: what each port is for -> its number
    ports: Mapping[str, int]
    #: pid whose death ends the server; None: nobody owns it
    owner: int | None
    #: wall-clock end of its life [s since the epoch]
    until: float
    #: between SIGTERM and SIGKILL [s]
    grace_s: float

    def write(self, path: Path) -> None:
        """Replace `path` whole: a reader sees the old orders or these, never half."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        os.replace(draft, path)

    @classmethod
    def read(cls, path: Path) -> Orders:
        """Raises StackError if the file is not what `write` wrote."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**fields, "argv": tuple(fields["argv"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StackError(f"cannot read {path}: {error}") from error


@dataclass(frozen=True)
class Files:
    """The files of one server under a stack's directory."""

    directory: Path
    name: str

    @property
    def orders(self) -> Path:
        """What its keeper was told."""
        return self.directory / "run" / f"{self.name}.json"

    @property
    def keeper(self) -> Path:
        """Held by the keeper while it lives."""
        return self.orders.with_suffix(".keeper")

    @property
    def server(self) -> Path:
        """Held by the server itself while it lives, whatever became of its keeper."""
        return self.orders.with_suffix(".server")

    @property
    def log(self) -> Path:
        """What server and keeper print, run after run."""
        return self.directory / "logs" / f"{self.name}.log"

    @property
    def home(self) -> Path:
        """The server's own data."""
        return self.directory / self.name
