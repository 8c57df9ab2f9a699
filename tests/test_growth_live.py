"""Growing on a real broker: the source topic under running workers, and the app's own topics with `grow`."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.admin import NewPartitions

import stack
from app.errors import ConfigError
from app.kafka.clients import new_admin
from app.ops.failpoints import VARIABLE
from app.ops.preflight import preflight
from models import growth, log_ids, ticks
from models.state_keys import OF_PARTITION
from tests.support.cluster import (
    TIMEOUT_S,
    Deployment,
    Workload,
    months_of_rows,
    replay_rows,
    run_async,
    run_to_end,
    wait_for_visits,
)
from tests.support.forked_worker import ForkedProcess
from tests.support.scenarios import Scenarios
from tools.e2e.chaos.verdict import disk_differences, read_changelog, state_differences
from tools.e2e.oracle import compacted, expected_tables
from tools.e2e.workers import Worker
from tools.replay import debezium

pytestmark = pytest.mark.broker

SCENARIOS = Scenarios()
#: registers a scenario for the test at the end of this file
scenario = SCENARIOS.register

#: few visits in a flush, so that a backlog lasts
SMALL = {"RISK_BATCH_ROWS": "100"}


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """The selected scenarios, each with a deployment of its own."""
    yield from SCENARIOS.playing(request, cluster, tmp_path_factory, RISK_MODEL="v1")


class Log:
    """A log that is written in parts, to any partitions, with what must result from it. Mutable."""

    def __init__(self, deployment: Deployment, partitions: int, *, sessions: int = 1_000) -> None:
        # less than the grace in all: partitions are written one after another, and that alone must make no row late
        self.deployment, self.rows = deployment, months_of_rows(students=200, sessions=sessions, days=1)
        self.schema = deployment.make_source(partitions)
        self.written = 0

    def write(self, share: float, partitions: Sequence[int]) -> None:
        """Write the next rows, a `share` of all, in turn to `partitions`."""
        begin, self.written = self.written, min(len(self.rows), self.written + round(share * len(self.rows)))
        values = debezium.values(self.rows.take(slice(begin, self.written)), self.schema)
        for turn, partition in enumerate(partitions):
            mine = [(None, b"k", value, []) for value in values[turn :: len(partitions)]]
            self.deployment.send(self.deployment.names.source, mine, partition)

    @property
    def workload(self) -> Workload:
        """What has been written, and what must result from it."""
        rows = self.rows.take(slice(self.written))
        expected = expected_tables(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))
        return Workload(self.deployment.names.source, rows, expected)

    def differences(self) -> list[str]:
        """Compare everything that came out with an oracle."""
        return self.workload.differences(self.deployment)

    def state_differences(self, partitions: int) -> list[str]:
        """Compare changelog and disk of worker 1 with the oracle; each student must be in its partition only."""
        tables = run_async(read_changelog(self.deployment.settings, partitions))[0]
        tables = [{key: value for key, value in table.items() if value} for table in tables]
        lines = state_differences(self.workload.expected, tables) + disk_differences(self.deployment.state(), tables)
        for number, table in enumerate(tables):
            keys = [key for key in table if key not in OF_PARTITION and not log_ids.is_key(key)]
            lines += [f"in partition {number}: {keys}"] if (growth.divide(keys, partitions) != number).any() else []
        if len({table.get(ticks.KEY) for table in tables}) > 1:
            lines.append("the ticks of the partitions differ")
        return lines


def add_partitions(deployment: Deployment, topic: str, partitions: int) -> None:
    """Add partitions to a topic, as kafka-topics --alter does."""

    async def add() -> None:
        admin = new_admin(deployment.settings)
        await admin.start()
        try:
            await admin.create_partitions({topic: NewPartitions(partitions)})
        finally:
            await admin.close()

    run_async(add())


def grow(deployment: Deployment, partitions: int, fault: str = "") -> tuple[int, str]:
    """Run `faust -A app grow`; return its exit code and what it wrote."""
    variables = {**deployment.variables, "RISK_DATADIR": str(deployment.state()), VARIABLE: fault}
    log = deployment.directory / "grow.log"
    log.unlink(missing_ok=True)
    code = ForkedProcess(variables, log, ("grow", "--partitions", str(partitions))).wait(4 * TIMEOUT_S)
    return code, log.read_text()


def wait_until_read(log: Log, *workers: Worker) -> None:
    """Wait until the workers together have read all that was written, and nothing waits."""

    def done(stats: dict) -> bool:
        return stats["problem"] is None and not any(stats["lag"].values())

    deadline = time.monotonic() + TIMEOUT_S
    while sum((w.stats() or {"counts": {}})["counts"].get("events", 0) for w in workers) < log.written:
        assert time.monotonic() < deadline, [w.stats() for w in workers]
        time.sleep(0.1)
    for worker in workers:
        worker.wait_idle(timeout=TIMEOUT_S)


@scenario
def a_source_topic_that_grows_under_one_worker(deployment: Deployment) -> None:
    """Rows of new partitions count, from the first on; a worker that starts later knows them from the start."""
    log = Log(deployment, 1)
    log.write(0.2, [0])
    with deployment.worker(**SMALL) as worker:
        wait_for_visits(worker)
        add_partitions(deployment, deployment.names.source, 3)
        log.write(0.3, [0, 1, 2])
        wait_until_read(log, worker)
        assert worker.stop() == 0
    add_partitions(deployment, deployment.names.source, 4)
    log.write(0.2, [3, 1])
    with deployment.worker() as again:
        log.write(0.2, [0, 1, 2, 3])
        again.wait_idle(timeout=TIMEOUT_S, events=round(0.35 * len(log.rows)))
    assert deployment.read(deployment.names.dead_letters) == []
    assert log.differences() == []


@scenario
def a_source_topic_that_grows_under_two_workers(deployment: Deployment) -> None:
    """Both read some of its partitions then; one of them is killed, another joins."""
    log = Log(deployment, 2)
    log.write(0.3, [0, 1])
    with deployment.worker(2, **SMALL) as second:
        with deployment.worker(1, **SMALL) as first:
            wait_for_visits(second)
            add_partitions(deployment, deployment.names.source, 6)
            log.write(0.3, range(6))
            shared = [
                w.wait(lambda stats: len(sources(deployment, stats)) == 3, timeout=TIMEOUT_S) for w in (first, second)
            ]
            assert sorted(p for stats in shared for p in sources(deployment, stats)) == list(range(6))
            first.kill()
        log.write(0.3, range(6))
        with deployment.worker(3) as third:
            third.wait(lambda stats: bool(sources(deployment, stats)), timeout=TIMEOUT_S)
            log.write(0.1, range(6))
            for worker in (second, third):
                worker.wait_idle(timeout=TIMEOUT_S)
    run_to_end(deployment)
    assert log.differences() == []


def sources(deployment: Deployment, stats: dict[str, Any]) -> list[int]:
    """Return the source partitions that a worker reads."""
    names = [name.rpartition("-") for name in stats["lag"]]
    return [int(number) for topic, _, number in names if topic == deployment.names.source]


@scenario
def growing_survives_being_killed(deployment: Deployment) -> None:
    """From 2 to 5 partitions, after a worker was killed and with another that has an old disk: all counts once."""
    log = Log(deployment, 2)
    log.write(0.3, [0, 1])
    with deployment.worker(**SMALL) as worker:
        wait_for_visits(worker, 300)
        code, text = grow(deployment, 5)
        assert (code, "are running, 1 on" in text, text.count("moodle-risk:")) == (1, True, 1), text
        worker.kill()
    for point, count in (("created", 1), ("created", 2), ("moved", 1)):
        code, text = grow(deployment, 5, f"kill@{point}:{count}")
        assert code == -signal.SIGKILL, (point, text)
        assert_refuses(deployment, 5)
    log.write(0.2, [0, 1])
    code, text = grow(deployment, 5, "kill@divided:1")
    assert code == -signal.SIGKILL, text
    code, text = grow(deployment, 5)
    assert (code, "already" in text) == (0, True), text
    log.write(0.2, [1, 0])
    run_to_end(deployment)
    assert log.differences() == []
    assert log.state_differences(5) == []
    shutil.rmtree(deployment.state())
    log.write(0.2, [1, 0])
    run_to_end(deployment)
    assert log.differences() == []
    assert log.state_differences(5) == []


def assert_refuses(deployment: Deployment, partitions: int) -> None:
    """A worker ends with one line that leads to `grow`."""
    with pytest.raises(ConfigError, match=rf"growing was interrupted; .*faust -A app grow --partitions {partitions}$"):
        run_async(preflight(deployment.settings))


@scenario
def internal_topics_grown_by_hand_end_a_worker_in_one_line_and_grow_mends_them(deployment: Deployment) -> None:
    """A running worker stops before it writes anything for them."""
    log, names = Log(deployment, 2), deployment.names
    log.write(0.4, [0, 1])
    with deployment.worker(**SMALL) as worker:
        wait_for_visits(worker, 100)
        add_partitions(deployment, names.visits, 3)
        add_partitions(deployment, names.students_changelog, 3)
        assert worker.process.wait(TIMEOUT_S) not in (0, None)
    (line,) = [line for line in worker.log.read_text().splitlines() if line.startswith("moodle-risk: gave up:")]
    assert "has 3 partitions, and had 2 when this worker started: start it again" in line
    assert_refuses(deployment, 3)
    code, text = grow(deployment, 4)
    assert code == 0, text
    log.write(0.6, [0, 1])
    run_to_end(deployment)
    assert log.differences() == []
    assert log.state_differences(4) == []


@scenario
def rows_that_come_again_after_growing_are_recognised(deployment: Deployment) -> None:
    """RISK_DEDUPLICATE=log-id: every partition knows the ids of the students it got from others."""
    deployment = replace(deployment, variables={**deployment.variables, "RISK_DEDUPLICATE": "log-id"})
    log = Log(deployment, 2, sessions=300)
    log.write(0.6, [0, 1])
    run_to_end(deployment)
    code, text = grow(deployment, 4)
    assert code == 0, text
    log.written = 0  # all rows, of which the first ones are known
    log.write(1.0, [0, 1])
    run_to_end(deployment)
    assert log.differences() == []
    assert log.state_differences(4) == []


@scenario
def the_daily_scores_go_on_as_if_nothing_had_grown(deployment: Deployment) -> None:
    """Whatever the number of partitions: the same alerts, and the same last scores."""
    rows = months_of_rows(students=120, sessions=400, days=12)
    whole = Deployment.new(deployment.servers, deployment.directory / "whole", RISK_MODEL="")
    deployment = replace(deployment, variables={**deployment.variables, "RISK_MODEL": ""})
    for other in (whole, deployment):
        other.directory.mkdir(exist_ok=True)
        replay_rows(other, rows, partitions=1 if other is whole else 2)
    run_to_end(whole)
    with deployment.worker(**SMALL) as worker:
        wait_for_visits(worker, len(rows) // 2)
        worker.kill()
    code, text = grow(deployment, 5)
    assert code == 0, text
    run_to_end(deployment)
    scores, alerts = daily_scores(deployment)
    expected, expected_alerts = daily_scores(whole)
    assert {key for key in scores.keys() | expected.keys() if scores.get(key) != expected.get(key)} == set()
    assert alerts == expected_alerts
    assert len(expected) > 100


def daily_scores(deployment: Deployment) -> tuple[dict[bytes, Any], list[Any]]:
    """The last score of each student, and all alerts."""
    risk, alerts = (deployment.read(topic) for topic in (deployment.names.risk, deployment.names.risk_alerts))
    last = {key: record.value for key, record in compacted(risk).items()}
    return last, sorted((r.at, r.key, r.value) for r in alerts)


#: another one has two workers
LONG = ("a_source_topic_that_grows_under_one_worker",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in LONG else []) for name in SCENARIOS]
)
def test_everything_counts_once(name: str, results: dict[str, Future[None]]) -> None:
    """Each scenario compares all that came out with an oracle."""
    results[name].result()
