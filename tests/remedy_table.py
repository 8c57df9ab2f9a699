"""Every fault a worker must survive, its remedies in the code, and the tests that fail without them. Data only.

`python -m tests.remedies` takes each remedy out of a copy of the repository and checks that the tests fail;
test_remedies.py checks that each mutation still applies. For faults whose effect depends on timing, the test listed
is one of the component that has the remedy.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.mutations import (
    Mutation,
    append,
    argument,
    call,
    condition,
    drop,
    insert_after,
    keyword,
    move,
    replace,
    value,
    without_operands,
)

#: what happens to workers, servers and data: short name → description
FAULTS = {
    "killed": "kill -9 at random moments, RocksDB kept",
    "wiped": "kill -9 at random moments, RocksDB wiped",
    "worst": "kill -9 at the worst moments: the failpoints of app/ops/failpoints.py",
    "sigterm": "SIGTERM with a backlog, many times",
    "joins": "a second worker joins and leaves",
    "dies": "one of two is killed, the other takes over",
    "suspended": "a worker is suspended for longer than its session timeout",
    "rest": "nothing is written for so long that Kafka forgets a transactional id",
    "broker": "the broker is killed and restarted while records arrive",
    "brokers": "one of three brokers is killed, suspended, away or without its disk",
    "registry": "the registry is down for a while",
    "disk": "a damaged or missing RocksDB directory",
    "compaction": "the changelog is compacted while it is written",
    "grows": "partitions are added to the source topic or to the app's own, by `grow` or by hand",
    "pages": "two pages act at once on a case, one is killed or its answer is lost, the form is sent again",
    "misleading": "records of the log whose bytes mislead the fast parser",
}


@dataclass(frozen=True)
class Remedy:
    """One measure against a fault, and how to take it out of the code."""

    name: str
    #: keys of FAULTS
    faults: tuple[str, ...]
    #: where the measure is: module:qualified name of a function
    function: str
    #: takes the measure out of that function
    mutation: Mutation
    #: pytest's node ids of the tests that must fail without the measure
    tests: tuple[str, ...]

    @property
    def file(self) -> str:
        """Path of the function's module, from the root of the repository."""
        return self.function.partition(":")[0].replace(".", "/") + ".py"


_DEATHS = "tests/test_worker_deaths.py::test_nothing_is_lost_and_nothing_comes_twice[{}]".format
_FAULTS = "tests/test_worker_faults.py::test_nothing_is_lost_and_nothing_comes_twice[{}]".format

