"""Recorded KSQL output played into a real broker beside the app's, and `parity --live` as a user runs it."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.cli.faust import cli

import app
import stack
from app.kafka import topics
from app.kafka.producer import last_offset, new_producer, send_rows
from app.settings import Settings
from app.topology import declare
from codec.record import Row
from tests.support.cluster import RETAINED, START, TIMEOUT_S, Deployment, run_async
from tests.test_worker_golden import path_of, row_of
from tools.e2e.workers import ROOT, free_port
from tools.parity import cases

SESSIONS, AGG, PREDICTION, IN_RISK = (
    "MOODLE_LOGS_SESSIONS_PER_15MINS", "MOODLE_LOGS_PREDICTION_AGG", "MOODLE_LOGS_PREDICTION",
    "MOODLE_LOGS_PREDICTION_IN_RISK",
)  # fmt: skip
COMPACTED = {"cleanup.policy": "compact"}
Rows = dict[str, list[Row]]


@dataclass(frozen=True)
class Played:
    """What went into a worker, and what KSQL wrote of the same."""

    deployment: Deployment
    source: list[Row]
    predictions: list[Row]
    ksql: Rows

    def beside(self, change: Callable[[Rows], object] = lambda rows: None, partitions: Mapping[str, int] = {}) -> str:
        """Play what KSQL wrote, changed, into topics with a prefix of their own; the prefix."""
        prefix = f"ksql{uuid.uuid4().hex[:8]}-"
        rows = {topic: list(some) for topic, some in self.ksql.items()}
        change(rows)
        configs = {AGG: COMPACTED}
        self.deployment.declare(
            *(topics.Topic(prefix + t, partitions.get(t, 1), configs.get(t, RETAINED)) for t in rows if t != "nothing")
        )
        for topic, some in rows.items():
            self.deployment.send(prefix + topic, some)
        return prefix


@dataclass(frozen=True)
class Done:
    """What a command said."""

    code: int
    out: list[str]
    err: list[str] = field(default_factory=list)

    @property
    def last(self) -> str:
        return self.out[-1]

    def counts(self, topic: str) -> list[str]:
        """Equal, differing, only here, only there, records here, records there."""
        (line,) = [line for line in self.out if line.startswith(f"{topic} ") and line.split()[1][0] in "0123456789-"]
        return line.split()[1:7]

    def after(self, line: str, count: int) -> list[str]:
        at = self.out.index(line)
        return self.out[at + 1 : at + 1 + count]


def start(variables: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "faust", "-A", "app", "parity", *arguments],
        env={**os.environ, **variables},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=TIMEOUT_S)
    return Done(process.returncode, out.splitlines(), err.splitlines())


def run(variables: Mapping[str, str], *arguments: str) -> Done:
    """The same in this process, whose imports are done."""
    out, err = io.StringIO(), io.StringIO()
    built, app.app = app.app, declare(Settings.from_env(variables))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            cli(["-A", "app", "parity", *arguments])
    finally:
        app.app = built
        signal.signal(signal.SIGTERM, handler)
    assert isinstance(ended.value.code, int)
    return Done(ended.value.code, out.getvalue().splitlines(), err.getvalue().splitlines())


def compared(played: Played, prefix: str, *more: str, **variables: str) -> Done:
    return run({**played.deployment.variables, **variables}, "--live", "--against", prefix, *more)


def play(
    cluster: stack.Environment, directory: Path, emit: str, source: str, predictions: str, part: float = 1
) -> Played:
    """One case's log and another's predictions through a worker; `part` of the log, the rest comes after its end."""
    log, said = cases.load(path_of(source)), cases.load(path_of(predictions))
    deployment = Deployment.new(cluster, directory, RISK_EMIT=emit, RISK_MODEL="none")
    deployment.declare(topics.Topic(deployment.names.source, 1, RETAINED))
    ids = {i: deployment.register(schema) for i, schema in log.schemas.items()}
    wanted = {
        SESSIONS: rows_of(log.expected[SESSIONS], log.source),
        AGG: rows_of(log.expected[AGG], log.source),
        IN_RISK: rows_of(said.expected[IN_RISK], said.predictions),
    }
    mine = [row_of(record, ids) for record in log.source]
    # the same records on both sides: the time of sending would differ
    its = [(1_381_104_000_000, *row_of(record, {})[1:]) for record in said.predictions]
    now = int(part * len(mine))
    with deployment.worker() as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=TIMEOUT_S)
        deployment.send(deployment.names.source, mine[:now])
        deployment.send(deployment.names.prediction, its)
        worker.wait(lambda s: s["counts"].get("predictions_read", 0) >= len(its), timeout=TIMEOUT_S)
        worker.wait_idle(timeout=TIMEOUT_S, events=now)
    deployment.send(deployment.names.source, mine[now:])
    return Played(deployment, mine, its, {**wanted, PREDICTION: its})


def rows_of(expected: Sequence[cases.Expected], inputs: Sequence[cases.Input]) -> list[Row]:
    """What KSQL wrote, with the headers it forwarded."""
    found: list[Row] = []
    for e in expected:
        headers = list(inputs[e.source].headers)
        assert len(headers) == e.headers
        found.append((e.at, e.key, e.value, headers))
    return found


WAYS = {
    "changes": ("changes", "p32_multi_user", "p38_prediction_threshold"),
    "headers": ("changes", "p36_headers_and_keys", "p45_prediction_keys"),
    "long": ("changes", "pfuzz_202_small_ts", "pfuzz_104"),
    "batch": ("batch", "p32_multi_user", "p38_prediction_threshold"),
    "half": ("changes", "p32_multi_user", "p38_prediction_threshold", 0.5),
}


@pytest.fixture(scope="module")
def all_played(cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    with ThreadPoolExecutor(len(WAYS)) as pool:
        futures = {name: pool.submit(play, cluster, tmp_path_factory.mktemp(name), *way) for name, way in WAYS.items()}
        return {name: future.result() for name, future in futures.items()}


@pytest.fixture
def changes(all_played):
    return all_played["changes"]


@pytest.mark.broker
@pytest.mark.parametrize(("way", "call"), [("changes", start), ("headers", run), ("long", run)])
def test_every_change_of_ksql_is_found_equal(all_played, way, call):
    """Tables and sequences, and nothing is left to do here."""
    played = all_played[way]
    done = call(played.deployment.variables, "--live", "--against", played.beside())
    done = done if isinstance(done, Done) else finish(done)
    assert done.code == 0, done.out
    assert done.err == []
    assert done.counts(SESSIONS)[1:4] == ["0", "0", "0"]
    assert done.counts(AGG)[1:4] == ["0", "0", "0"]
    n = len(played.ksql[SESSIONS])
    assert f"  {SESSIONS}  {n} records, the same in the same order" in done.out
    assert any(line.startswith("  here   0 records behind") for line in done.out)
    assert done.last == "equal so far: whether both sides have processed everything is unknown"


@pytest.mark.broker
def test_batch_mode_is_compared_by_tables(all_played):
    """The default mode: the same tables from fewer rows, and no word of a difference in sequences."""
    played = all_played["batch"]
    done = compared(played, played.beside())
    assert done.code == 0, done.out
    equal, differing, here, there, records_here, records_there = done.counts(SESSIONS)
    assert (differing, here, there) == ("0", "0", "0")
    assert int(equal) > 0
    assert int(records_here) < int(records_there)
    assert any("tables only (RISK_EMIT=batch" in line for line in done.out)
    # in-risk is no table, and both sides have the same predictions
    n = len(played.ksql[IN_RISK])
    assert done.after("sequences of changes", 1) == [f"  {IN_RISK}   {n} records, the same in the same order"]


@pytest.mark.broker
def test_a_changed_a_missing_and_an_extra_row_are_shown_with_both_rows(changes):
    """And every other key is equal."""
    new = (START, b"999", b'{"USERID":999,"ACTIVITIES":1,"DURATION":0,"SESSIONS":1}', [])

    def change(rows: Rows) -> None:
        at, key, value, headers = rows[AGG][-1]
        rows[AGG][-1] = (at, key, (value or b"").replace(b'"ACTIVITIES":', b'"ACTIVITIES":9'), headers)
        gone = rows[AGG][0][1]
        rows[AGG] = [row for row in rows[AGG] if row[1] != gone] + [new]

    keys = list(dict.fromkeys(row[1] for row in changes.ksql[AGG]))
    changed, missing = (changes.ksql[AGG][i][1] for i in (-1, 0))
    assert changed != missing
    done = compared(changes, changes.beside(change), RISK_EMIT="batch")
    assert done.code == 1
    assert done.counts(AGG)[:4] == [str(len(keys) - 2), "1", "1", "1"]
    assert done.counts(SESSIONS)[1:4] == ["0", "0", "0"]
    last = {row[1]: row[2].decode() for row in changes.ksql[AGG]}
    at = done.out.index(AGG)
    shown = done.out[at + 1 : at + 8]
    assert shown[0] == f"  differing: student {changed.decode()}"
    assert shown[1].startswith("    here   2")
    assert shown[1].endswith(last[changed])
    assert shown[2].endswith(last[changed].replace('"ACTIVITIES":', '"ACTIVITIES":9'))
    assert shown[3] == f"  only here: student {missing.decode()}"
    assert shown[4].endswith(last[missing])
    assert shown[5] == "  only there: student 999"
    assert shown[6] == f"    there  2013-10-07T00:00:00.000Z  {new[2].decode()}"
    assert done.last == f"different: 3 rows differ ({AGG})"
    assert not any("counts some twice" in line for line in done.out if "lags" in line)


@pytest.mark.broker
def test_a_change_in_the_middle_is_found_though_the_tables_are_equal(changes):
    """Both rows at the first place that differs, with what is around it."""

    def change(rows: Rows) -> None:
        i = next(i for i, row in enumerate(rows[SESSIONS]) if i > 30 and row[2] is None)
        before = rows[SESSIONS][i - 1]
        rows[SESSIONS][i - 1] = (before[0], before[1], (before[2] or b"") + b" ", before[3])
        rows["at"] = [(i, None, None, [])]

    where: list[int] = []

    def note(rows: Rows) -> None:
        change(rows)
        where.extend(row[0] for row in rows.pop("at"))

    prefix = changes.beside(note)
    # the row is a tombstone's neighbour, whose key comes again: its last row is the same
    done = compared(changes, prefix)
    i = where[0]
    assert done.code == 1, done.out
    found = next(line for line in done.out if line.startswith(f"  {SESSIONS}  "))
    assert found.endswith(f"differ from record {i} on")
    at = done.out.index(found)
    marked = [line.split()[1] for line in done.out[at + 1 : at + 7] if line.startswith("  > ")]
    assert marked == ["here", "there"]
    assert [line.split()[0] for line in done.out[at + 1 : at + 3]] == ["both", "both"]


@pytest.mark.broker
def test_ksql_with_its_cache_on_is_told_and_is_no_difference(changes):
    """The last state of each key of every ten rows: the tables are the same, the sequences are said to be thin."""

    def cached(rows: Rows) -> None:
        for topic in (SESSIONS, AGG):
            some = rows[topic]
            rows[topic] = [r for i in range(0, len(some), 10) for r in {r[1]: r for r in some[i : i + 10]}.values()]

    done = compared(changes, changes.beside(cached))
    assert done.code == 0, done.out
    assert any("of the other's 95 records" in line and "does not count" in line for line in done.out)
    assert any("ksql.streams.cache.max.bytes.buffering=0" in line for line in done.out)


@pytest.mark.broker
def test_more_partitions_and_a_key_in_two_of_them(changes):
    """Each student in one of two partitions is fine; in both is not."""

    def spread(rows: Rows) -> None:
        rows[SESSIONS] = []

    prefix = changes.beside(spread, {SESSIONS: 2})
    for partition in (0, 1):
        mine = [r for r in changes.ksql[SESSIONS] if (r[1] or b"")[-1] % 2 == partition]
        changes.deployment.send(prefix + SESSIONS, mine, partition)
    done = compared(changes, prefix)
    assert done.code == 0, done.out
    assert any("the same in the same order for each key" in line for line in done.out)
    row = changes.ksql[SESSIONS][-1]
    partition = (row[1] or b"")[-1] % 2
    changes.deployment.send(prefix + SESSIONS, [row], 1 - partition)
    done = compared(changes, prefix)
    assert done.code == 1
    assert "1 key is in several partitions" in done.last


@pytest.mark.broker
def test_a_topic_that_is_missing_there_is_said(changes):
    """One: a difference. All: probably the wrong prefix, and nothing that could be compared."""
    done = compared(changes, changes.beside(lambda rows: rows.pop(AGG)))
    assert done.code == 1
    assert any(line.startswith(AGG) and line.endswith("missing") for line in done.out)
    assert done.last == f"different: 1 topic is missing ({AGG})"
    done = compared(changes, changes.beside(lambda rows: (rows.pop(IN_RISK), rows.pop(PREDICTION))))
    assert done.code == 0
    assert any("does not count" in line and line.startswith(IN_RISK) for line in done.out)
    for settings, option in (
        ({}, "nobody-"),
        ({"RISK_TOPIC_PREFIX": "nobody-"}, changes.deployment.settings.topic_prefix),
    ):
        refused(compared(changes, option, **settings), f"neither nobody-{SESSIONS}", "right?")


@pytest.mark.broker
def test_what_is_not_committed_is_not_there(changes):
    """A transaction that hangs does not hold the command up, and one that was aborted leaves no row."""
    prefix = changes.beside()

    def look() -> Done:
        return finish(start(changes.deployment.variables, "--live", "--against", prefix))

    async def hang() -> list[Done]:
        producer = new_producer([changes.deployment.servers.broker], transactional_id=prefix)
        await producer.start()
        try:
            await producer.begin_transaction()
            await last_offset(await send_rows(producer, prefix + SESSIONS, 0, [(1, b"7", b"{}", [])]))
            hanging = await asyncio.to_thread(look)
            await producer.abort_transaction()
            return [hanging, await asyncio.to_thread(look)]
        finally:
            await producer.stop()

    for done in run_async(hang()):
        assert (done.code, done.counts(SESSIONS)[2:4]) == (0, ["0", "0"])


def refused(done: Done, *says: str) -> None:
    """Exit code 2, one line, nothing else."""
    assert done.code == 2, (done.out, done.err)
    assert done.out == []
    assert len(done.err) == 1, done.err
    for word in says:
        assert word in done.err[0]


@pytest.mark.broker
def test_empty_topics_are_nothing_to_compare(cluster, tmp_path):
    """Equal would be the wrong word."""
    deployment = Deployment.new(cluster, tmp_path)
    for prefix in (deployment.settings.topic_prefix, "other-" + deployment.settings.topic_prefix):
        deployment.declare(topics.Topic(prefix + SESSIONS, 1, RETAINED), topics.Topic(prefix + AGG, 1, COMPACTED))
    refused(run(deployment.variables, "--live", "--against", prefix), "nothing to compare")


ALONE = [
    ({}, ["--live"], "RISK_TOPIC_PREFIX"),
    ({"RISK_TOPIC_PREFIX": "a-"}, ["--live", "--against", "a-"], "RISK_TOPIC_PREFIX"),
    ({}, ["--live", "case.json"], "CASE (case.json) and --live do not go together"),
    ({}, [], "name a CASE"),
    ({}, ["case.json", "--against", ""], "--against needs --live"),
    ({}, ["case.json", "--wait", "3"], "--wait needs --live"),
    ({}, ["--live", "--differences", "x.json"], "--differences"),
    ({"RISK_TOPIC_PREFIX": "a-"}, ["--live", "--against", "b c"], "--against: 'b c'"),
    ({"RISK_TOPIC_PREFIX": "a-"}, ["--live", "--wait", "-1"], "--wait"),
]


@pytest.mark.parametrize(("variables", "arguments", "says"), ALONE)
def test_what_cannot_be_meant_is_refused(variables, arguments, says):
    """Wrong use: one line and exit code 2, before anything is connected."""
    refused(run(variables, *arguments), says)


def test_a_broker_that_does_not_answer_is_named():
    """No Kafka: one line."""
    done = finish(start({"RISK_BROKER": f"127.0.0.1:{free_port()}", "RISK_TOPIC_PREFIX": "a-"}, "--live"))
    refused(done, "RISK_BROKER", "127.0.0.1")


# -- lag


def commit(deployment: Deployment, group: str, offsets: Mapping[str, int]) -> None:
    """Commit as a consumer group of KSQL's."""

    async def committed() -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=deployment.servers.broker, group_id=group, enable_auto_commit=False
        )
        await consumer.start()
        try:
            consumer.assign([TopicPartition(topic, 0) for topic in offsets])
            await consumer.commit({TopicPartition(topic, 0): at for topic, at in offsets.items()})
        finally:
            await consumer.stop()

    run_async(committed())


