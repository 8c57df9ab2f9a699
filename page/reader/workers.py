"""The workers as Kafka knows them: members of the consumer group, and what they have not read yet."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from app.errors import ConfigError
from app.kafka.clients import new_admin, new_consumer
from app.kafka.group import members
from app.settings import Settings
from app.upstream.aiokafka import describe_topics

T = TypeVar("T")

#: how long Kafka may take to answer, and how long an answer is kept [s]
_PATIENCE_S, _KEPT_S = 5.0, 5.0


class Runner(Protocol):
    """The thread that reads the topics (page/reader/follow.py)."""

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine on the thread's event loop. Raises TimeoutError, RuntimeError if the thread has ended."""


@dataclass(frozen=True, slots=True)
class Group:
    """The consumer group of the workers."""

    #: host of each member
    hosts: tuple[str, ...] = ()
    #: number of records of Moodle's log, and of visits, that no worker has committed yet; without topics that are not
    #: there, or that the page may not ask for
    lags: Mapping[str, int] = field(default_factory=dict)
    #: why nothing is known; empty otherwise
    problem: str = ""


class Workers:
    """Asks Kafka for the group, at most once in _KEPT_S. Used by the threads that serve requests."""

    def __init__(self, settings: Settings, runner: Runner) -> None:
        self._settings, self._runner = settings, runner
        self._lock = threading.Lock()
        self._group: Group | None = None
        self._asked = 0.0

    def group(self) -> Group:
        """Return what is known of the group. While another thread asks, that is the answer before, if there is one."""
        before = self._group
        if not self._lock.acquire(blocking=before is None):
            return before or Group()
        try:
            if self._group is None or time.monotonic() - self._asked >= _KEPT_S:
                self._group = self._ask()
                self._asked = time.monotonic()
            return self._group
        finally:
            self._lock.release()

    def _ask(self) -> Group:
        try:
            return self._runner.run(_look(self._settings), _PATIENCE_S)
        except TimeoutError:
            return Group(problem=f"Kafka has not answered within {_PATIENCE_S:g} seconds.")
        except (KafkaError, ConfigError, OSError) as error:
            return Group(problem=f"Kafka does not say: {str(error) or type(error).__name__}")
        except RuntimeError:  # after KafkaError, which is one
            return Group(problem="The page is ending.")


async def _look(settings: Settings) -> Group:
    """Ask for members, committed offsets and ends. Raises KafkaError, ConfigError, OSError."""
    admin = new_admin(settings)
    try:
        await admin.start()
        hosts = await members(admin, settings.app_id)
        committed = await admin.list_consumer_group_offsets(settings.app_id)
        described = await describe_topics(admin, (settings.topic_names.source, settings.topic_names.visits))
    finally:
        await admin.close()
    tps = [
        TopicPartition(topic["topic"], partition["partition"])
        for topic in described
        if not topic["error_code"]
        for partition in topic["partitions"]
    ]
    consumer = new_consumer(settings)
    try:
        await consumer.start()
        begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    finally:
        await consumer.stop()
    lags = Counter[str]()
    for tp in tps:
        offset = committed[tp].offset if tp in committed else -1
        lags[tp.topic] += max(0, ends[tp] - max(offset, begins[tp]))
    return Group(tuple(hosts), lags)
