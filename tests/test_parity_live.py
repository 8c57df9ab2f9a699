"""`parity --live` on a real broker: recorded KSQL output next to the output of a real worker."""

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
from app.kafka.clients import new_producer
from app.kafka.producer import last_offset, send_rows
from app.settings import Settings
from app.topology import declare
from codec.record import Row
from tests.support.cluster import RETAINED, START, TIMEOUT_S, Deployment, run_async
from tests.test_worker_golden import path_of, row_of
from tools.e2e.workers import ROOT, free_port
from tools.parity import cases

SESSIONS, AGG, PREDICTION, IN_RISK = Settings().topic_names.outputs
COMPACTED = {"cleanup.policy": "compact"}
Rows = dict[str, list[Row]]


@dataclass(frozen=True)
class Played:
    """The input of a worker, and what KSQL wrote for the same input."""

    deployment: Deployment
    source: list[Row]
    predictions: list[Row]
    ksql: Rows

    def write_ksql_topics(
        self, change: Callable[[Rows], object] = lambda rows: None, partitions: Mapping[str, int] = {}
    ) -> str:
        """Write what KSQL wrote, after `change`, to topics with a new prefix; returns the prefix."""
        prefix = f"ksql{uuid.uuid4().hex[:8]}-"
        rows = {topic: list(of_topic) for topic, of_topic in self.ksql.items()}
        change(rows)
        configs = {AGG: COMPACTED}
        self.deployment.declare(
            *(topics.Topic(prefix + t, partitions.get(t, 1), configs.get(t, RETAINED)) for t in rows)
        )
        for topic, of_topic in rows.items():
            self.deployment.send(prefix + topic, of_topic)
        return prefix


@dataclass(frozen=True)
class Result:
    """Exit code and output of a command."""

    code: int
    out: list[str]
    err: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        return self.out[-1]

    def counts(self, topic: str) -> list[str]:
        """The columns equal, differing, only here, only there, records here, records there."""
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


def finish(process: subprocess.Popen[str]) -> Result:
    out, err = process.communicate(timeout=TIMEOUT_S)
    return Result(process.returncode, out.splitlines(), err.splitlines())


def run(variables: Mapping[str, str], *arguments: str) -> Result:
    """Run the command in this process, which saves the imports."""
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
    return Result(ended.value.code, out.getvalue().splitlines(), err.getvalue().splitlines())


def compared(played: Played, prefix: str, *more: str, **variables: str) -> Result:
    return run({**played.deployment.variables, **variables}, "--live", "--against", prefix, *more)


def play(
    cluster: stack.Environment, directory: Path, emit: str, source: str, predictions: str, part: float = 1
) -> Played:
    """Run one case's log and another's predictions through a worker.

    The worker processes `part` of the log; the rest is sent after it has ended.
    """
    log_case, prediction_case = cases.load(path_of(source)), cases.load(path_of(predictions))
    deployment = Deployment.new(cluster, directory, RISK_EMIT=emit, RISK_MODEL="none")
    deployment.declare(topics.Topic(deployment.names.source, 1, RETAINED))
    ids = {i: deployment.register(schema) for i, schema in log_case.schemas.items()}
    ksql = {
        SESSIONS: rows_of(log_case.expected[SESSIONS], log_case.source),
        AGG: rows_of(log_case.expected[AGG], log_case.source),
        IN_RISK: rows_of(prediction_case.expected[IN_RISK], prediction_case.predictions),
    }
    log = [row_of(record, ids) for record in log_case.source]
    # a fixed timestamp: both sides get the same records, and the time of sending would differ
    scores = [(START, *row_of(record, {})[1:]) for record in prediction_case.predictions]
    sent_now = int(part * len(log))
    with deployment.worker() as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=TIMEOUT_S)
        deployment.send(deployment.names.source, log[:sent_now])
        deployment.send(deployment.names.prediction, scores)
        worker.wait(lambda s: s["counts"].get("predictions_read", 0) >= len(scores), timeout=TIMEOUT_S)
        worker.wait_idle(timeout=TIMEOUT_S, events=sent_now)
    deployment.send(deployment.names.source, log[sent_now:])
    return Played(deployment, log, scores, {**ksql, PREDICTION: scores})