@pytest.mark.broker
def test_the_lag_of_ksql_is_found_by_its_groups_and_explains(changes):
    """Queries are known by what they read; a group of a dropped query or another service is not taken for one."""
    prefix = changes.beside(lambda rows: rows[AGG].pop())
    service = f"_confluent-ksql-{prefix}"
    names = dataclasses.replace(changes.deployment.settings, topic_prefix=prefix).topic_names
    n, m = len(changes.source), len(changes.ksql[SESSIONS])
    commit(changes.deployment, f"{service}query_CTAS_{SESSIONS}_1", {names.source: 1})
    commit(changes.deployment, f"{service}query_CTAS_{SESSIONS}_3", {names.source: n})
    commit(changes.deployment, f"{service}query_CTAS_{AGG}_4", {names.sessions: m - 2})
    commit(changes.deployment, f"{service}x_query_CTAS_{SESSIONS}_9", {names.source: 0})
    done = compared(changes, prefix)
    assert done.code == 1
    at = next(i for i, line in enumerate(done.out) if line.startswith("  there  2 records behind"))
    assert f"{SESSIONS}_3" in done.out[at]
    assert f"{SESSIONS}_9" not in done.out[at]
    assert done.out[at + 1].split() == ["2", "in", names.sessions]
    hints = done.out[done.out.index("what to know") :]
    assert any("there lags 2 records behind" in line and "--wait" in line for line in hints)
    assert any(f"nobody is in group {service}query_CTAS_{AGG}_4" in line for line in hints)
    # caught up: the difference is one
    commit(changes.deployment, f"{service}query_CTAS_{AGG}_4", {names.sessions: m})
    done = compared(changes, prefix)
    assert done.code == 1
    assert not any("lags" in line for line in done.out)
    # and equal, with both sides known to be done
    changes.deployment.send(names.agg, changes.ksql[AGG][-1:])
    done = compared(changes, prefix)
    assert (done.code, done.last) == (0, "equal: both sides have processed everything")


