"""`faust -A app forget`: delete all that is known of some students."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from faust.cli import argument, option

from app.commands.base import Command
from app.errors import ConfigError
from app.ops.forget import forget as erase
from app.settings import Settings

#: what no run of the command can reach
_NOT_REACHED = (
    "the source topic, its backups and Moodle's own log: delete the rows there, first, or they come back with another "
    "RISK_APP_ID",
    "indices: the sinks delete the documents that have an id; delete the history of predictions and of alerts by query",
    "bytes on the brokers' disks until Kafka's next compaction, copies of topics, snapshots, other consumers",
)


class forget(Command):
    """Forget students: delete all that is known of them, while workers run.

    Takes their ids in Moodle's table of users. Deletes their state, writes tombstones for all that was written under
    their keys, erases dead letters, and waits until all workers have done so. What they do later counts as that of
    students who were never seen. Run it with the workers' settings; it may be run again at any time.
    """

    options = (
        argument("userid", type=int, nargs=-1, required=True),
        option("--timeout", type=float, default=120.0, show_default=True, help="How long workers may take [s]."),
    )

    def main(self, *, userid: tuple[int, ...], timeout: float, **_: Any) -> int:
        """Forget them, and print what could not be reached; return the exit code."""
        settings: Settings = self.app.settings  # type: ignore[attr-defined]
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs what becomes one line here
        logging.getLogger("app.kafka.registry").setLevel(logging.CRITICAL)
        if out := [number for number in userid if not -(1 << 63) <= number < 1 << 63]:
            raise ConfigError(f"{out[0]} is no id of a user")
        lines = asyncio.run(erase(settings, userid, timeout, _report))
        number = len(set(userid))
        self.say(f"forgotten: {number} student{'' if number == 1 else 's'}. Not reached:")
        for line in (*lines, *_NOT_REACHED):
            self.say(f"- {line}")
        return 0


def _report(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
