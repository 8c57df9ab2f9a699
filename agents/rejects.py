"""Records that could not be used: counted, logged, and kept by the agent that rejects them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from agents.ports import Metrics
from codec.dead_letters import DeadLetter

log = logging.getLogger(__name__)

#: rejected records of one fetch that are logged one by one
MAX_LOGGED = 20


def report(dead_letters: Sequence[DeadLetter], metrics: Metrics, topic: str) -> None:
    """Count and log rejected records; `topic` is where they are kept."""
    for dead_letter in dead_letters:
        metrics.add("rejected", 1, dead_letter.reason)
    for dead_letter in dead_letters[:MAX_LOGGED]:
        log.warning("%s", dead_letter)
    if len(dead_letters) > MAX_LOGGED:
        log.warning("%d more records of this fetch were skipped, see topic %s", len(dead_letters) - MAX_LOGGED, topic)