@pytest.mark.broker
def test_a_group_that_is_named_is_taken(changes):
    """Whatever it is called; one that has committed nothing says nothing."""
    prefix = changes.beside()
    commit(changes.deployment, f"{prefix}mine", {changes.deployment.names.source: len(changes.source) - 1})
    done = compared(changes, prefix, "--group", f"{prefix}mine")
    assert done.code == 0
    assert any(line.startswith("  there  1 record behind") for line in done.out)
    assert done.last == "equal so far: a side lags behind"
    done = compared(changes, prefix, "--group", f"{prefix}none")
    assert f"  there  unknown: group {prefix}none has committed nothing: is that its name?" in done.out


@pytest.mark.broker
def test_what_is_on_its_way_is_waited_for(changes):
    """A row that arrives while the command waits is no difference; one that never comes is one in the end."""
    late = changes.ksql[AGG][-1]
    prefix = changes.beside(lambda rows: rows[AGG].pop())
    process = start(changes.deployment.variables, "--live", "--against", prefix, "--wait", "40")
    assert process.stderr is not None
    assert "until every difference has vanished" in process.stderr.readline()
    began = time.monotonic()
    changes.deployment.send(prefix + AGG, [late])
    done = finish(process)
    assert done.code == 0, done.out
    assert time.monotonic() - began < 20
    other = changes.beside(lambda rows: rows[AGG].pop())
    assert compared(changes, other, "--wait", "0.3").code == 1


