"""A worker that gives up ends, whatever its services are waiting for at that moment."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from faust.types import TP

from app.settings import Settings
from app.topology import declare
from tools.e2e.workers import ROOT


@pytest.fixture
async def consumer() -> AsyncIterator[Any]:
    """A worker's consumer that was not started."""
    made: Any = declare(Settings(store="memory://")).consumer
    yield made
    made._thread.thread_loop.close()


@pytest.mark.parametrize("first", ["the commit", "the crash"])
async def test_a_commit_does_not_wait_for_a_thread_that_has_crashed(
    first: str, consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The crash ends the consumer's thread too, and with it every answer: seen as a worker that never ended."""
    asked = asyncio.Event()

    async def commit(offsets: Mapping[TP, int]) -> bool:
        asked.set()
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(consumer._thread, "commit", commit)
    if first == "the crash":
        await consumer.crash(ValueError("x"))
    committing = asyncio.ensure_future(consumer._commit({TP("t", 0): 5}))
    if first == "the commit":
        await asyncio.wait_for(asked.wait(), 5.0)
        await consumer.crash(ValueError("x"))
    assert await asyncio.wait_for(committing, 5.0) is False


async def test_a_commit_that_is_answered_is_answered(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what the broker said is raised."""

    async def commit(offsets: Mapping[TP, int]) -> bool:
        if not offsets:
            raise ValueError("said the broker")
        return True

    monkeypatch.setattr(consumer._thread, "commit", commit)
    assert await consumer._commit({TP("t", 0): 5})
    with pytest.raises(ValueError, match="said the broker"):
        await consumer._commit({})


def test_a_process_that_does_not_end_after_a_crash_is_ended() -> None:
    """The reason in one last line, exit code 1, though the main thread waits for ever."""
    code = (
        "import threading, app.ops.watchdog as w\n"
        "w.LOOK_S = 0.01\n"
        "w.Watchdog(60, lambda: ValueError('of\\ntwo lines')).start()\n"
        "threading.Event().wait()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "moodle-risk: gave up: ValueError: of two lines"
