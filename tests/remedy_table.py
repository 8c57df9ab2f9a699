"""Every fault a worker must survive, its remedies in the code, and the tests that fail without them. Data only.

`python -m tests.remedies` takes each remedy out of a copy and sees the tests fail; test_remedies.py holds the
table to the code as it is. Faults that show only now and then have their test at the piece that has the remedy.
"""

from __future__ import annotations

from dataclasses import dataclass

#: what is done to workers and servers: short name → what it is
FAULTS = {
    "killed": "kill -9 at random moments, RocksDB kept",
    "wiped": "kill -9 at random moments, RocksDB wiped",
    "worst": "kill -9 at the worst moments: the points of app/ops/failpoints.py",
    "sigterm": "SIGTERM with a backlog, many times",
    "joins": "a second worker joins and leaves",
    "dies": "one of two is killed, the other takes over",
    "suspended": "a worker is suspended beyond its session time-out",
    "broker": "the broker is killed and restarted in mid-stream",
    "registry": "the registry is away for a while",
    "disk": "a damaged or missing RocksDB directory",
    "compaction": "the changelog is compacted while it is written",
    "misleading": "records of the log whose bytes look like something else",
}


@dataclass(frozen=True)
class Remedy:
    """One thing that is there because of a fault."""

    name: str
    #: keys of FAULTS
    faults: tuple[str, ...]
    file: str
    #: what stands there, once, and what stands there when the remedy is taken out
    old: str
    new: str
    #: pytest's node ids; each must fail then
    tests: tuple[str, ...]


_DEATHS = "tests/test_worker_deaths.py::test_nothing_is_lost_and_nothing_comes_twice[{}]".format
_FAULTS = "tests/test_worker_faults.py::test_nothing_is_lost_and_nothing_comes_twice[{}]".format

