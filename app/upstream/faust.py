"""Everything taken from Faust 0.15.3 and mode 0.7.1 beyond their documented API.

Private methods overridden in subclasses of Faust's Consumer, ConsumerThread, Store and App stay in those subclasses;
`app.upstream.reaches` lists them.
"""

from __future__ import annotations

from typing import Any

import faust
from faust.types import TP, ConsumerMessage
from mode import Service
from mode.utils.queues import FlowControlEvent


class FlowControl(FlowControlEvent):
    """Faust's flow control, which keeps agents' queues when flow was not suspended.

    Faust resumes flow that was never suspended, and clears the agents' queues each time. By then the fetcher may have
    put messages into them, which would be lost. Upstream change: the same test in `FlowControlEvent.resume` (mode).
    """

    def resume(self) -> None:
        """Resume; clear the queues only if flow had been suspended."""
        if self.is_active():
            return
        super().resume()


class RebalanceMonitor(faust.Monitor):
    """Faust's monitor, which counts rebalances and nothing else: nobody asks for its other figures.

    Upstream change: a setting `monitor_interval`, 0 for no samples.
    """

    @Service.task
    async def _sampler(self) -> None:
        """No-op: no samples."""

    def on_message_in(self, *_: Any) -> None:
        """No-op."""

    def on_message_out(self, *_: Any) -> None:
        """No-op."""

    def on_stream_event_in(self, *_: Any) -> None:
        """No-op."""

    def on_stream_event_out(self, *_: Any) -> None:
        """No-op."""


def new_message(tp: TP, value: object, offset: int, generation: int) -> ConsumerMessage:
    """Create Faust's message for a value that is not bytes, without key, timestamp and headers.

    Upstream change: a type parameter for the value of `ConsumerMessage`.
    """
    message: Any = ConsumerMessage
    built: ConsumerMessage = message(
        tp.topic, tp.partition, offset, None, 0, (), None, value, None, tp=tp, generation_id=generation
    )
    return built
