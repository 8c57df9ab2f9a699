"""`faust -A app replay`: put a log into the source topic, as Debezium would."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from faust.cli import argument, option

from app.commands.base import Command
from app.errors import ConfigError
from app.settings import Settings
from tools.replay import csv_file as table
from tools.replay import oulad
from tools.replay.log_rows import LogRows
from tools.replay.progress import replay as send


class replay(Command):
    """Write a log into RISK_SOURCE_TOPIC as Debezium's Avro, through the registry.

    SOURCE is "oulad" (real Open University students: their real days and click counts; only the clock
    inside a day is drawn), or a .csv or .csv.gz file with the columns id, eventname, userid and
    timecreated. Interrupted and started again, it goes on where it was.
    """

    options = (
        argument("source"),
        option("--module", multiple=True, help="oulad: only this module, e.g. BBB. May be given several times."),
        option("--presentation", multiple=True, help="oulad: only this presentation, e.g. 2013J."),
        option("--limit", type=int, help="oulad: only the first so many events."),
        option("--seed", type=int, default=1, show_default=True, help="oulad: seed of the clock times drawn."),
        option("--speed", type=float, default=0.0, show_default=True, help="Log seconds a second, 0: no limit."),
        option("--partitions", type=int, default=4, show_default=True, help="For a topic that is not there yet."),
        option("--file-unit", default="ms", show_default=True, help="Unit of the file's timecreated: ms or s."),
    )

    def main(self, *, source: str, speed: float, partitions: int, **chosen: Any) -> int:
        """Replay."""
        settings: Settings = self.app.settings  # type: ignore[attr-defined]
        if partitions < 1 or speed < 0:
            raise ConfigError("--partitions must be at least 1, --speed not below 0")
        rows = _students(chosen) if source == "oulad" else _file(Path(source), chosen["file_unit"])
        asyncio.run(send(settings, rows, partitions=partitions, speed=speed or None))
        return 0


def _students(chosen: dict[str, Any]) -> LogRows:
    modules, codes = chosen["module"], chosen["presentation"]
    names = [
        str(one)
        for one in oulad.PRESENTATIONS
        if one.module in (modules or (one.module,)) and one.code in (codes or (one.code,))
    ]
    if not names:
        known = ", ".join(map(str, oulad.PRESENTATIONS))
        raise ConfigError(f"no presentation fits --module and --presentation: there are {known}")
    return oulad.generate(names, seed=chosen["seed"], limit=chosen["limit"])


def _file(path: Path, unit: str) -> LogRows:
    if unit not in table.UNITS:
        raise ConfigError(f"--file-unit: {unit!r} is none of {', '.join(table.UNITS)}")
    try:
        rows, ignored = table.read(path, unit=unit)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if ignored:
        print(f"columns left out: {', '.join(ignored)}", file=sys.stderr)
    return rows
