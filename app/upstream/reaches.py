"""Every private or undocumented name of a library that this program relies on. Data only.

tests/test_upstream.py checks each name against the pinned versions; docs/upstream.md has a section for each group,
with the change to the library that would make it unnecessary.
"""

from __future__ import annotations

from dataclasses import dataclass

#: versions that the names were checked against; the same as in setup.cfg
VERSIONS = {
    "aiokafka": "0.14.0",
    "faust-streaming": "0.15.3",
    "mode-streaming": "0.7.1",
    "python-schema-registry-client": "2.6.1",
    "rocksdict": "0.3.29",
}


@dataclass(frozen=True, slots=True)
class Reach:
    """Names of one library that one part of this program relies on."""

    #: heading in docs/upstream.md
    section: str
    library: str
    #: where the names are used
    file: str
    why: str
    #: "module:Class.name" → parameters of a function, None for an attribute, a class or a compiled function
    names: dict[str, str | None]


def _of(owner: str, *attributes: str, **functions: str) -> dict[str, str | None]:
    return {f"{owner}.{name}": functions.get(name) for name in (*attributes, *functions)}


_FETCHER, _RECORD = "aiokafka.consumer.fetcher", "aiokafka.record"
_STATE, _BATCHES = "aiokafka.consumer.subscription_state", "aiokafka.producer.message_accumulator"
_CONSUMER, _THREAD = "faust.transport.drivers.aiokafka:Consumer", "faust.transport.drivers.aiokafka"

