"""The watchdog ends a worker that makes no progress although there is work, and says why.

The event loop reports every second what it is doing (`Standing`); a separate thread checks the reports, so that a
blocked event loop is noticed as well. The process ends at once with exit code 1: what is unfinished is an open
transaction, which the next owner of the partition aborts.
"""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from app.kafka.driver import Consumer

#: between two looks, and between two words of the loop [s]
LOOK_S = 1.0
#: how long a worker that was asked to stop, or failed, may take to end [s]
STOP_S = 10.0
#: its number
STDERR = 2


@dataclass(frozen=True)
class Standing:
    """What a worker is doing, and a mark that changes with every step it makes."""

    #: for a person; None where there is nothing to do
    doing: str | None
    mark: Hashable = None
    #: whether it has been asked to end
    stopping: bool = False


@dataclass
class Patience:
    """Counts looks without a step. Mutable. A process that was suspended has only missed looks."""

    #: looks that may pass without a step; while stopping
    looks: int
    stop_looks: int = round(STOP_S / LOOK_S)
    _beats: int = 0
    _silent: int = 0
    _still: int = 0
    _stopping: int = 0
    _last: Standing = field(default_factory=lambda: Standing("starting"))

    def look(self, beats: int, now: Standing, failed: str = "") -> str | None:
        """Take a look: `beats` says how often the loop has told something, `now` is the last of it.

        failed: why the worker gave up, if it did: then it has only to end. Returns why it must be ended, if it must.
        """
        self._silent = 0 if beats != self._beats else self._silent + 1
        moved = now.doing is None or (now.doing, now.mark) != (self._last.doing, self._last.mark)
        if moved:
            self._still = 0
        elif not self._silent:
            self._still += 1
        self._stopping = self._stopping + 1 if now.stopping or failed else 0
        self._beats, self._last = beats, now
        if self._stopping > self.stop_looks:
            return failed or f"asked to stop, and still here after {self._stopping} s"
        if self._silent > self.looks:
            return f"the event loop has not turned for {self._silent} s"
        if self._still > self.looks:
            return f"no progress for {self._still} s: {now.doing}"
        return None


def standing(app: Any) -> Standing:
    """What a RiskApp is doing now."""
    consumer = app.consumer
    stopping = bool(app.should_stop or app.crashed)
    if app.rebalancing:
        return Standing("waiting for the consumer group to rebalance", app.consumer_generation_id, stopping)
    if app.in_recovery:
        offsets = tuple(app.tables.recovery.active_offsets.values())
        return Standing("reading the changelogs", offsets, stopping)
    if not app.tables.actives_ready:
        return Standing("waiting for partitions to be assigned", None, stopping)
    if isinstance(consumer, Consumer):
        waiting, done = consumer.backlog()
        if waiting:
            return Standing(waiting, done, stopping)
    return Standing(None, None, stopping)


class Watchdog(threading.Thread):
    """Looks at a worker once a second until it is told that the worker has ended. Mutable."""

    def __init__(
        self,
        patience_s: float,
        failed: Callable[[], BaseException | None] = lambda: None,
        end: Callable[[str], object] | None = None,
    ) -> None:
        """patience_s: how long a worker may stand still; failed: why it gave up; end: what to do at last."""
        super().__init__(name="watchdog", daemon=True)
        self._patience = Patience(round(patience_s / LOOK_S))
        self._failed = failed
        self._end = end or give_up
        self._over = threading.Event()
        self._standing = Standing("starting")
        self._beats = 0

    def tell(self, now: Standing) -> None:
        """The loop's word, once a second."""
        self._standing = now
        self._beats += 1

    def over(self) -> None:
        """Look no more."""
        self._over.set()

    def run(self) -> None:
        """The thread."""
        while not self._over.wait(LOOK_S):
            failed = self._failed()
            reason = self._patience.look(self._beats, self._standing, "" if failed is None else in_a_line(failed))
            if reason is not None:
                self._end(reason)
                return


def in_a_line(error: BaseException) -> str:
    """Kind and text of an error; some of Faust's have several lines."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def give_up(reason: str) -> None:
    """End the process at once, saying where it stood. Faust has put a logger in the place of sys.stderr."""
    try:
        faulthandler.dump_traceback(STDERR)
        os.write(STDERR, f"moodle-risk: gave up: {reason}\n".encode())
    finally:
        os._exit(1)
