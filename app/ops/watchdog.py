"""The watchdog ends a worker that makes no progress although there is work, and says why.

The event loop reports its status every second; a separate thread checks the reports, so that a blocked event loop
is noticed as well. The process ends at once with exit code 1: what is unfinished is an open transaction, which the
next owner of the partition aborts.
"""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from app.kafka.consumer import Consumer
from app.ops.logs import STDERR, say, stacks
from app.settings import Settings

#: interval of the reports, and of the checks [s]
INTERVAL_S = 1.0
#: how long a worker may take to end after it was asked to stop, or failed [s]
STOP_S = 10.0


@dataclass(frozen=True)
class Status:
    """What a worker is doing."""

    #: for a person; None if there is no work
    work: str | None
    #: changes whenever some of the work is done
    progress: Hashable = None
    #: whether the worker has been asked to end
    stopping: bool = False


@dataclass
class StallDetector:
    """Counts checks without progress. Mutable.

    It counts checks, not time: a process that was suspended has only missed checks.
    """

    #: checks that may pass without progress, and while stopping
    checks: int
    stop_checks: int = round(STOP_S / INTERVAL_S)
    _reports: int = 0
    _without_report: int = 0
    #: checks without progress so far
    without_progress: int = 0
    _stopping: int = 0
    _last: Status = field(default_factory=lambda: Status("starting"))

    def check(self, reports: int, status: Status, failure: str = "") -> str | None:
        """Check once; return the reason why the worker must be ended, None if it need not.

        reports: how many reports the event loop has made; status: the last of them; failure: why the worker
        gave up, if it did: then it only has to end.
        """
        self._without_report = 0 if reports != self._reports else self._without_report + 1
        progressed = status.work is None or (status.work, status.progress) != (self._last.work, self._last.progress)
        if progressed:
            self.without_progress = 0
        elif not self._without_report:
            self.without_progress += 1
        self._stopping = self._stopping + 1 if status.stopping or failure else 0
        self._reports, self._last = reports, status
        if self._stopping > self.stop_checks:
            return failure or f"asked to stop, and still running after {self._stopping} s"
        if self._without_report > self.checks:
            return f"the event loop has been blocked for {self._without_report} s"
        if self.without_progress > self.checks:
            return f"no progress for {self.without_progress} s: {status.work}"
        return None


def status_of(app: Any) -> Status:
    """Return the current status of a RiskApp."""
    consumer = app.consumer
    stopping = bool(app.should_stop or app.crashed)
    if app.rebalancing:
        return Status("waiting for the consumer group to rebalance", app.consumer_generation_id, stopping)
    if app.in_recovery:
        offsets = tuple(app.tables.recovery.active_offsets.values())
        return Status("reading the changelogs", offsets, stopping)
    if not app.tables.actives_ready:
        return Status("waiting for partitions to be assigned", None, stopping)
    # normally the group rebalances within a session timeout. It does not if the broker has ended the transaction of a
    # worker that could not reach it for too long: nobody would apply this partition, while the others go on
    if app.runtime is not None and (fenced := app.runtime.kafka.fenced()):
        return Status(f"{', '.join(fenced)} taken over, and the group does not rebalance", None, stopping)
    if isinstance(consumer, Consumer):
        work, progress = consumer.backlog()
        if work:
            # a registry that answers without the schema that is waited for: the wait is bounded
            answers = 0 if app.runtime is None else app.runtime.registry.answers
            # a partition may go through many ticks, or wait for one that does, before its next visits are applied
            sums = 0 if app.runtime is None else app.runtime.kafka.sums_read
            return Status(work, (progress, answers, sums), stopping)
    return Status(None, None, stopping)


class Watchdog(threading.Thread):
    """Checks a worker every second until the worker has ended. Mutable."""

    def __init__(
        self,
        timeout_s: float,
        failure: Callable[[], BaseException | None] = lambda: None,
        end: Callable[[str], object] | None = None,
        hint: Callable[[], str] = lambda: "",
    ) -> None:
        """timeout_s: how long a worker may make no progress; failure: why it gave up; end: ends the process.

        hint: what may have been the cause, or "".
        """
        super().__init__(name="watchdog", daemon=True)
        self._detector = StallDetector(round(timeout_s / INTERVAL_S))
        self._failure = failure
        self._end = end or give_up
        self._hint = hint
        self._closed = threading.Event()
        self._status = Status("starting")
        self._reports = 0

    def report(self, status: Status) -> None:
        """Report the status; the event loop calls this every second."""
        self._status = status
        self._reports += 1

    @property
    def stalled_s(self) -> float:
        """How long there has been work, and none of it was done [s]."""
        return self._detector.without_progress * INTERVAL_S

    def close(self) -> None:
        """Stop checking: the worker has ended."""
        self._closed.set()

    def run(self) -> None:
        """Check until closed, or until the worker must be ended."""
        while not self._closed.wait(INTERVAL_S):
            failure = self._failure()
            reason = self._detector.check(self._reports, self._status, "" if failure is None else in_a_line(failure))
            if reason is not None:
                self._end(with_hint(reason, self._hint()))
                return


def in_a_line(error: BaseException) -> str:
    """Format type and text of an error as one line; some of Faust's errors have several."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def with_hint(reason: str, hint: str) -> str:
    """Return a reason with what may have been its cause, unless it says so already."""
    return f"{reason}; {hint}" if hint and hint not in reason else reason


def give_up(reason: str, settings: Settings | None = None) -> None:
    """Write the stacks of all threads and the reason to stderr, and end the process at once."""
    try:
        if settings is None or settings.log_format == "text":
            faulthandler.dump_traceback(STDERR)
            say(settings or Settings(), f"gave up: {reason}")
        else:
            say(settings, f"gave up: {reason}", stacks())
    finally:
        os._exit(1)
