"""`faust -A app replay`: write a log into the source topic, as Debezium would."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from faust.cli import argument, option

from app.commands.base import Command
from app.errors import ConfigError
from app.settings import Settings
from tools.replay import csv_file, oulad, progress
from tools.replay.log_rows import LogRows


class replay(Command):
    """Write a log into the topic RISK_SOURCE_TOPIC, encoded as Debezium does: Avro with a schema registry.

    SOURCE is "oulad" (Open University students: real days, click counts and submissions, generated times of
    day), or a .csv or .csv.gz file with the columns id, eventname, userid and timecreated, and if there are
    courseid, relateduserid, anonymous, origin and realuserid. After an interruption, run the same command again:
    it continues where it stopped.
    """

    options = (
        argument("source"),
        option("--module", multiple=True, help="oulad: only this module, e.g. BBB. May be repeated."),
        option("--presentation", multiple=True, help="oulad: only this presentation, e.g. 2013J. May be repeated."),
        option("--limit", type=int, help="oulad: number of events to write, from the first; default: all."),
        option("--seed", type=int, default=1, show_default=True, help="oulad: seed of the generated times of day."),
        option("--speed", type=float, default=0.0, show_default=True, help="Log seconds per second; 0: no limit."),
        option("--partitions", type=int, default=4, show_default=True, help="Partitions, if the topic is created."),
        option("--file-unit", help="Unit of the file's timecreated: ms or s; default: ms, if that makes sense."),
    )

    def main(self, *, source: str, speed: float, partitions: int, **given: Any) -> int:
        """Replay the log."""
        settings: Settings = self.app.settings  # type: ignore[attr-defined]
        if partitions < 1 or speed < 0:
            raise ConfigError("--partitions must be at least 1, --speed not below 0")
        rows = _oulad_rows(given) if source == "oulad" else _file_rows(Path(source), given["file_unit"])
        asyncio.run(progress.replay(settings, rows, partitions=partitions, speed=speed or None))
        return 0


def _oulad_rows(given: dict[str, Any]) -> LogRows:
    modules, codes = given["module"], given["presentation"]
    names = [
        str(p) for p in oulad.PRESENTATIONS if (not modules or p.module in modules) and (not codes or p.code in codes)
    ]
    if not names:
        known = ", ".join(map(str, oulad.PRESENTATIONS))
        raise ConfigError(f"--module and --presentation match no presentation: choose from {known}")
    return oulad.generate(names, seed=given["seed"], limit=given["limit"])


def _file_rows(path: Path, requested: str | None) -> LogRows:
    """Read a file; without a requested unit its times must make sense in ms."""
    unit = requested or "ms"
    if unit not in csv_file.UNITS:
        raise ConfigError(f"--file-unit must be one of {', '.join(csv_file.UNITS)}, not {unit!r}")
    try:
        rows, ignored = csv_file.read(path, unit=unit)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if requested != "ms":
        csv_file.check_unit(path, rows, unit)
    if ignored:
        print(f"ignored columns: {', '.join(ignored)}", file=sys.stderr)
    return rows
