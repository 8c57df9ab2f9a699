"""The one place for what this program takes from libraries beyond their documented API (docs/upstream.md)."""

from __future__ import annotations

import logging

from aiokafka import client
from aiokafka.consumer import consumer, fetcher
from aiokafka.producer import sender
from faust.stores import STORES
from faust.transport.drivers import TRANSPORTS

from app.kafka.refusals import REFUSALS
from app.upstream.aiokafka import HANDLED_ERRORS, TRANSACTION_RETRY_S, RawMemoryRecords, contains_abort_marker
from app.upstream.connections import hide_logins, reporting_create_conn
from app.upstream.holding import HoldingFetcher

#: name of the transport in broker URLs
SCHEME = "chunked"


def install() -> None:
    """Make all assignments into libraries; idempotent.

    Must run before an app is built, before `app.kafka.reader` reads, and before transactions are written.
    """
    # aiokafka 0.14.0: everything fetched in this process keeps its bytes, see RawMemoryRecords
    fetcher.MemoryRecords = RawMemoryRecords
    # aiokafka 0.14.0 cannot read a partition once compaction has removed a transaction's marker
    fetcher.PartitionRecords._contains_abort_marker = contains_abort_marker
    # aiokafka 0.14.0: the worker's consumer can leave partitions out of its requests, see HoldingFetcher
    consumer.Fetcher = HoldingFetcher
    # aiokafka 0.14.0; upstream change: a producer setting `transaction_retry_backoff_ms`
    sender.BACKOFF_OVERRIDE = TRANSACTION_RETRY_S
    for logger in (sender.__name__, "asyncio"):
        logging.getLogger(logger).addFilter(HANDLED_ERRORS)
    # aiokafka 0.14.0: clients log why they cannot connect, and tell nobody; see reporting_create_conn
    client.create_conn = reporting_create_conn(REFUSALS.note)
    # aiokafka 0.14.0 logs passwords and tokens at level debug
    hide_logins()
    # Faust 0.15.3: setup.cfg has the same as an entry point, which a bare checkout lacks
    TRANSPORTS.aliases[SCHEME] = "app.kafka.driver:Transport"
    # Faust 0.15.3; upstream change: let App(store=…) take a class, as it does for other components
    STORES.aliases["rocksdb"] = "app.state.store:Store"
