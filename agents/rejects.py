"""Counting and logging of records that could not be used; the agent that rejects them writes the dead letters."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from agents.ports import Metrics
from codec.dead_letters import DeadLetter

log = logging.getLogger(__name__)

#: maximum number of rejected records of one fetch that are logged individually
MAX_LOGGED = 20


def report(dead_letters: Sequence[DeadLetter], metrics: Metrics, topic: str) -> None:
    """Count and log rejected records; `topic` is the dead-letter topic."""
    for dead_letter in dead_letters:
        metrics.add("rejected", 1, dead_letter.reason)
    for dead_letter in dead_letters[:MAX_LOGGED]:
        log.warning("%s", dead_letter)
    if len(dead_letters) > MAX_LOGGED:
        log.warning("%d more records of this fetch were skipped, see topic %s", len(dead_letters) - MAX_LOGGED, topic)
