"""The Faust app: agents whose messages are chunks, tables of bytes, and the life cycle of their runtime."""

from __future__ import annotations

import asyncio
import logging
import socket
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import faust
from faust.exceptions import AlreadyConfiguredWarning

from agents.ports import Agent, Delivery
from app.kafka.consumer import Consumer
from app.kafka.log import KafkaLog
from app.kafka.queue import ChunkQueue, QueuedChunk
from app.kafka.refusals import ATTEMPTS, LASTING_S, REFUSALS, LoginRefused
from app.kafka.registry import SchemaRegistry
from app.model_file import Models
from app.ops.drain import Drain
from app.ops.hosts import host_check
from app.ops.metrics import Metrics
from app.ops.watchdog import INTERVAL_S, Status, Watchdog, give_up, status_of
from app.ops.web_server import WebServer, port_of
from app.settings import Settings
from app.state.place import Place
from app.state.table import StateTable
from app.upstream import SCHEME, install
from app.upstream.faust import FlowControl, RebalanceMonitor

log = logging.getLogger(__name__)

#: maximum age of the consumer's metadata [s]: partitions added to the source topic are noticed, and read, after it
METADATA_MAX_AGE_S = 2.0
#: stands for RISK_WEB_PORT=0, which Faust refuses, until a worker has taken a port
ANY_PORT = 1
#: time without a poll after which a worker leaves the group [s]: the longest possible. While the registry is down
#: everything waits, and a worker that leaves the group with full queues never joins it again
_NEVER_IDLE_S = float((2**31 - 1) // 1000)


@dataclass(frozen=True, slots=True)
class Runtime:
    """The runtime of a worker, built by app/topology.py from the result of preflight."""

    kafka: KafkaLog
    registry: SchemaRegistry
    #: None: scoring is off
    models: Models | None
    #: agents by declared name
    agents: Mapping[str, Agent]
    #: topics whose number of partitions must not change while the worker runs, with that number
    partitions: Mapping[str, int]
    #: None: the worker works until it is stopped
    drain: Drain | None = None


class ChunkSchema(faust.Schema[Any, Any]):
    """Passes a chunk on as the event's value: agents decode whole batches."""

    def compile(self, app: Any, **kwargs: Any) -> Any:
        """Return the function that turns a message into an event."""

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return app.create_event(None, message.value, None, message)

        return decode


class RiskApp(faust.App):
    """The Faust app. Declared at import; a worker gives it the `runtime` before it starts."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        #: set by app/topology.py before a worker starts; other commands run without one
        self.runtime: Runtime | None = None
        #: a worker's place, None without RocksDB, and the socket of its pages, None without pages
        self.place: Place | None = None
        self.listener: socket.socket | None = None
        #: called once a second: a timer for each would wake the worker as often as there are timers
        self.each_second: list[Callable[[], object]] = []
        #: made when the worker starts
        self.watchdog: Watchdog
        timeout = settings.session_timeout_s
        install()
        super().__init__(
            settings.app_id,
            # Faust lets APP_VERSION, WEB_BIND, BROKER_URL and a hundred other variables override what is passed here
            env={},
            broker=";".join(f"{SCHEME}://{server}" for server in settings.brokers),
            store=settings.store,
            datadir=str(settings.datadir),
            autodiscover=False,
            web_bind=settings.web_address,
            web_port=settings.web_port or ANY_PORT,
            web_host=f"[{settings.web_address}]" if ":" in settings.web_address else settings.web_address,
            web_application_options={"middlewares": [host_check(settings.web_names)]},
            web_router_enabled=False,
            web_tables_enabled=False,
            web_graph_enabled=False,
            web_stats_enabled=False,
            web_metrics_enabled=False,
            topic_disable_leader=True,
            table_standby_replicas=settings.standbys,
            stream_wait_empty=False,
            # counts chunks, not messages, and small chunks for less (app/kafka/queue.py)
            stream_buffer_maxsize=4,
            consumer_max_fetch_size=2**21,
            consumer_metadata_max_age_ms=int(METADATA_MAX_AGE_S * 1000),
            broker_check_crcs=True,
            broker_session_timeout=timeout,
            broker_heartbeat_interval=timeout / 6,
            broker_rebalance_timeout=max(10.0, timeout),
            broker_request_timeout=max(30.0, 2 * timeout),
            broker_commit_interval=1.0,
            broker_max_poll_interval=_NEVER_IDLE_S,
            stream_recovery_delay=0.0,
            Worker="app.worker:Worker",
            Monitor=RebalanceMonitor,
        )
        self.flow_control = FlowControl(initially_suspended=True)

    def occupy(self, listener: socket.socket | None, place: Place | None) -> None:
        """Use a port, or none, and a place, or none. Called before anything starts."""
        self.listener, self.place = listener, place
        conf: Any = self.conf  # which takes a text where it has a URL
        with warnings.catch_warnings():
            # the command has looked at some of them, to see what the command line says
            warnings.simplefilter("ignore", AlreadyConfiguredWarning)
            if listener is not None:
                port = port_of(listener)
                self.settings = replace(self.settings, web_port=port)
                conf.web_port = port
                conf.canonical_url = f"http://{conf.web_host}:{port}"
            if place is not None:
                conf.datadir = place.path

    def whereabouts(self) -> str:
        """Return where the state and the pages are."""
        state = "state in memory" if self.place is None else f"place {self.place.number}: state in {self.place.path}"
        return f"{state}, " + ("no pages" if self.listener is None else f"pages at {self.conf.canonical_url}")

    def _new_web(self) -> WebServer:
        return WebServer(self)

    def FlowControlQueue(self, maxsize: int | None = None, *, clear_on_resume: bool = False) -> ChunkQueue:
        """Create an agent's queue, bounded by the size of its chunks."""
        return ChunkQueue(maxsize=maxsize or 0, flow_control=self.flow_control, clear_on_resume=clear_on_resume)

    def declare_table(self, name: str, description: str) -> StateTable:
        """Declare a table of bytes with its changelog."""
        changelog = self.topic(
            f"{self.settings.app_id}-{name}-changelog", schema=ChunkSchema(), compacting=True, internal=False
        )
        table = StateTable(
            self,
            name=name,
            help=description,
            key_type=bytes,
            value_type=bytes,
            changelog_topic=changelog,
            recovery_buffer_size=2,
        )
        self.tables.add(table)
        return table

    def declare_agent(self, name: str, topic: str, description: str, *, actor_per_partition: bool = False) -> None:
        """Declare the agent `name` of a topic; the runtime has its implementation.

        An agent that raises ends the worker: Faust would restart the agent after the chunk on which it failed.
        """

        async def agent(stream: Any) -> None:
            assert self.runtime is not None, "only a worker starts agents, and has a runtime"
            await self.runtime.agents[name].run(self._deliveries(stream, topic, alone=actor_per_partition))

        agent.__doc__ = description
        channel = self.topic(topic, schema=ChunkSchema(), internal=False)
        self.agent(channel, name=name, isolated_partitions=actor_per_partition)(agent)

    async def _deliveries(self, stream: Any, topic: str, *, alone: bool) -> AsyncIterator[Delivery]:
        # Consumer.processed acknowledges after the commit; Faust would also acknowledge chunks that failed
        async for event in stream.noack().events():
            message = event.message
            consumer: Any = self.consumer
            assigned = frozenset(tp.partition for tp in consumer.assignment() if tp.topic == topic)
            partitions = consumer.partitions(topic)
            # an actor per partition receives only one chunk of a fetch
            queued: QueuedChunk = message.value
            has_next = not stream.channel.empty() or (queued.has_next and not alone)
            yield Delivery(queued.chunk, message.generation_id, assigned, has_next, partitions)

    async def _on_agent_error(self, agent: Any, error: BaseException) -> None:
        if self.crashed:
            return  # the other agents fail as a consequence of the first
        log.critical("agent %s failed: %s: %s", agent.name, type(error).__name__, error)
        await self.crash(error)

    # -- life cycle

    async def on_start(self) -> None:
        """Start the watchdog, and connect the log to which the agents write."""
        self.watchdog = Watchdog(
            self.settings.stall_timeout_s,
            lambda: self.crash_reason,
            partial(give_up, settings=self.settings),
            hint=lambda: REFUSALS.reason(self.settings),
        )
        self.watchdog.start()
        log.info("%s", self.whereabouts())
        self.add_future(self._every_second())
        await super().on_start()
        if self.runtime is not None and isinstance(self.consumer, Consumer):
            self.consumer.revoking = self.runtime.kafka.release
            self.consumer.fixed_partitions = self.runtime.partitions
            self.consumer.source_topic = self.settings.source_topic
            self.consumer.newest_event_time = self.runtime.kafka.newest_event_time
            await self.runtime.kafka.start(self.consumer)
            if self.runtime.drain is not None:
                self.runtime.drain.attach(self.consumer)
                self.add_future(self.runtime.drain.run())

    async def _every_second(self) -> None:
        while not self.should_stop:
            self.watchdog.report(status_of(self))
            for call in self.each_second:
                call()
            if refused := REFUSALS.reason(self.settings, lasting_s=LASTING_S, attempts=ATTEMPTS):
                await self.crash(LoginRefused(refused))
            await asyncio.sleep(INTERVAL_S)

    async def on_stop(self) -> None:
        """Let flushes finish, and commit."""
        self.watchdog.report(Status("stopping", None, stopping=True))
        if self.runtime is not None:
            await self.runtime.kafka.release()
        await super().on_stop()

    async def on_shutdown(self) -> None:
        """Disconnect after the agents have ended, since they send until then."""
        await super().on_shutdown()
        if self.runtime is not None:
            await self.runtime.kafka.stop()
        self.watchdog.close()