REMEDIES = (
    # -- the flush
    Remedy(
        "rocksdb-is-written-after-the-commit",
        ("killed", "worst"),
        "app/state/partition.py",
        '        await faults.at("sent")\n',
        '        self._table.write(self.number, state, offset)\n        await faults.at("sent")\n',
        (
            "tests/test_partitions.py::test_the_store_is_written_after_the_commit_and_memory_after_the_store",
            _DEATHS("killed_at_sent"),
        ),
    ),
    Remedy(
        "state-goes-to-the-changelog",
        ("wiped", "compaction"),
        "app/state/partition.py",
        "logged = await send_rows(self._producer, self._table.changelog, self.number, changes)",
        "logged = await send_rows(self._producer, self._table.changelog, self.number, changes[-1:])",
        (
            _DEATHS("killed_and_its_state_wiped"),
            _FAULTS("the_changelog_is_compacted_under_a_running_worker"),
        ),
    ),
    Remedy(
        "the-changelog-is-in-the-transaction",
        ("worst", "wiped"),
        "app/state/partition.py",
        "        logged = await send_rows(self._producer, self._table.changelog, self.number, changes)\n",
        "        other = new_producer(self._producer.client._bootstrap_servers)\n"
        "        await other.start()\n"
        "        logged = await send_rows(other, self._table.changelog, self.number, changes)\n"
        "        await last_offset(logged)\n"
        "        await other.stop()\n",
        (_DEATHS("killed_at_sent"),),
    ),
    Remedy(
        "the-front-is-written-with-the-flush",
        ("killed", "worst"),
        "app/state/partition.py",
        "                state[fronts.KEY] = fronts.pack(front)\n",
        "                pass\n",
        (
            "tests/test_partitions.py::test_the_store_is_written_after_the_commit_and_memory_after_the_store",
            _DEATHS("killed_at_written"),
        ),
    ),
    Remedy(
        "an-unknown-failure-ends-the-worker",
        ("broker",),
        "app/state/partition.py",
        "                if not is_fenced(self._producer, error):\n                    raise\n",
        "",
        ("tests/test_partitions.py::test_a_flush_that_fails_raises_and_leaves_store_and_memory_as_they_were",),
    ),
    # -- what counts as processed
    Remedy(
        "only-the-processed-prefix-is-committed",
        ("sigterm", "killed"),
        "app/kafka/ledger.py",
        "        while waiting and waiting[0][1]:\n            first = waiting.popleft()[0]\n"
        "            assert isinstance(first, Chunk)\n            self._done[partition] = first.position\n",
        "        self._done[partition] = chunk.position\n",
        (
            "tests/test_ledger.py::test_the_processed_prefix_is_committed_whatever_the_order",
            "tests/test_ledger.py::test_equal_chunks_are_told_apart",
        ),
    ),
    Remedy(
        "a-backlog-is-not-waited-for-at-the-end",
        ("sigterm",),
        "app/faust_app.py",
        "stream_wait_empty=False",
        "stream_wait_empty=True",
        (_DEATHS("asked_to_stop"),),
    ),
    Remedy(
        "queues-are-not-cleared-when-flow-goes-on",
        ("sigterm", "joins"),
        "app/faust_app.py",
        "        if self.is_active():\n            return\n        super().resume()",
        "        super().resume()",
        ("tests/test_driver.py::test_flow_that_was_not_suspended_is_resumed_without_clearing_a_queue",),
    ),
    Remedy(
        "frames-are-acknowledged-before-their-fetch-counts",
        ("worst", "broker"),
        "agents/process.py",
        "            if any(round_.frames):\n"
        "                await self.log.send_visits([[encode(f) for f in frames] for frames in round_.frames])\n"
        '                await faults.at("framed")\n'
        "            for chunk in round_.done:\n"
        "                assert isinstance(chunk, Chunk)\n"
        "                self.log.processed(chunk)\n",
        "            for chunk in round_.done:\n"
        "                assert isinstance(chunk, Chunk)\n"
        "                self.log.processed(chunk)\n"
        "            if any(round_.frames):\n"
        "                await self.log.send_visits([[encode(f) for f in frames] for frames in round_.frames])\n"
        '                await faults.at("framed")\n',
        ("tests/test_pipeline.py::test_a_fetch_counts_as_processed_only_when_its_frames_are_acknowledged",),
    ),
    Remedy(
        "what-was-not-flushed-does-not-count",
        ("suspended", "joins"),
        "agents/process.py",
        "        if await current.flush(out, named, batch.front, (batch.students, records)):\n",
        "        if await current.flush(out, named, batch.front, (batch.students, records)) or True:\n",
        ("tests/test_pipeline.py::test_what_was_not_flushed_does_not_count_as_processed",),
    ),
    Remedy(
        "nothing-is-applied-twice",
        ("killed", "worst"),
        "models/position.py",
        "            if len(new) and new.offset[0] < position[piece.source]:\n",
        "            if False:\n",
        (
            "tests/test_pipeline.py::test_what_is_delivered_again_is_not_applied_again",
            _DEATHS("killed_and_its_state_kept"),
            _DEATHS("killed_at_framed"),
            _DEATHS("killed_at_processed"),
        ),
    ),
    Remedy(
        "what-an-older-generation-left-waiting-is-dropped",
        ("joins", "suspended"),
        "agents/process.py",
        "frames, chunks, waiting, whose = [], [], 0, (d.generation, d.chunk.partition)",
        "whose = (d.generation, d.chunk.partition)",
        (
            "tests/test_deliveries.py::test_what_an_older_generation_left_waiting_is_dropped",
            "tests/test_deliveries.py::test_frames_of_a_partition_that_moved_on_are_not_flushed_with_another_generations",
        ),
    ),
    Remedy(
        "predictions-of-an-older-generation-are-dropped",
        ("joins", "suspended"),
        "agents/process.py",
        "generation, chunks = d.generation, []  # from before a rebalance",
        "generation = d.generation  # from before a rebalance",
        ("tests/test_pipeline.py::test_predictions_that_have_arrived_are_one_flush_and_then_there_is_a_pause",),
    ),
    Remedy(
        "no-alarm-twice",
        ("killed", "worst"),
        "agents/process.py",
        "new = int(np.searchsorted(np.asarray(chunk.offsets, np.int64), current.position))",
        "new = 0",
        ("tests/test_pipeline.py::test_predictions_that_are_read_again_are_not_forwarded_again",),
    ),
    # -- who owns what
    Remedy(
        "one-transactional-id-for-all-owners",
        ("suspended", "dies"),
        "app/state/partition.py",
        'transactional_id=f"{self._transactional_id}-{number}"',
        "transactional_id=f\"{self._transactional_id}-{number}-{__import__('uuid').uuid4()}\"",
        (
            "tests/test_partitions.py::test_every_owner_of_a_partition_has_the_same_transactional_id",
            _DEATHS("suspended_between_sending_and_committing"),
        ),
    ),
    Remedy(
        "former-owners-are-fenced-before-recovery",
        ("worst", "dies"),
        "app/state/table.py",
        "            await self.on_owned(mine, generation_id)\n",
        "            __import__('asyncio').ensure_future(self.on_owned(mine, generation_id))\n",
        ("tests/test_driver.py::test_former_owners_are_fenced_before_the_changelog_is_asked_for",),
    ),
    Remedy(
        "a-new-assignment-forgets-all-memory",
        ("suspended", "joins"),
        "app/state/partition.py",
        "        await self.release()\n        log.info(",
        "        log.info(",
        ("tests/test_partitions.py::test_a_released_partition_is_nobodys",),
    ),
    Remedy(
        "fenced-is-known-the-second-time-too",
        ("suspended",),
        "app/kafka/producer.py",
        "    return isinstance(transactions.wait_for_transaction_end().exception(), ProducerFenced)",
        "    return False",
        ("tests/test_partitions.py::test_a_flush_after_the_one_that_was_told_is_fenced_too",),
    ),
    Remedy(
        "frames-that-leave-a-hole-are-refused",
        ("suspended",),
        "models/position.py",
        "                if not torn[piece.source]:\n                    detached += 1\n                    continue\n",
        "",
        ("tests/test_repartition.py::test_a_slice_that_leaves_a_hole_does_not_pass",),
    ),
    Remedy(
        "what-was-put-off-goes-before-the-next-visits",
        ("joins",),
        "models/heartbeats.py",
        "            out.insert(0, Frame(frames[0].sources, list(told.waiting.values())))\n",
        "",
        (
            "tests/test_heartbeats.py::test_visits_are_judged_as_if_nothing_had_been_put_off",
            "tests/test_heartbeats.py::test_what_waited_goes_before_the_next_frame_with_visits",
        ),
    ),
    Remedy(
        "a-backlog-that-begins-or-ends-is-not-put-off",
        ("joins", "broker"),
        "models/heartbeats.py",
        "not (lagging or piece.lagging or piece.begin == FRESH",
        "not (piece.begin == FRESH",
        (
            "tests/test_heartbeats.py::test_what_waits_is_nothing_that_its_receiver_must_know_at_once",
            "tests/test_heartbeats.py::test_a_backlog_that_begins_or_ends_is_told_at_once",
        ),
    ),
    Remedy(
        "partitions-nobody-has-spoken-for-hold-time-back",
        ("joins", "killed"),
        "models/watermarks.py",
        "        return cls(np.full(sources, NEVER, np.int64), np.ones(sources, np.bool_))",
        "        return cls(np.full(sources, NEVER, np.int64), np.zeros(sources, np.bool_))",
        ("tests/test_watermarks.py::test_a_partition_nobody_has_spoken_for_holds_time_back",),
    ),
    Remedy(
        "the-others-hold-a-copy",
        ("dies",),
        "app/faust_app.py",
        "table_standby_replicas=1",
        "table_standby_replicas=0",
        (_DEATHS("a_second_worker_ten_seconds_later"),),
    ),
    Remedy(
        "a-dead-worker-is-missed-soon",
        ("dies",),
        "app/faust_app.py",
        "broker_session_timeout=timeout,",
        "broker_session_timeout=5 * timeout,",
        ("tests/test_takeover.py::test_one_of_two_is_killed_and_the_other_takes_over_in_time",),
    ),
    # -- reading
    Remedy(
        "only-what-is-committed-is-read",
        ("worst",),
        "app/kafka/thread.py",
        'isolation_level="read_committed"',
        'isolation_level="read_uncommitted"',
        (_DEATHS("killed_at_sent"),),
    ),
    Remedy(
        "a-chunk-joins-the-one-before",
        ("joins", "broker"),
        "app/kafka/driver.py",
        "return self._is_changelog_tp(tp) or await self._joins(tp, chunk)",
        "return True",
        (
            "tests/test_driver.py::test_what_was_fetched_before_a_seek_is_not_handed_on",
            "tests/test_driver.py::test_over_a_hole_the_log_is_read_again",
        ),
    ),
    Remedy(
        "nothing-is-fetched-before-this-generations-seek",
        ("joins",),
        "app/kafka/driver.py",
        "        if self._sought is None or self._sought != self.app.consumer_generation_id:\n"
        "            return {tp for tp in active if self._is_changelog_tp(tp)}\n",
        "",
        ("tests/test_driver.py::test_before_the_seek_of_this_generation_nothing_of_the_log_is_asked_for",),
    ),
    Remedy(
        "a-changelog-chunk-ends-behind-its-markers-and-holes",
        ("compaction", "wiped"),
        "app/kafka/driver.py",
        "            record.position - 1,\n",
        "            record.start + len(record) - 1,\n",
        (
            "tests/test_driver.py::test_a_changelog_chunk_ends_where_its_last_marker_stands",
            _FAULTS("the_changelog_is_compacted_under_a_running_worker"),
        ),
    ),
    Remedy(
        "a-batch-ends-where-the-broker-says",
        ("compaction",),
        "app/kafka/reader.py",
        "have taken the last records\n    held.next_fetch_offset = batch.next_offset",
        "have taken the last records\n"
        "    last = [record.offset for record in Kept(bytes(found.raw)).next_batch()][-1]\n"
        "    held.next_fetch_offset = batch.next_offset if batch.is_control_batch else last + 1",
        ("tests/test_driver.py::test_a_batch_ends_where_the_broker_says_and_not_at_its_last_record",),
    ),
    Remedy(
        "what-is-guessed-of-records-is-proven",
        ("misleading",),
        "app/kafka/record_bounds.py",
        "    return bounds if proven.all() else None\n",
        "    return bounds\n",
        (
            "tests/test_record_bounds.py::test_bytes_that_mislead_the_guess_are_found_out",
            "tests/test_record_bounds.py::test_what_is_seen_at_once_is_what_is_walked",
        ),
    ),
    # -- the disk
    Remedy(
        "a-database-that-cannot-be-opened-is-removed",
        ("disk",),
        "app/state/store.py",
        "            self._remove(partition, str(error))\n            return super()._open_for_partition(partition)\n",
        "            raise\n",
        (
            "tests/test_store.py::test_one_that_cannot_be_opened_is_removed_and_begun_anew",
            _FAULTS("a_damaged_disk_is_rebuilt"),
        ),
    ),
    Remedy(
        "damage-found-while-reading-is-remembered",
        ("disk",),
        "app/state/store.py",
        "        if self._mark(partition).exists():\n",
        "        if False:\n",
        ("tests/test_store.py::test_damage_found_while_reading_ends_the_worker_and_the_next_start_rebuilds",),
    ),
    Remedy(
        "a-manifest-that-was-cut-off-is-damage",
        ("disk",),
        "app/state/store.py",
        "        if lost := tables -",
        "        if lost := set() and tables -",
        (
            "tests/test_store.py::test_a_manifest_that_was_cut_off_is_no_older_state",
            _FAULTS("a_damaged_disk_is_rebuilt"),
        ),
    ),
    # -- servers that are away
    Remedy(
        "the-registry-is-asked-again",
        ("registry",),
        "app/kafka/registry.py",
        "                await self._sleep(pause)\n                wait = min(2 * wait, longest)\n",
        "                return None\n",
        (
            "tests/test_registry.py::test_waits_for_a_registry_that_is_down",
            "tests/test_registry.py::test_trouble_is_not_an_answer",
            "tests/test_worker_registry.py::test_records_of_a_new_schema_wait_for_the_registry",
        ),
    ),
    Remedy(
        "a-worker-that-waits-stays-in-its-group",
        ("registry",),
        "app/faust_app.py",
        "            broker_max_poll_interval=_NEVER_IDLE_S,\n",
        "",
        ("tests/test_topology.py::test_a_worker_that_waits_stays_in_its_group",),
    ),
    Remedy(
        "a-kafka-that-is-silent-is-waited-for",
        ("broker",),
        "app/kafka/driver.py",
        '("Kafka has not said where the topics end" if self._begun else None), (self.looks,)',
        "None, ()",
        (
            "tests/test_driver.py::test_with_nothing_to_read_a_worker_waits_for_kafka_to_say_so",
            _FAULTS("the_broker_is_killed_in_mid_stream"),
        ),
    ),
    Remedy(
        "a-failed-agent-ends-the-worker",
        ("broker",),
        "app/faust_app.py",
        "        await self.crash(error)\n",
        "",
        ("tests/test_worker_refusals.py::test_a_frame_of_a_newer_version_ends_the_worker",),
    ),
    Remedy(
        "a-commit-does-not-wait-for-a-dead-thread",
        ("broker", "sigterm"),
        "app/kafka/driver.py",
        "await asyncio.wait({committing, crashed}, return_when=asyncio.FIRST_COMPLETED)",
        "await asyncio.wait({committing})",
        ("tests/test_worker_end.py::test_a_commit_does_not_wait_for_a_thread_that_has_crashed",),
    ),
    Remedy(
        "a-worker-that-stands-still-ends",
        ("sigterm", "broker"),
        "app/faust_app.py",
        "        self.watchdog.start()\n",
        "",
        ("tests/test_watchdog.py::test_a_worker_that_is_stuck_ends_itself",),
    ),
)
