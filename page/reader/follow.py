"""The reader: a thread that follows the output topics and writes what they say into the database."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

from aiokafka.errors import KafkaError

from app.errors import ConfigError
from app.settings import Settings
from models.days import LocalDays
from page.reader.errors import MadeAnew, NotReady, Rewritten, unanswered
from page.reader.reading import Reading
from page.reader.sources import Sources
from page.reader.state import Phase, State
from page.reader.writing import Writing
from page.store.apply import Calendar, Changes, Fold
from page.store.database import Database

log = logging.getLogger(__name__)

T = TypeVar("T")

#: pause before the topics are read again after an error [s]
_PAUSE_S = 2.0
#: how long the reading may take to end [s]
_PATIENCE_S = 5.0


class Follower:
    """The reader. Its methods may be called from any thread but its own."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        *,
        cases_topic: str = "",
        history_days: int = 120,
        fold: Fold | None = None,
        on_changes: Callable[[Changes], None] = lambda _: None,
        on_crash: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        """Do not begin yet.

        fold: applies records of the topic of cases; on_changes: called in a thread of the reader's after a commit, once
        all topics have been read; on_crash: called there with an error after which it cannot go on.
        """
        self._settings, self._database = settings, database
        sources, calendar = Sources.of(settings, cases_topic), Calendar(LocalDays(settings.zone), history_days)
        writing = Writing(database, sources, calendar, fold)
        self._reading = Reading(settings, sources, calendar, writing, self)
        self._on_changes, self._on_crash = on_changes, on_crash
        self._condition = threading.Condition()
        self._positions: dict[str, int] = {}
        self._state = State(is_complete=writing.is_complete)
        self._stopping = False
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="page-reader", daemon=True)

    @property
    def state(self) -> State:
        """How far it is."""
        with self._condition:
            return self._state

    def start(self) -> None:
        """Begin to read, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End after the current batch, and wait for that."""
        with self._condition:
            # the loop is closed only after this is set
            if not self._stopping and self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._stopped.set)
        if self._thread.is_alive():
            self._thread.join()

    def wait_for(self, topic: str, offset: int, timeout_s: float) -> bool:
        """Wait until the record at `offset` of a topic is in the database; return whether it is."""
        with self._condition:
            self._condition.wait_for(lambda: self._stopping or self._positions.get(topic, 0) > offset, timeout_s)
            return self._positions.get(topic, 0) > offset

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin to run a coroutine on the reader's event loop. Raises RuntimeError if the reader does not run."""
        with self._condition:
            if self._stopping or not self._thread.is_alive():
                coroutine.close()
                raise RuntimeError("the reader has ended")
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine on the reader's event loop and return its result.

        Raises TimeoutError, after which the coroutine is cancelled, and RuntimeError if the reader does not run.
        """
        future = self.begin(coroutine)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise TimeoutError from None

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        except BaseException as error:
            log.critical("the reader of the page has ended: %s", error, exc_info=error)
            self.show(kind=Phase.FAILED, line=f"the reader has ended: {error}; see the log, and restart the page")
            self._on_crash(error)
        finally:
            with self._condition:
                self._stopping = True
                self._condition.notify_all()
            _cancel_all(self._loop)
            self._loop.close()

    async def _main(self) -> None:
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            while not stopped.done():
                task = asyncio.ensure_future(self._reading.run())
                await asyncio.wait((stopped, task), return_when=asyncio.FIRST_COMPLETED)
                if stopped.done():
                    await self._end(task)
                    return
                pause = await self._explain(task)
                await asyncio.wait((stopped,), timeout=pause)
        finally:
            await self._reading.close()

    async def _end(self, task: asyncio.Future[None]) -> None:
        """Let the reading end; what fails meanwhile does not matter any more."""
        self._reading.stop()
        if not (await asyncio.wait((task,), timeout=_PATIENCE_S))[0]:
            task.cancel()
            await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()

    async def _explain(self, task: asyncio.Future[None]) -> float:
        """Say why the reading has ended, and prepare the next; return the pause before it [s]."""
        try:
            task.result()
        except NotReady as error:
            self._say(Phase.LOADING, str(error))
        except MadeAnew as error:
            log.warning("the page's database is built again: %s", error)
            await self._reading.clear()
        except Rewritten:
            return 0.0
        except ConfigError as error:
            self._say(Phase.FAILED, str(error))
        except (KafkaError, OSError, TimeoutError) as error:
            self._say(Phase.FAILED, unanswered(self._settings, error))
        except sqlite3.OperationalError as error:
            self._say(Phase.FAILED, f"{self._database.path} cannot be written: {error}")
        except sqlite3.DatabaseError as error:
            if not isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
                self._database.mark_damaged()  # the next start makes it anew
            raise
        return _PAUSE_S

    def _say(self, kind: Phase, line: str) -> None:
        if line != self.state.line:
            log.warning("%s", line)
        self.show(kind=kind, line=line)

    # -- called by Reading

    def show(self, **values: Any) -> None:
        """Show values of State."""
        with self._condition:
            self._state = replace(self._state, **values)
            self._condition.notify_all()

    def committed(self, positions: Mapping[str, int], changes: Changes | None) -> None:
        """Let everybody know of a commit; positions: by topic; changes: None while not everything has been read."""
        with self._condition:
            self._positions.update(positions)
            self._condition.notify_all()
        if changes is not None:
            self._on_changes(changes)


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    """Let what others run on the loop end."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
