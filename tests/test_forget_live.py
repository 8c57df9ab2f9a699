"""`faust -A app forget` on a real broker, while two workers run and one of them dies."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest

import stack
from app.kafka.topics import of_page
from app.ops.failpoints import VARIABLE
from models import forgotten
from models import position as positions
from models.state_keys import OF_PARTITION, is_student, student_key
from page.cases.actions import Kind
from page.cases.records import Proposal, encode
from tests.support.cluster import (
    HOUR,
    TIMEOUT_S,
    Deployment,
    months_of_rows,
    row,
    run_async,
    run_to_end,
    until,
    wait_for_visits,
)
from tests.support.forked_worker import ForkedProcess
from tests.support.scenarios import Scenarios
from tools.e2e.chaos.verdict import disk_differences, read_changelog
from tools.e2e.oracle import compacted, differences, expected_tables
from tools.e2e.read_topic import read_topic
from tools.replay import debezium
from tools.replay.log_rows import LogRows

pytestmark = [pytest.mark.broker, pytest.mark.long]

SCENARIOS = Scenarios()
#: registers a scenario for the test at the end of this file
scenario = SCENARIOS.register

#: partitions of the source topic and of the app's own
PARTITIONS = 2
#: few visits in a flush, so that a backlog lasts
SMALL = {"RISK_BATCH_ROWS": "100"}


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """The selected scenarios, each with a deployment of its own."""
    yield from SCENARIOS.playing(request, cluster, tmp_path_factory, RISK_MODEL="")


class Log:
    """A log of four days in three parts: three days, of which sessions expire, and two parts of the last day.

    Some students are forgotten between the second and the third, and have no rows in the second. Mutable.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.rows = months_of_rows(students=200, sessions=800, days=4)
        self.schema = deployment.make_source(PARTITIONS)
        students = np.unique(self.rows.userid)
        self.forgotten = students[::20].tolist()
        since = (self.rows.at - self.rows.at[0]) / HOUR
        forgets = np.isin(self.rows.userid, self.forgotten)
        self.parts = [
            self.rows.take(np.flatnonzero(rows))
            for rows in (since < 72, (since >= 72) & (since < 83) & ~forgets, since >= 83)
        ]

    def write(self, rows: LogRows) -> None:
        """Write rows, in turn to the partitions."""
        values = debezium.values(rows, self.schema)
        for partition in range(PARTITIONS):
            mine = [(None, b"k", value, []) for value in values[partition::PARTITIONS]]
            self.deployment.send(self.deployment.names.source, mine, partition)

    def differences(self) -> list[str]:
        """Compare everything that came out with an oracle: of those forgotten, only the last part is left."""
        first, second, third = ([*zip(p.userid.tolist(), p.at.tolist(), strict=True)] for p in self.parts)
        kept = [(student, at) for student, at in first + second if student not in self.forgotten]
        topics = self.deployment.outputs()
        in_risk = "MOODLE_LOGS_PREDICTION_IN_RISK"
        topics[in_risk] = [record for record in topics[in_risk] if record.value is not None]
        return differences(expected_tables(kept + third), topics, scored=self.deployment.settings.model == "v1")

    def assert_nothing_is_left(self) -> None:
        """No state and no output has a value for those forgotten, before the third part is written."""
        ids, names = {b"%d" % student for student in self.forgotten}, self.deployment.names
        scored = (names.prediction, names.in_risk) if self.deployment.settings.model == "v1" else (names.risk,)
        for topic in (names.sessions, names.agg, *scored):
            records = self.deployment.read(topic)
            students = {
                r.key: r.key[:-16] if topic == names.sessions else r.key.split(b"|")[0] for r in records if r.key
            }
            assert not ids & {students[key] for key in compacted(records)}, topic
            assert ids & set(students.values()), topic
        self.assert_no_state()

    def assert_no_state(self) -> None:
        """No state has a record of those forgotten."""
        ids = {b"%d" % student for student in self.forgotten}
        for table in self.tables():
            students = [key for key in table if key not in OF_PARTITION]
            assert not ids & set(map(student_key, students))
            assert positions.unpack(table[positions.KEY], 0).students == sum(map(is_student, students))
            assert table[forgotten.KEY]

    def tables(self) -> list[dict[bytes, bytes]]:
        """The table that each partition of the changelog holds."""
        tables = run_async(read_changelog(self.deployment.settings, PARTITIONS))[0]
        return [{key: value for key, value in table.items() if value} for table in tables]


def start_forgetting(deployment: Deployment, students: Sequence[int], *options: str) -> ForkedProcess:
    """Start `faust -A app forget`."""
    log = deployment.directory / "forget.log"
    log.unlink(missing_ok=True)
    variables = {**deployment.variables, "RISK_DATADIR": str(deployment.state())}
    return ForkedProcess(variables, log, ("forget", *options, *map(str, students)))


