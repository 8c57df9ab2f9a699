"""How the page's reader ends."""

from __future__ import annotations

import threading
from pathlib import Path

from app.settings import Settings
from page.reader.follow import Follower
from page.reader.state import Phase
from tests.support.cluster import TIMEOUT_S
from tests.support.page_tables import open_database


class Failing:
    """A reading that fails with an error of our own."""

    async def run(self) -> None:
        raise ZeroDivisionError

    async def close(self) -> None:
        """Nothing is open."""


def test_a_reader_can_be_stopped_while_it_ends_by_itself(tmp_path: Path) -> None:
    """Its event loop may be closed by then, and its thread still be there."""
    database = open_database(tmp_path)
    follower = Follower(Settings(), database)
    follower._reading = Failing()  # type: ignore[assignment]  # noqa: SLF001
    loop, closed, may_end = follower._loop, threading.Event(), threading.Event()  # noqa: SLF001
    close = loop.close

    def close_and_wait() -> None:
        close()
        closed.set()
        may_end.wait(TIMEOUT_S)

    loop.close = close_and_wait  # type: ignore[method-assign]
    follower.start()
    try:
        assert closed.wait(TIMEOUT_S)
        threading.Timer(0.1, may_end.set).start()
        follower.stop()
        assert follower.state.kind == Phase.FAILED
        assert not follower._thread.is_alive()  # noqa: SLF001
    finally:
        may_end.set()
        database.close()