REACHES = (
    Reach(
        "Fetched record batches",
        "aiokafka",
        "app/upstream/aiokafka.py",
        "the consumer returns an object per record, which costs six times as much as columns",
        {
            **_of("aiokafka:AIOKafkaConsumer", "_fetcher", "_closed"),
            **_of(
                f"{_FETCHER}:Fetcher",
                *("_subscriptions", "_prefetch_backoff", "_closed", "_records", "_wait_consume_future"),
                _create_fetch_waiter="self",
                _notify="self, future",
            ),
            **_of(
                f"{_FETCHER}:FetchResult",
                *("_partition_records", "_assignment"),
                check_assignment="self, tp",
                has_more="self",
                _update_position="self",
            ),
            **_of(f"{_FETCHER}:FetchError", check_raise="self"),
            **_of(
                f"{_FETCHER}:PartitionRecords",
                *("_records_iterator", "_records", "_isolation_level", "_check_crcs", "_tp", "_aborted_producers"),
                "next_fetch_offset",
                _consume_aborted_up_to="self, batch_offset",
            ),
            **_of(
                f"{_STATE}:SubscriptionState",
                "reassignment_in_progress",
                fetch_context="self",
                wait_for_assignment="self",
                is_assigned="self, tp",
            ),
            **_of(f"{_STATE}:Assignment", state_value="self, tp"),
            **_of(f"{_STATE}:TopicPartitionState", "lso", "highwater"),
            f"{_FETCHER}:MemoryRecords": None,
            f"{_FETCHER}:READ_COMMITTED": None,
            **_of(f"{_RECORD}.memory_records:MemoryRecords", "has_next", "next_batch", "size_in_bytes"),
            **_of(
                f"{_RECORD}.default_records:DefaultRecordBatch",
                *("base_offset", "next_offset", "producer_id", "is_control_batch", "is_transactional", "validate_crc"),
            ),
        },
    ),
    Reach(
        "Removed markers",
        "aiokafka",
        "app/upstream/__init__.py",
        "a partition cannot be read once compaction has removed a transaction's marker",
        {
            f"{_FETCHER}:PartitionRecords._contains_abort_marker": None,
            f"{_RECORD}.control_record:ABORT_MARKER": None,
            f"{_RECORD}.control_record:ControlRecord.parse": "data",
        },
    ),
    Reach(
        "Held partitions",
        "aiokafka",
        "app/upstream/holding.py",
        "the broker answers a fetch at its first record, and a node is asked for nothing else until then",
        {
            **_of("aiokafka:AIOKafkaConsumer", "_fetcher"),
            "aiokafka.consumer.consumer:Fetcher": None,
            f"{_FETCHER}:FetchRequest": None,
            **_of(
                f"{_FETCHER}:Fetcher",
                *("_fetch_min_bytes", "_fetch_max_bytes", "_fetch_max_wait_ms", "_isolation_level", "_client_rack"),
                *("_wait_consume_future", "_fetch_waiters"),
                _notify="self, future",
                _get_actions_per_node="self, assignment",
                _proc_fetch_request="self, assignment, node_id, request",
                _select_read_replica="self, tp",
            ),
            **_of("aiokafka.protocol.fetch:FetchRequest", "topics"),
        },
    ),
    Reach(
        "Fresh metadata",
        "aiokafka",
        "app/upstream/aiokafka.py",
        "the consumer's number of partitions of a topic may be as old as its metadata",
        {
            **_of("aiokafka:AIOKafkaConsumer", "_client"),
            **_of("aiokafka.client:AIOKafkaClient", force_metadata_update="self"),
        },
    ),
    Reach(
        "Committed metadata",
        "aiokafka",
        "app/upstream/aiokafka.py",
        "the metadata that was committed with an offset is not public",
        {
            **_of("aiokafka:AIOKafkaConsumer", "_coordinator"),
            **_of("aiokafka.consumer.group_coordinator:GroupCoordinator", fetch_committed_offsets="self, partitions"),
        },
    ),
    Reach(
        "Decompression",
        "aiokafka",
        "app/kafka/unpack.py",
        "batches are decompressed with the codecs that aiokafka has found",
        {
            f"aiokafka.codec:{name}": parameters
            for codec in ("gzip", "snappy", "lz4", "zstd")
            for name, parameters in ((f"{codec}_decode", "payload"),)
        },
    ),
    Reach(
        "Encoded batches",
        "aiokafka",
        "app/upstream/aiokafka.py",
        "the producer encodes records one by one; here their columns are encoded at once",
        {
            **_of(
                f"{_BATCHES}:BatchBuilder",
                *("_builder", "_relative_offset", "_buffer", "_closed"),
                _build="self",
                _set_producer_state="self, producer_id, producer_epoch, base_sequence",
                append="self, *, timestamp, key, value, headers=[]",
                close="self",
                closed="self",
                record_count="self",
                size="self",
            ),
            **_of(
                f"{_RECORD}.default_records:DefaultRecordBase",
                *("HEADER_STRUCT", "AFTER_LEN_OFFSET", "ATTRIBUTES_OFFSET", "TRANSACTIONAL_MASK"),
            ),
            **_of(f"{_RECORD}.default_records:DefaultRecordBatchBuilder", "append"),
        },
    ),
    Reach(
        "State of a transactional producer",
        "aiokafka",
        "app/upstream/aiokafka.py",
        "whether a producer is transactional, fenced, or forgotten by the broker is not public",
        {
            **_of("aiokafka:AIOKafkaProducer", "_txn_manager"),
            **_of(
                "aiokafka.producer.transaction_manager:TransactionManager",
                "transactional_id",
                is_fatal_error="self",
                wait_for_transaction_end="self",
            ),
        },
    ),
    Reach(
        "Refused connections",
        "aiokafka",
        "app/upstream/__init__.py",
        "clients log why they cannot connect and try for ever; one that is refused must end with the reason",
        {"aiokafka.client:create_conn": None},
    ),
    Reach(
        "Attempts to connect",
        "aiokafka",
        "app/upstream/connections.py",
        "a client that cannot start raises without the reason; the debug log has passwords and tokens",
        {
            "aiokafka.conn:collect_hosts": "hosts, randomize=True",
            "aiokafka.conn:AIOKafkaConnection.send": "self, request, expect_response=True",
            **{
                f"aiokafka.protocol.admin:{name}": None
                for name in ("ApiVersionRequest", "SaslAuthenticateRequest.API_KEY")
            },
        },
    ),
    Reach(
        "Wait between transactions",
        "aiokafka",
        "app/upstream/__init__.py",
        "aiokafka waits 20 ms until it tries the next transaction again; a few are enough",
        {"aiokafka.producer.sender:BACKOFF_OVERRIDE": None},
    ),
    Reach(
        "Admin requests",
        "aiokafka",
        "app/upstream/aiokafka.py",
        "the admin client cannot describe topics without creating them, nor ask for rights",
        {
            **_of("aiokafka.admin:AIOKafkaAdminClient", _send_request="self, request, node_id=None"),
            "aiokafka.protocol.admin:ApiVersionRequest": "",
            "aiokafka.protocol.metadata:MetadataRequest": "topics=None, allow_auto_topic_creation=None",
            "aiokafka.protocol.group:HeartbeatRequest": "group, generation_id, member_id",
            "aiokafka.protocol.transaction:EndTxnRequest": (
                "transactional_id, producer_id, producer_epoch, transaction_result"
            ),
            **_of("aiokafka.protocol.api:Request", build="self, request_struct_class"),
            **{f"aiokafka.protocol.api:{name}": None for name in ("RequestStruct", "Response")},
            **{
                f"aiokafka.protocol.types:{name}": None
                for name in ("Array", "Boolean", "Int16", "Int32", "Schema", "String")
            },
        },
    ),
    Reach(
        "Chunks as messages",
        "faust-streaming",
        "app/kafka/consumer.py",
        "Faust's consumer delivers single records, and commits by its own acks",
        {
            **_of(
                _CONSUMER,
                "_committed_offset",
                "_commit_handler",
                "_commit_livelock_detector",
                _commit="self, offsets",
                _drain_messages="self, fetcher",
                _filter_tps_with_pending_acks="self, topics=None",
                _get_active_partitions="self",
                _new_consumer_thread="self",
                _new_offset="self, tp",
                ack="self, message",
                on_init="self",
                on_partitions_revoked="self, revoked",
                perform_seek="self",
            ),
            "faust.types:ConsumerMessage": (
                "topic, partition, offset, timestamp, timestamp_type, headers, key, value, checksum, "
                "serialized_key_size=None, serialized_value_size=None, tp=None, time_in=None, time_out=None, "
                "time_total=None, generation_id=None"
            ),
        },
    ),
    Reach(
        "A commit during a crash",
        "mode-streaming",
        "app/kafka/consumer.py",
        "a commit waits forever for a consumer thread that has crashed",
        _of("mode:Service", "_crashed"),
    ),
    Reach(
        "The consumer thread",
        "faust-streaming",
        "app/kafka/thread.py",
        "Faust has no setting for the isolation level, no metadata of commits, and no call for batches; its livelock "
        "detection counts messages; mode wakes thread and loop each second to see whether they live",
        {
            **_of(
                f"{_THREAD}:AIOKafkaConsumerThread",
                "_assignor",
                "_keepalive2",
                "_thread_keepalive",
                _commit="self, offsets",
                _create_worker_consumer="self, transport",
                _ensure_consumer="self",
                call_thread="self, fun, *args, **kwargs",
                verify_event_path="self, now, tp",
            ),
        },
    ),
    Reach(
        "Faust's producer",
        "faust-streaming",
        "app/kafka/driver.py",
        "all clients of Kafka are made in one place, app/kafka/clients.py",
        _of(f"{_THREAD}:Producer", _new_producer="self, transactional_id=None"),
    ),
    Reach(
        "Monitor",
        "faust-streaming",
        "app/upstream/faust.py",
        "Faust's monitor computes averages each second, and keeps figures of each message, that nobody asks for",
        {
            **_of(
                "faust:Monitor",
                "_sampler",
                on_message_in="self, tp, offset, message",
                on_message_out="self, tp, offset, message",
                on_stream_event_in="self, tp, offset, stream, event",
                on_stream_event_out="self, tp, offset, stream, event, state=None",
            ),
        },
    ),
    Reach(
        "Flow control",
        "mode-streaming",
        "app/upstream/faust.py",
        "resuming flow that was not suspended clears the agents' queues",
        _of("mode.utils.queues:FlowControlEvent", resume="self", is_active="self", clear="self"),
    ),
    Reach(
        "Queues bounded by size",
        "mode-streaming",
        "app/kafka/queue.py",
        "Faust bounds queues by number of messages, and cannot replace a waiting message",
        {
            **_of("mode.utils.queues:ThrowableQueue", _put="self, item", _get="self", clear="self", qsize="self"),
            **_of("asyncio:Queue", "_queue"),
        },
    ),
    Reach(
        "A failed agent",
        "faust-streaming",
        "app/faust_app.py",
        "Faust restarts a failed agent behind the messages that it has not processed",
        {
            **_of("faust:App", _on_agent_error="self, agent, exc"),
            "faust.app.base:App.FlowControlQueue": "self, maxsize=None, *, clear_on_resume=False",
        },
    ),
    Reach(
        "The web server's socket",
        "faust-streaming",
        "app/ops/web_server.py",
        "Faust opens the port of the web server itself, after the checks, and no free one",
        {
            **_of("faust:App", _new_web="self"),
            **_of("faust.web.drivers.aiohttp:Web", "_runner", _new_transport_tcp="self"),
        },
    ),
    Reach(
        "RocksDB databases",
        "faust-streaming",
        "app/state/store.py",
        "Faust cannot replace a damaged database, nor give access to one for batches",
        {
            **_of(
                "faust.stores.rocksdb:Store",
                *("_dbs", "rocksdb_options", "offset_key"),
                _db_for_partition="self, partition",
                _open_for_partition="self, partition",
                persisted_offset="self, tp",
                partition_path="self, partition",
            ),
            **_of("faust.stores.rocksdb:RocksDBOptions", as_options="self"),
        },
    ),
    Reach(
        "Changelog chunks",
        "faust-streaming",
        "app/state/table.py",
        "a changelog message is a chunk of records; former owners are fenced before recovery",
        _of(
            "faust:Table",
            apply_changelog_batch="self, batch",
            on_changelog_event="self, event",
            on_rebalance="self, assigned, revoked, newly_assigned, generation_id=0",
        ),
    ),
    Reach(
        "Names of transport and store",
        "faust-streaming",
        "app/upstream/__init__.py",
        "a transport and a store can only be registered by name",
        {"faust.transport.drivers:TRANSPORTS.aliases": None, "faust.stores:STORES.aliases": None},
    ),
    Reach(
        "RocksDB errors",
        "rocksdict",
        "app/state/store.py",
        "rocksdict raises plain Exception; RocksDB's message tells damage from a full disk or a lock",
        {"rocksdict:Rdict": None},
    ),
)