def forget(deployment: Deployment, students: Sequence[int], *options: str) -> tuple[int, str]:
    """Run the command; return its exit code and what it wrote."""
    code = start_forgetting(deployment, students, *options).wait(2 * TIMEOUT_S)
    return code, (deployment.directory / "forget.log").read_text()


def act_on(deployment: Deployment, students: Sequence[int]) -> None:
    """Let advisers act twice on the case of each student, the second time in vain."""
    deployment.declare(*of_page(deployment.names, 365))
    for student in students:
        asked = Proposal("action-1", student, 10, 0, Kind.NOTE, "ann", 5, f"a note on {student}")
        records = [encode(asked, "1"), encode(replace(asked, id="action-2"), "1")]
        deployment.send(deployment.names.cases, [row(value, key) for key, value in records])


@scenario
def students_are_forgotten_amid_a_backlog_while_a_worker_is_killed(deployment: Deployment) -> None:
    """Sessions that have expired are gone too, dead letters as well, and visits until then."""
    log, names = Log(deployment), deployment.names
    log.write(log.parts[0])
    dead = log.forgotten[0], 10**6
    for student in dead:
        log.write(LogRows(np.array([1]), np.array([0]), ("e",), np.array([student]), np.array([-5])))
    deployment.send(names.source, [(None, b"k", b"\0", [])])
    run_to_end(deployment)
    act_on(deployment, dead)
    with deployment.worker(1, **SMALL) as first, deployment.worker(2, **SMALL) as second:
        for worker in (first, second):
            worker.wait(lambda stats: len(stats["state_partitions"]) == 1, timeout=TIMEOUT_S)
        log.write(log.parts[1])
        wait_for_visits(second)
        command = start_forgetting(deployment, log.forgotten)
        time.sleep(0.5)
        first.kill()
        code, text = command.wait(2 * TIMEOUT_S), (deployment.directory / "forget.log").read_text()
        assert code == 0, text
        log.assert_nothing_is_left()
        letters = deployment.read(names.dead_letters)
        assert [(len(letter.value or b"") > 1, dict(letter.headers)["dead-letter.reason"]) for letter in letters] == [
            (True, b"negative-time"), (False, b"truncated"),
        ]  # fmt: skip
        assert dict(letters[1].headers)["dead-letter.erased"] == b"2"
        for partition in range(PARTITIONS):
            ids = [student.to_bytes(8, "little") for student in log.forgotten]
            left = run_async(read_topic(deployment.settings, names.visits, partition))
            assert not any(student in (record.value or b"") for student in ids for record in left)
        assert "is not compacted" in text
        assert f"topic {names.page_audit} keeps for 365 days which adviser looked at which student" in text
        cases = compacted(deployment.read(names.cases))
        assert sorted(cases) == [b"1000000|10|0|action-1|1", b"1000000|10|0|action-2|1"]
        log.write(log.parts[2])
        second.wait_idle(timeout=TIMEOUT_S)
        assert second.stop() == 0
    run_to_end(deployment)
    assert log.differences() == []
    assert disk_differences(deployment.state(), log.tables()) == []


@scenario
def a_worker_that_dies_when_it_has_forgotten(deployment: Deployment) -> None:
    """Its successors read the request again, and once more behind later visits: these are kept."""
    deployment = replace(deployment, variables={**deployment.variables, "RISK_MODEL": "v1"})
    log = Log(deployment)
    log.write(log.parts[0])
    log.write(log.parts[1])
    run_to_end(deployment)
    with deployment.worker(1, **{VARIABLE: "kill@forgotten:1"}) as worker:
        worker.wait(lambda stats: len(stats["state_partitions"]) == PARTITIONS, timeout=TIMEOUT_S)
        command = start_forgetting(deployment, log.forgotten, "--timeout", "60")
        assert worker.process.wait(TIMEOUT_S) == -signal.SIGKILL
    with deployment.worker(1) as again:
        code, text = command.wait(2 * TIMEOUT_S), (deployment.directory / "forget.log").read_text()
        assert code == 0, text
        log.assert_nothing_is_left()
        log.write(log.parts[2])
        until(again.stats, lambda stats: stats and not any(stats["lag"].values()))
        again.kill()  # its last commits of the group may be missing
    run_to_end(deployment)
    assert log.differences() == []
    assert disk_differences(deployment.state(), log.tables()) == []
    code, text = forget(deployment, [1])
    assert (code, text.count("moodle-risk:"), "no worker" in text) == (1, 1, True), text


#: the property test of test_forget.py reads requests again, too
LONG = a_worker_that_dies_when_it_has_forgotten.__name__


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.long) if n == LONG else n for n in SCENARIOS])
def test_students_are_forgotten_once(name: str, results: dict[str, Future[None]]) -> None:
    """Each scenario compares all that came out with an oracle."""
    results[name].result()