REMEDIES = (
    # -- growing
    Remedy(
        "visit-batches-for-other-partitions-are-dropped",
        ("grows", "suspended"),
        "models.position:drop_applied",
        condition("visit_batch.partitions", "False"),
        ("tests/test_growth.py::test_visit_batches_for_another_number_of_partitions_are_dropped",),
    ),
    Remedy(
        "internal-topics-grow-only-while-no-worker-runs",
        ("grows",),
        "app.kafka.consumer:Consumer._update_partitions",
        condition("actual", "False"),
        ("tests/test_driver.py::test_a_topic_that_must_not_grow_ends_the_worker_before_it_reads",),
    ),
    Remedy(
        "nothing-is-confirmed-while-a-source-partition-is-unknown",
        ("grows",),
        "app.kafka.end_polls:EndPolls.source_has_grown",
        value("count_partitions", "False"),
        ("tests/test_driver.py::test_nothing_is_confirmed_while_a_source_partition_is_unknown",),
    ),
    Remedy(
        "workers-refuse-to-start-until-grow-has-ended",
        ("grows",),
        "app.ops.preflight:_divided_among",
        condition("unfinished", "False"),
        ("tests/test_growth_live.py::test_everything_counts_once[growing_survives_being_killed]",),
    ),
    Remedy(
        "only-even-positions-are-merged",
        ("grows",),
        "app.ops.grow:_try_to_grow",
        condition("is_even", "False"),
        ("tests/test_growth_live.py::test_everything_counts_once[growing_survives_being_killed]",),
    ),
    # -- the flush
    Remedy(
        "rocksdb-is-written-after-the-commit",
        ("killed", "worst"),
        "app.state.partition:Partition.flush",
        replace(
            "self._transactions.run",
            "for records in changes:\n    self._table.write(self.number, records, 0)\n"
            "offset = await self._transactions.run(writes)",
        ),
        (
            "tests/test_partitions.py::test_the_store_is_written_after_the_commit_and_memory_after_the_store",
            _DEATHS("killed_at_sent"),
        ),
    ),
    Remedy(
        "state-goes-to-the-changelog",
        ("wiped", "compaction"),
        "app.state.writes:changelog_pieces",
        call("changelog_rows", "OLD[-1:]"),
        (
            _DEATHS("killed_and_its_state_wiped"),
            _FAULTS("the_changelog_is_compacted_under_a_running_worker"),
        ),
    ),
    Remedy(
        "the-changelog-is-in-the-transaction",
        ("worst", "wiped"),
        "app.state.writes:send_together",
        replace(
            "writes.changelog_rows",
            "for target, some in writes.outputs:\n"
            "    rows.setdefault(target, []).append(some)\n"
            "other = AIOKafkaProducer(bootstrap_servers=producer.client._bootstrap_servers)\n"
            "await other.start()\n"
            "for target, some in writes.changelog_rows():\n"
            "    await last_offset(await send_rows(other, *target, some))\n"
            "await other.stop()",
        ),
        (_DEATHS("killed_at_sent"),),
    ),
    Remedy(
        "log-ids-are-written-with-the-flush",
        ("wiped", "worst"),
        "app.state.partition:Partition.flush",
        argument("Writes", 2, "[{}, *OLD[1:]]"),
        (
            "tests/test_partitions.py::test_log_ids_are_part_of_the_transaction_and_read_from_the_cache_afterwards",
            _DEATHS("killed_while_a_log_is_read_that_is_sent_twice"),
        ),
    ),
    Remedy(
        "the-position-is-written-with-the-flush",
        ("killed", "worst"),
        "app.state.partition:Partition.flush",
        drop("positions.pack"),
        (
            "tests/test_partitions.py::test_the_store_is_written_after_the_commit_and_memory_after_the_store",
            _DEATHS("killed_at_written"),
        ),
    ),
    Remedy(
        "an-unknown-failure-ends-the-worker",
        ("broker",),
        "app.state.partition:Partition.flush",
        drop("is_fenced"),
        ("tests/test_partitions.py::test_a_flush_that_fails_raises_and_changes_neither_store_nor_memory",),
    ),
    # -- what counts as processed
    Remedy(
        "only-the-processed-prefix-is-committed",
        ("sigterm", "killed"),
        "app.kafka.ledger:Ledger.processed",
        append("self._done[partition] = chunk.next_offset"),
        (
            "tests/test_ledger.py::test_the_processed_prefix_is_committable_in_any_order",
            "tests/test_ledger.py::test_equal_chunks_are_distinct",
        ),
    ),
    Remedy(
        "stopping-does-not-wait-for-a-backlog",
        ("sigterm",),
        "app.faust_app:RiskApp.__init__",
        keyword("stream_wait_empty", "True"),
        (_DEATHS("asked_to_stop"),),
    ),
    Remedy(
        "resuming-flow-clears-no-queue",
        ("sigterm", "joins"),
        "app.upstream.faust:FlowControl.resume",
        drop("is_active"),
        ("tests/test_driver.py::test_resuming_active_flow_clears_no_queue",),
    ),
    Remedy(
        "visit-batches-are-acknowledged-before-their-chunk-is-processed",
        ("worst", "broker"),
        "agents.repartition:Repartition.run",
        move("processed", before="send_visits"),
        ("tests/test_pipeline.py::test_a_chunk_is_processed_only_after_its_visit_batches_are_acknowledged",),
    ),
    Remedy(
        "a-chunk-without-a-flush-is-not-processed",
        ("suspended", "joins"),
        "agents.process:Process._apply_visits",
        condition("self._apply_batches", "OLD or True"),
        ("tests/test_pipeline.py::test_a_chunk_without_a_flush_is_not_processed",),
    ),
    Remedy(
        "nothing-is-applied-twice",
        ("killed", "worst"),
        "models.position:drop_applied",
        value("new.take", "(new.take(~fresh), new)"),
        (
            "tests/test_pipeline.py::test_a_visit_batch_that_is_delivered_twice_is_applied_once",
            _DEATHS("killed_and_its_state_kept"),
            _DEATHS("killed_at_framed"),
            _DEATHS("killed_at_processed"),
        ),
    ),
    Remedy(
        "unflushed-deliveries-of-an-older-generation-are-dropped",
        ("joins", "suspended"),
        "agents.gather:gather",
        condition("generation", "False"),
        (
            "tests/test_deliveries.py::test_unflushed_deliveries_of_an_older_generation_are_dropped",
            "tests/test_deliveries.py::test_visit_batches_of_different_generations_are_not_flushed_together",
        ),
    ),
    Remedy(
        "predictions-of-an-older-generation-are-dropped",
        ("joins", "suspended"),
        "agents.gather:gather",
        condition("generation", "False"),
        ("tests/test_pipeline.py::test_predictions_that_have_arrived_share_a_flush_followed_by_a_pause",),
    ),
    Remedy(
        "predictions-are-forwarded-once",
        ("killed", "worst"),
        "agents.alert:Alert._forward",
        value("np.searchsorted", "0"),
        ("tests/test_pipeline.py::test_predictions_that_are_read_twice_are_forwarded_once",),
    ),
    # -- ownership of partitions
    Remedy(
        "the-next-owner-fences-whoever-wrote-a-partition",
        ("suspended", "dies"),
        "app.state.owned:OwnedPartitions._take_over",
        drop("fence"),
        (
            "tests/test_partitions.py::test_former_owners_are_fenced_before_their_partitions_are_claimed",
            _DEATHS("suspended_between_sending_and_committing"),
        ),
    ),
    Remedy(
        "claims-name-the-writer",
        ("suspended", "dies"),
        "app.kafka.thread:Thread._commit",
        argument("metadata_of", 1, "None"),
        (_DEATHS("suspended_between_sending_and_committing"),),
    ),
    Remedy(
        "an-owner-is-claimed-after-the-one-before-it-is-fenced",
        ("suspended", "joins"),
        "app.state.owned:OwnedPartitions._take_over",
        insert_after("self._claims.read", "await self._claims.make(numbers, transactional_id)"),
        ("tests/test_partitions.py::test_former_owners_are_fenced_before_their_partitions_are_claimed",),
    ),
    Remedy(
        "who-cannot-claim-owns-nothing",
        ("suspended",),
        "app.state.owned:OwnedPartitions._take_over",
        condition("self._claims.make", "OLD or True"),
        ("tests/test_partitions.py::test_a_worker_that_is_no_member_any_more_owns_nothing",),
    ),
    Remedy(
        "a-transactional-id-is-used-in-one-generation",
        ("joins",),
        "app.kafka.claims:new_id",
        value("prefix", "f'{prefix}-{__import__(\"os\").getpid()}'"),
        (
            "tests/test_partitions.py::test_all_partitions_have_one_producer_whose_id_is_new_in_each_generation",
            "tests/test_claims.py::test_a_worker_that_keeps_some_partitions_is_not_fenced_by_who_takes_the_others",
        ),
    ),
    Remedy(
        "a-cancelled-flush-leaves-the-transaction-of-the-others",
        ("sigterm", "joins"),
        "app.state.transactions:Transactions.run",
        call("asyncio.shield", "OLD.args[0]"),
        ("tests/test_transactions.py::test_a_flush_that_is_cancelled_does_not_end_the_transaction_of_the_others",),
    ),
    Remedy(
        "former-owners-are-fenced-before-recovery",
        ("worst", "dies"),
        "app.state.table:StateTable.on_rebalance",
        replace("self.on_owned()", "__import__('asyncio').ensure_future(self.on_owned(mine, generation_id))"),
        ("tests/test_driver.py::test_former_owners_are_fenced_before_recovery",),
    ),
    Remedy(
        "a-rebalance-during-recovery-does-not-end-the-worker",
        ("joins",),
        "app.kafka.consumer:Consumer.seek_wait",
        replace("seek_wait", "await super().seek_wait(partitions)"),
        ("tests/test_driver.py::test_a_rebalance_during_recovery_does_not_end_the_worker",),
    ),
    Remedy(
        "a-new-assignment-starts-with-empty-memory",
        ("suspended", "joins"),
        "app.state.owned:OwnedPartitions.renew",
        drop("self.release"),
        ("tests/test_partitions.py::test_a_released_partition_is_not_owned",),
    ),
    Remedy(
        "fencing-is-recognised-after-another-error",
        ("suspended",),
        "app.upstream.aiokafka:is_fenced",
        value("wait_for_transaction_end", "False"),
        ("tests/test_partitions.py::test_a_flush_is_fenced_even_if_aiokafka_raises_another_error",),
    ),
    Remedy(
        "a-forgotten-producer-is-started-again",
        ("rest",),
        "app.state.transactions:Transactions._commit_or_restart",
        condition("is_forgotten", "True"),
        (
            "tests/test_partitions.py::test_a_forgotten_producer_is_started_again",
            "tests/test_broker_limits.py::test_a_worker_goes_on_after_a_rest",
        ),
    ),
    Remedy(
        "only-a-member-of-the-group-starts-a-forgotten-producer",
        ("rest", "suspended"),
        "app.state.transactions:Transactions._require_membership",
        condition("self._is_member", "False"),
        ("tests/test_partitions.py::test_a_forgotten_producer_of_a_former_owner_writes_nothing",),
    ),
    Remedy(
        "students-are-forgotten-once",
        ("killed", "worst"),
        "agents.forget:apply",
        condition("next_offset", "False"),
        ("tests/test_forget.py::test_what_was_before_a_request_is_gone_and_what_comes_later_counts_anew",),
    ),
    Remedy(
        "source-ranges-that-leave-a-hole-are-refused",
        ("suspended",),
        "models.position:drop_applied",
        condition("after_corrupt", "False"),
        ("tests/test_repartition.py::test_a_source_range_that_leaves_a_hole_is_refused",),
    ),
    Remedy(
        "deferred-ranges-are-sent-before-the-next-visits",
        ("joins",),
        "models.heartbeats:_coalesce",
        drop("out.insert"),
        (
            "tests/test_heartbeats.py::test_deferring_does_not_change_stream_times",
            "tests/test_heartbeats.py::test_deferred_ranges_are_sent_before_the_next_visits",
        ),
    ),
    Remedy(
        "a-backlog-that-begins-or-ends-is-sent-at-once",
        ("joins", "broker"),
        "models.heartbeats:_Receiver.may_defer",
        without_operands("lagging"),
        (
            "tests/test_heartbeats.py::test_only_ranges_that_can_wait_are_deferred",
            "tests/test_heartbeats.py::test_a_backlog_that_begins_or_ends_is_sent_at_once",
        ),
    ),
    Remedy(
        "unannounced-partitions-hold-stream-time-back",
        ("joins", "killed"),
        "models.watermarks:Watermarks.unknown",
        call("np.ones", "~OLD"),
        ("tests/test_watermarks.py::test_an_unannounced_partition_holds_stream_time_back",),
    ),
    Remedy(
        "standby-replicas",
        ("dies",),
        "app.faust_app:RiskApp.__init__",
        keyword("table_standby_replicas", "0"),
        (_DEATHS("a_second_worker_ten_seconds_later"),),
    ),
    Remedy(
        "a-dead-worker-is-noticed-soon",
        ("dies",),
        "app.faust_app:RiskApp.__init__",
        keyword("broker_session_timeout", "5 * OLD"),
        ("tests/test_takeover.py::test_partitions_of_a_killed_worker_are_taken_over_in_time",),
    ),
    # -- reading
    Remedy(
        "only-committed-records-are-read",
        ("worst",),
        "app.kafka.thread:Thread._create_worker_consumer",
        keyword("isolation_level", "'read_uncommitted'"),
        (_DEATHS("killed_at_sent"),),
    ),
    Remedy(
        "chunks-are-contiguous",
        ("joins", "broker"),
        "app.kafka.delivery:Delivery._is_due",
        value("self._is_next", "True"),
        (
            "tests/test_driver.py::test_chunks_fetched_before_a_seek_are_dropped",
            "tests/test_driver.py::test_after_a_hole_the_partition_is_read_again",
        ),
    ),
    Remedy(
        "nothing-is-fetched-before-this-generations-seek",
        ("joins",),
        "app.kafka.consumer:Consumer._fetchable",
        value("has_sought", "active"),
        ("tests/test_driver.py::test_before_this_generations_seek_only_changelogs_are_fetched",),
    ),
    Remedy(
        "a-changelog-chunk-ends-behind-its-markers-and-holes",
        ("compaction", "wiped"),
        "app.kafka.delivery:Delivery._put",
        argument("new_message", 2, "chunk.start + len(chunk) - 1"),
        (
            "tests/test_driver.py::test_a_changelog_message_has_the_offset_before_the_next_chunk",
            _FAULTS("the_changelog_is_compacted_under_a_running_worker"),
        ),
    ),
    Remedy(
        "a-batch-ends-where-the-broker-says",
        ("compaction",),
        "app.upstream.aiokafka:_next_batch",
        value(
            "parsed.next_offset",
            "OLD if parsed.is_control_batch else "
            "[record.offset for record in RawMemoryRecords(bytes(batch.raw)).next_batch()][-1] + 1",
        ),
        ("tests/test_record_columns.py::test_the_position_moves_behind_the_batch_and_not_behind_its_last_record",),
    ),
    Remedy(
        "guessed-bounds-are-verified",
        ("misleading",),
        "app.kafka.record_bounds:guess_bounds",
        value("proven.all", "bounds"),
        (
            "tests/test_record_bounds.py::test_a_misled_guess_is_refused",
            "tests/test_record_bounds.py::test_guessed_bounds_are_the_scanned_ones",
        ),
    ),
    # -- the disk
    Remedy(
        "a-database-that-cannot-be-opened-is-removed",
        ("disk",),
        "app.state.store:Store._open_for_partition",
        condition("_is_damage", "True"),
        (
            "tests/test_store.py::test_a_database_that_cannot_be_opened_is_replaced",
            _FAULTS("a_damaged_disk_is_rebuilt"),
        ),
    ),
    Remedy(
        "damage-found-while-reading-is-remembered",
        ("disk",),
        "app.state.store:Store._open_for_partition",
        condition("self._mark", "False"),
        ("tests/test_store.py::test_damage_found_while_reading_ends_the_worker_and_the_next_start_rebuilds",),
    ),
    Remedy(
        "a-truncated-manifest-is-damage",
        ("disk",),
        "app.state.store:Store._open_for_partition",
        condition("live_files", "False"),
        (
            "tests/test_store.py::test_a_truncated_manifest_is_not_taken_for_an_older_state",
            _FAULTS("a_damaged_disk_is_rebuilt"),
        ),
    ),
    # -- unavailable servers
    Remedy(
        "the-registry-is-retried",
        ("registry",),
        "app.kafka.registry:SchemaRegistry._request",
        replace("self._sleep", "return None"),
        (
            "tests/test_registry.py::test_a_registry_that_is_down_is_waited_for",
            "tests/test_registry.py::test_an_unusable_answer_is_not_taken_for_unknown",
            "tests/test_worker_registry.py::test_records_of_a_new_schema_wait_for_the_registry",
        ),
    ),
    Remedy(
        "a-worker-that-waits-stays-in-its-group",
        ("registry",),
        "app.faust_app:RiskApp.__init__",
        keyword("broker_max_poll_interval", None),
        ("tests/test_topology.py::test_a_worker_that_waits_stays_in_its_group",),
    ),
    Remedy(
        "waiting-for-end-offsets-counts-as-work",
        ("broker",),
        "app.kafka.source_progress:SourceProgress.backlog",
        value("self.end_offset_polls", "(None, ())"),
        (
            "tests/test_driver.py::test_an_idle_worker_waits_for_end_offsets",
            _FAULTS("the_broker_is_killed_in_mid_stream"),
        ),
    ),
    Remedy(
        "a-failed-agent-ends-the-worker",
        ("broker",),
        "app.faust_app:RiskApp._on_agent_error",
        drop("self.crash"),
        ("tests/test_worker_refusals.py::test_a_visit_batch_of_a_newer_version_ends_the_worker",),
    ),
    Remedy(
        "a-commit-does-not-wait-for-a-dead-thread",
        ("broker", "sigterm"),
        "app.kafka.consumer:Consumer._commit",
        call("asyncio.wait", "asyncio.wait({committing})"),
        ("tests/test_worker_end.py::test_a_commit_does_not_wait_for_a_crashed_thread",),
    ),
    Remedy(
        "a-stalled-worker-ends",
        ("sigterm", "broker"),
        "app.faust_app:RiskApp.on_start",
        drop("watchdog.start"),
        ("tests/test_watchdog.py::test_a_worker_that_is_stuck_ends_itself",),
    ),
    # -- several brokers
    Remedy(
        "a-fenced-partition-without-a-rebalance-is-a-stall",
        ("brokers",),
        "app.ops.watchdog:status_of",
        drop("kafka.fenced"),
        ("tests/test_watchdog.py::test_a_partition_that_nobody_can_write_ends_the_worker",),
    ),
    Remedy(
        "silent-brokers-are-not-asked",
        ("brokers",),
        "app.kafka.clients:without_silent_brokers",
        insert_after("settings.brokers", "return settings"),
        ("tests/test_brokers.py::test_silent_brokers_are_left_out",),
    ),
    Remedy(
        "an-old-end-offset-is-asked-again",
        ("brokers",),
        "app.kafka.ends:ends_and_missing",
        insert_after("highwaters", "break"),
        ("tests/test_ends.py::test_an_old_answer_is_asked_again",),
    ),
    # -- the page
    Remedy(
        "an-action-counts-only-for-the-version-it-was-made-for",
        ("pages",),
        "page.cases.fold:_accept",
        condition("asked.version", "connection.execute(known, (*key, asked.id)).fetchone()"),
        (
            "tests/test_cases.py::test_who_is_faster_in_the_log_has_acted",
            "tests/test_cases_property.py::test_all_pages_come_to_the_same",
        ),
    ),
    Remedy(
        "an-id-counts-once",
        ("pages",),
        "page.cases.fold:_accept",
        condition("asked.version", "asked.version != version"),
        ("tests/test_cases.py::test_an_id_counts_once_whatever_version_it_is_sent_for",),
    ),
    Remedy(
        "every-attempt-has-a-key-of-its-own",
        ("pages", "compaction"),
        "page.cases.desk:Desk.act",
        call("secrets.token_hex", "'1'"),
        (
            "tests/test_cases.py::test_a_record_that_is_sent_again_later_takes_nothing_with_it",
            "tests/test_cases_property.py::test_compaction_changes_nothing",
        ),
    ),
    Remedy(
        "a-form-that-is-sent-again-is-recognised",
        ("pages",),
        "page.cases.desk:Desk._done",
        condition("action.id", "False"),
        ("tests/test_cases.py::test_an_action_that_is_sent_again_counts_once",),
    ),
    Remedy(
        "an-action-is-done-when-it-was-read-back",
        ("pages",),
        "page.cases.desk:Desk.act",
        condition("wait_for", "False"),
        ("tests/test_cases.py::test_an_action_that_is_sent_again_counts_once",),
    ),
)
