"""Topics of which no record can be used: every one becomes a dead letter, and nothing counts."""

from __future__ import annotations

import logging
from dataclasses import dataclass

log = logging.getLogger(__name__)

#: number of records refused in a row from which a topic counts as refused as a whole
MIN_REFUSED = 10


@dataclass(slots=True)
class _Topic:
    """Mutable: records of a topic refused since the last one that could be used."""

    refused: int = 0
    last: str = ""


class RejectedTopics:
    """Topics that are refused as a whole, for /health and the log. Mutable."""

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}

    def add(self, topic: str, used: int, refused: int, last: str) -> None:
        """Add what became of a fetch: records used and refused; last: the last of those and the reason, one line."""
        if not (used or refused):
            return  # tombstones say nothing
        state = self._topics.setdefault(topic, _Topic())
        was_refused = state.refused >= MIN_REFUSED
        if used:
            state.refused = 0
            if was_refused:
                log.warning("topic %s: its records can be used again", topic)
            return
        state.refused += refused
        state.last = last
        if not was_refused and state.refused >= MIN_REFUSED:
            log.error("%s", self.reason)

    @property
    def reason(self) -> str | None:
        """Which topic is refused as a whole and why, one line; None if none is."""
        for topic, state in self._topics.items():
            if state.refused >= MIN_REFUSED:
                return f"topic {topic}: none of the last {state.refused} records could be used; the last: {state.last}"
        return None