def rows_of(expected: Sequence[cases.OutputRow], inputs: Sequence[cases.InputRecord]) -> list[Row]:
    """The rows KSQL wrote, with the headers it forwarded."""
    rows: list[Row] = []
    for e in expected:
        headers = list(inputs[e.source].headers)
        assert len(headers) == e.header_count
        rows.append((e.timestamp, e.key, e.value, headers))
    return rows


#: arguments of `play` by name
SCENARIOS = {
    "changes": ("changes", "p32_multi_user", "p38_prediction_threshold"),
    "headers": ("changes", "p36_headers_and_keys", "p45_prediction_keys"),
    "long": ("changes", "pfuzz_202_small_ts", "pfuzz_104"),
    "batch": ("batch", "p32_multi_user", "p38_prediction_threshold"),
    "half": ("changes", "p32_multi_user", "p38_prediction_threshold", 0.5),
}


@pytest.fixture(scope="module")
def all_played(cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    with ThreadPoolExecutor(len(SCENARIOS)) as pool:
        futures = {
            name: pool.submit(play, cluster, tmp_path_factory.mktemp(name), *arguments)
            for name, arguments in SCENARIOS.items()
        }
        return {name: future.result() for name, future in futures.items()}


@pytest.fixture
def changes(all_played):
    return all_played["changes"]


@pytest.mark.broker
@pytest.mark.parametrize(("scenario", "call"), [("changes", start), ("headers", run), ("long", run)])
def test_output_equal_to_ksql_is_reported_as_equal(all_played, scenario, call):
    """Tables and sequences are equal, and the app has no lag."""
    played = all_played[scenario]
    result = call(played.deployment.variables, "--live", "--against", played.write_ksql_topics())
    result = result if isinstance(result, Result) else finish(result)
    assert result.code == 0, result.out
    assert result.err == []
    assert result.counts(SESSIONS)[1:4] == ["0", "0", "0"]
    assert result.counts(AGG)[1:4] == ["0", "0", "0"]
    n = len(played.ksql[SESSIONS])
    assert f"  {SESSIONS}  {n} records, the same in the same order" in result.out
    assert any(line.startswith("  here   0 records behind") for line in result.out)
    assert result.summary == "equal so far: it is unknown whether both sides have processed everything"


@pytest.mark.broker
def test_batch_mode_is_compared_by_tables(all_played):
    """The default mode: the same tables from fewer rows; their sequences are not compared."""
    played = all_played["batch"]
    result = compared(played, played.write_ksql_topics())
    assert result.code == 0, result.out
    equal, differing, here, there, records_here, records_there = result.counts(SESSIONS)
    assert (differing, here, there) == ("0", "0", "0")
    assert int(equal) > 0
    assert int(records_here) < int(records_there)
    assert any("tables only (RISK_EMIT=batch" in line for line in result.out)
    # in-risk is not a table, and both sides have the same predictions
    n = len(played.ksql[IN_RISK])
    assert result.after("sequences of changes", 1) == [f"  {IN_RISK}   {n} records, the same in the same order"]


@pytest.mark.broker
def test_changed_missing_and_extra_rows_are_shown_with_both_rows(changes):
    """Every other key is equal."""
    new = (START, b"999", b'{"USERID":999,"ACTIVITIES":1,"DURATION":0,"SESSIONS":1}', [])

    def change(rows: Rows) -> None:
        timestamp, key, value, headers = rows[AGG][-1]
        rows[AGG][-1] = (timestamp, key, (value or b"").replace(b'"ACTIVITIES":', b'"ACTIVITIES":9'), headers)
        removed = rows[AGG][0][1]
        rows[AGG] = [row for row in rows[AGG] if row[1] != removed] + [new]

    keys = list(dict.fromkeys(row[1] for row in changes.ksql[AGG]))
    changed, missing = (changes.ksql[AGG][i][1] for i in (-1, 0))
    assert changed != missing
    result = compared(changes, changes.write_ksql_topics(change), RISK_EMIT="batch")
    assert result.code == 1
    assert result.counts(AGG)[:4] == [str(len(keys) - 2), "1", "1", "1"]
    assert result.counts(SESSIONS)[1:4] == ["0", "0", "0"]
    last = {row[1]: row[2].decode() for row in changes.ksql[AGG]}
    at = result.out.index(AGG)
    shown = result.out[at + 1 : at + 8]
    assert shown[0] == f"  differing: student {changed.decode()}"
    assert shown[1].startswith("    here   2")
    assert shown[1].endswith(last[changed])
    assert shown[2].endswith(last[changed].replace('"ACTIVITIES":', '"ACTIVITIES":9'))
    assert shown[3] == f"  only here: student {missing.decode()}"
    assert shown[4].endswith(last[missing])
    assert shown[5] == "  only there: student 999"
    assert shown[6] == f"    there  2013-10-07T00:00:00.000Z  {new[2].decode()}"
    assert result.summary == f"different: 3 rows differ ({AGG})"
    assert not any("counts some visits twice" in line for line in result.out if "lags" in line)


@pytest.mark.broker
def test_change_in_the_middle_is_found_although_the_tables_are_equal(changes):
    """Both rows of the first difference are shown, with the rows around them."""
    # the row before a tombstone, whose key is written again later: its last row stays the same
    i = next(i for i, row in enumerate(changes.ksql[SESSIONS]) if i > 30 and row[2] is None)

    def change(rows: Rows) -> None:
        timestamp, key, value, headers = rows[SESSIONS][i - 1]
        rows[SESSIONS][i - 1] = (timestamp, key, (value or b"") + b" ", headers)

    result = compared(changes, changes.write_ksql_topics(change))
    assert result.code == 1, result.out
    line = next(line for line in result.out if line.startswith(f"  {SESSIONS}  "))
    assert line.endswith(f"differ from record {i} on")
    at = result.out.index(line)
    marked = [line.split()[1] for line in result.out[at + 1 : at + 7] if line.startswith("  > ")]
    assert marked == ["here", "there"]
    assert [line.split()[0] for line in result.out[at + 1 : at + 3]] == ["both", "both"]


@pytest.mark.broker
def test_rows_left_out_by_ksqls_cache_do_not_count(changes):
    """Only the last row of each key in every ten rows: the tables are equal, KSQL's sequences are subsets."""

    def cached(rows: Rows) -> None:
        for topic in (SESSIONS, AGG):
            every = rows[topic]
            rows[topic] = [r for i in range(0, len(every), 10) for r in {r[1]: r for r in every[i : i + 10]}.values()]

    result = compared(changes, changes.write_ksql_topics(cached))
    assert result.code == 0, result.out
    assert any("of the other side's 95 records" in line and "does not count" in line for line in result.out)
    assert any("ksql.streams.cache.max.bytes.buffering=0" in line for line in result.out)


@pytest.mark.broker
def test_key_in_two_partitions_is_a_difference(changes):
    """Several partitions are compared key by key, as long as each key is in one of them."""
    prefix = changes.write_ksql_topics(lambda rows: rows[SESSIONS].clear(), {SESSIONS: 2})
    for partition in (0, 1):
        rows = [r for r in changes.ksql[SESSIONS] if (r[1] or b"")[-1] % 2 == partition]
        changes.deployment.send(prefix + SESSIONS, rows, partition)
    result = compared(changes, prefix)
    assert result.code == 0, result.out
    assert any("the same in the same order for each key" in line for line in result.out)
    row = changes.ksql[SESSIONS][-1]
    partition = (row[1] or b"")[-1] % 2
    changes.deployment.send(prefix + SESSIONS, [row], 1 - partition)
    result = compared(changes, prefix)
    assert result.code == 1
    assert "1 key is in several partitions" in result.summary


@pytest.mark.broker
def test_topic_missing_on_ksqls_side_is_reported(changes):
    """One missing topic is a difference; if all are missing, the prefix is wrong and nothing can be compared."""
    result = compared(changes, changes.write_ksql_topics(lambda rows: rows.pop(AGG)))
    assert result.code == 1
    assert any(line.startswith(AGG) and line.endswith("missing") for line in result.out)
    assert result.summary == f"different: 1 topic is missing ({AGG})"
    result = compared(changes, changes.write_ksql_topics(lambda rows: (rows.pop(IN_RISK), rows.pop(PREDICTION))))
    assert result.code == 0
    assert any("does not count" in line and line.startswith(IN_RISK) for line in result.out)
    for settings, option in (
        ({}, "nobody-"),
        ({"RISK_TOPIC_PREFIX": "nobody-"}, changes.deployment.settings.topic_prefix),
    ):
        refused(compared(changes, option, **settings), f"neither nobody-{SESSIONS}", "right?")


@pytest.mark.broker
def test_uncommitted_records_are_not_read(changes):
    """An open transaction does not block the command, and an aborted one leaves no row."""
    prefix = changes.write_ksql_topics()

    def command() -> Result:
        return finish(start(changes.deployment.variables, "--live", "--against", prefix))

    async def with_open_transaction() -> list[Result]:
        producer = new_producer(changes.deployment.settings, transactional_id=prefix)
        await producer.start()
        try:
            await producer.begin_transaction()
            await last_offset(await send_rows(producer, prefix + SESSIONS, 0, [(1, b"7", b"{}", [])]))
            during = await asyncio.to_thread(command)
            await producer.abort_transaction()
            return [during, await asyncio.to_thread(command)]
        finally:
            await producer.stop()

    for result in run_async(with_open_transaction()):
        assert (result.code, result.counts(SESSIONS)[2:4]) == (0, ["0", "0"])


def refused(result: Result, *words: str) -> None:
    """Assert exit code 2 and one line on stderr that contains `words`."""
    assert result.code == 2, (result.out, result.err)
    assert result.out == []
    assert len(result.err) == 1, result.err
    for word in words:
        assert word in result.err[0]


@pytest.mark.broker
def test_empty_topics_are_not_compared(cluster, tmp_path):
    """They are not reported as equal."""
    deployment = Deployment.new(cluster, tmp_path)
    for prefix in (deployment.settings.topic_prefix, "other-" + deployment.settings.topic_prefix):
        deployment.declare(topics.Topic(prefix + SESSIONS, 1, RETAINED), topics.Topic(prefix + AGG, 1, COMPACTED))
    refused(run(deployment.variables, "--live", "--against", prefix), "nothing to compare")


MISUSE = [
    ({}, ["--live"], "RISK_TOPIC_PREFIX"),
    ({"RISK_TOPIC_PREFIX": "a-"}, ["--live", "--against", "a-"], "RISK_TOPIC_PREFIX"),
    ({}, ["--live", "case.json"], "CASE (case.json) and --live cannot be combined"),
    ({}, [], "give a CASE"),
    ({}, ["case.json", "--against", ""], "--against needs --live"),
    ({}, ["case.json", "--wait", "3"], "--wait needs --live"),
    ({}, ["--live", "--differences", "x.json"], "--differences"),
    ({"RISK_TOPIC_PREFIX": "a-"}, ["--live", "--against", "b c"], "--against: 'b c'"),
    ({"RISK_TOPIC_PREFIX": "a-"}, ["--live", "--wait", "-1"], "--wait"),
]


@pytest.mark.parametrize(("variables", "arguments", "message"), MISUSE)
def test_invalid_options_are_refused(variables, arguments, message):
    """One line and exit code 2, before connecting."""
    refused(run(variables, *arguments), message)


def test_unreachable_broker_is_named():
    """One line, with the setting and the address."""
    result = finish(start({"RISK_BROKER": f"127.0.0.1:{free_port()}", "RISK_TOPIC_PREFIX": "a-"}, "--live"))
    refused(result, "RISK_BROKER", "127.0.0.1")


# -- lag


def commit(deployment: Deployment, group: str, offsets: Mapping[str, int]) -> None:
    """Commit offsets of partition 0 of each topic as `group`."""

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
def test_ksqls_lag_is_measured_by_its_consumer_groups(changes):
    """Queries are found by what they read; groups of dropped queries and of other services are ignored."""
    prefix = changes.write_ksql_topics(lambda rows: rows[AGG].pop())
    service = f"_confluent-ksql-{prefix}"
    names = dataclasses.replace(changes.deployment.settings, topic_prefix=prefix).topic_names
    n, m = len(changes.source), len(changes.ksql[SESSIONS])
    commit(changes.deployment, f"{service}query_CTAS_{SESSIONS}_1", {names.source: 1})
    commit(changes.deployment, f"{service}query_CTAS_{SESSIONS}_3", {names.source: n})
    commit(changes.deployment, f"{service}query_CTAS_{AGG}_4", {names.sessions: m - 2})
    commit(changes.deployment, f"{service}x_query_CTAS_{SESSIONS}_9", {names.source: 0})
    result = compared(changes, prefix)
    assert result.code == 1
    at = next(i for i, line in enumerate(result.out) if line.startswith("  there  2 records behind"))
    assert f"{SESSIONS}_3" in result.out[at]
    assert f"{SESSIONS}_9" not in result.out[at]
    assert result.out[at + 1].split() == ["2", "in", names.sessions]
    hints = result.out[result.out.index("hints") :]
    assert any("there lags 2 records behind" in line and "--wait" in line for line in hints)
    assert any(f"group {service}query_CTAS_{AGG}_4 has no members" in line for line in hints)
    # KSQL has caught up: the difference is real
    commit(changes.deployment, f"{service}query_CTAS_{AGG}_4", {names.sessions: m})
    result = compared(changes, prefix)
    assert result.code == 1
    assert not any("lags" in line for line in result.out)
    # equal, and both sides are known to have processed everything
    changes.deployment.send(names.agg, changes.ksql[AGG][-1:])
    result = compared(changes, prefix)
    assert (result.code, result.summary) == (0, "equal: both sides have processed everything")


@pytest.mark.broker
def test_group_option_sets_the_group_for_lag(changes):
    """If the group has committed no offsets, the lag is unknown."""
    prefix = changes.write_ksql_topics()
    commit(changes.deployment, f"{prefix}mine", {changes.deployment.names.source: len(changes.source) - 1})
    result = compared(changes, prefix, "--group", f"{prefix}mine")
    assert result.code == 0
    assert any(line.startswith("  there  1 record behind") for line in result.out)
    assert result.summary == "equal so far: a side lags behind"
    result = compared(changes, prefix, "--group", f"{prefix}none")
    assert f"  there  unknown: group {prefix}none has committed no offsets: is the name right?" in result.out


@pytest.mark.broker
def test_rows_in_flight_are_waited_for(changes):
    """A row that arrives while the command waits is not a difference; one that never arrives is."""
    late = changes.ksql[AGG][-1]
    prefix = changes.write_ksql_topics(lambda rows: rows[AGG].pop())
    process = start(changes.deployment.variables, "--live", "--against", prefix, "--wait", "40")
    assert process.stderr is not None
    assert "until all differences are gone" in process.stderr.readline()
    began = time.monotonic()
    changes.deployment.send(prefix + AGG, [late])
    result = finish(process)
    assert result.code == 0, result.out
    assert time.monotonic() - began < 20
    other = changes.write_ksql_topics(lambda rows: rows[AGG].pop())
    assert compared(changes, other, "--wait", "0.3").code == 1


@pytest.mark.broker
def test_the_apps_lag_is_reported_and_waited_for(all_played):
    """A worker that was stopped before it had read everything, and is started again while the command waits."""
    played = all_played["half"]
    deployment, left = played.deployment, len(played.source) - len(played.source) // 2
    prefix = played.write_ksql_topics()
    result = compared(played, prefix)
    assert result.code == 1
    assert any(line.startswith(f"  here   {left} records behind") for line in result.out)
    assert any(f"here lags {left} records behind" in line for line in result.out)
    assert any(f"group {deployment.settings.app_id} has no members: here is not running" in line for line in result.out)
    assert any(f"{SESSIONS}  " in line and "the same as far as it goes here" in line for line in result.out)
    process = start(deployment.variables, "--live", "--against", prefix, "--wait", "40")
    assert process.stderr is not None
    assert "until both sides have caught up" in process.stderr.readline()
    with deployment.worker():
        result = finish(process)
    assert result.code == 0, result.out
    assert any(line.startswith("  here   0 records behind") for line in result.out), result.out


def test_recorded_case_is_compared_without_a_broker():
    """`parity CASE`."""
    result = run({}, str(path_of("p01_seed_rows")))
    assert result.code == 0
    assert result.summary == "1 of 1 cases equal, 8 rows, 0 with differences"