@pytest.mark.broker
def test_the_apps_lag_explains_and_is_waited_for(all_played):
    """A worker that was stopped before it had read everything, and comes back while the command waits."""
    played = all_played["half"]
    deployment, left = played.deployment, len(played.source) - len(played.source) // 2
    prefix = played.beside()
    done = compared(played, prefix)
    assert done.code == 1
    assert any(line.startswith(f"  here   {left} records behind") for line in done.out)
    assert any(f"here lags {left} records behind" in line for line in done.out)
    assert any(f"nobody is in group {deployment.settings.app_id}: here does not run" in line for line in done.out)
    assert any(f"{SESSIONS}  " in line and "the same as far as it goes here" in line for line in done.out)
    process = start(deployment.variables, "--live", "--against", prefix, "--wait", "40")
    assert process.stderr is not None
    assert "until both sides have no lag" in process.stderr.readline()
    with deployment.worker():
        done = finish(process)
    assert done.code == 0, done.out
    assert any(line.startswith("  here   0 records behind") for line in done.out)


def test_the_recorded_mode_is_what_it_was():
    """`parity CASE` compares the recording without a broker."""
    done = run({}, str(path_of("p01_seed_rows")))
    assert done.code == 0
    assert done.last == "1 of 1 cases equal, 8 rows, 0 with differences"
