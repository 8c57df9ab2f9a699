"""What wakes a worker that has nothing to do."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from faust.types import TP
from mode import Service

from app.faust_app import RiskApp
from app.kafka.consumer import Consumer
from app.kafka.thread import Thread
from app.settings import Settings
from app.upstream.faust import RebalanceMonitor


@pytest.mark.parametrize(
    ("service", "task"),
    [
        (Thread, "_keepalive2"),
        (Thread, "_thread_keepalive"),
        (Consumer, "_commit_livelock_detector"),
        (RebalanceMonitor, "_sampler"),
    ],
)
async def test_tasks_of_faust_and_mode_that_nobody_needs_end_at_once(service: type[Service], task: str) -> None:
    """The originals loop for ever, and wake the process each second."""
    fun = getattr(service, task)
    await asyncio.wait_for(getattr(fun, "fun", fun)(SimpleNamespace(should_stop=False)), 0.1)


def test_the_monitor_counts_rebalances_and_keeps_nothing_of_messages() -> None:
    app = RiskApp(Settings(store="memory://"))
    monitor = app.monitor
    assert isinstance(monitor, RebalanceMonitor)
    tp, message = TP("log", 0), SimpleNamespace(time_in=None)
    monitor.on_message_in(tp, 1, message)
    monitor.on_stream_event_in(tp, 1, SimpleNamespace(task_owner=None), None)
    assert (monitor.messages_received_total, monitor.events_total) == (0, 0)
    assert (len(monitor.tp_read_offsets), len(monitor.stream_inbound_time)) == (0, 0)
    app.rebalancing_count = 3
    monitor.on_rebalance_start(app)
    assert monitor.rebalances == 3


async def test_a_read_that_is_given_up_ends_in_the_thread_too() -> None:
    """At a rebalance: it must take nothing from the next generation."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    began = asyncio.Event()

    class Reading(Thread):
        def __init__(self) -> None:
            self.thread_loop = loop

        async def _chunks(self, *_: object) -> list[object]:
            began.set()
            try:
                await asyncio.sleep(10)
            finally:
                ended.set()
            return []

    read = asyncio.create_task(Reading().chunks(set(), 1, 1))
    await asyncio.wait_for(began.wait(), 1)
    read.cancel()
    await asyncio.wait_for(ended.wait(), 1)
