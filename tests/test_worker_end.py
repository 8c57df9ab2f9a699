"""A worker that gives up ends, even if its services wait for an answer."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping

import pytest
from faust.types import TP

from tests.support.consumer import SOURCE, Worker, chunk
from tools.e2e.workers import ROOT


@pytest.fixture
async def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker that has processed one chunk and not committed it."""
    worker = Worker(monkeypatch)
    worker.app.producer.flush = no_op
    await worker.assign(SOURCE)
    await worker.read()
    await worker.read(chunk(SOURCE, 10, 12, 10, 11))
    for queued in worker.take():
        worker.consumer.processed(queued.chunk)
    return worker


async def no_op() -> None:
    pass


@pytest.mark.parametrize("first", ["the commit", "the crash"])
async def test_a_commit_does_not_wait_for_a_crashed_thread(
    first: str, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash also ends the consumer's thread, which then never answers: the worker would never end."""
    requested = asyncio.Event()

    async def commit(offsets: Mapping[TP, int]) -> bool:
        requested.set()
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(worker.thread, "commit", commit)
    if first == "the crash":
        await worker.consumer.crash(ValueError("x"))
    committing = asyncio.ensure_future(worker.consumer.force_commit())
    if first == "the commit":
        await asyncio.wait_for(requested.wait(), 5.0)
        await worker.consumer.crash(ValueError("x"))
    assert await asyncio.wait_for(committing, 5.0) is False


async def test_a_commit_returns_the_brokers_answer(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It returns the broker's success, and raises the broker's error."""

    async def refuse(offsets: Mapping[TP, int]) -> bool:
        raise ValueError("refused by the broker")

    committed: list[Mapping[TP, int]] = []

    async def commit(offsets: Mapping[TP, int]) -> bool:
        committed.append(offsets)
        return True

    monkeypatch.setattr(worker.thread, "commit", refuse)
    with pytest.raises(ValueError, match="refused by the broker"):
        await worker.consumer.force_commit()
    monkeypatch.setattr(worker.thread, "commit", commit)
    assert await worker.consumer.force_commit()
    assert committed == [{SOURCE: 12}]


def test_a_process_that_hangs_after_a_crash_is_ended() -> None:
    """Exit code 1 and the reason in the last line, although the main thread waits forever."""
    code = (
        "import threading, app.ops.watchdog as w\n"
        "w.INTERVAL_S = 0.01\n"
        "w.Watchdog(60, lambda: ValueError('of\\ntwo lines')).start()\n"
        "threading.Event().wait()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "moodle-risk: gave up: ValueError: of two lines"
