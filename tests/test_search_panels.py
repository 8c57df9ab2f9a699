"""Every panel's numbers against a recount, on a real OpenSearch node over the output of a real replay.

The replay: a log in Kafka, a real worker with the shipped model, its four topics sent on as the sinks would.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

import stack
from tests.support import lens
from tests.support.cluster import TIMEOUT_S, Deployment, replay_rows
from tests.support.lens import instant, millis
from tests.support.opensearch import Node
from tests.support.panel_oracle import RECOUNTS, Facts, Moment, contact, firsts, hours, newly
from tests.support.sink_documents import Document, actions, index_of
from tests.test_connect import KEYED, NAMES, SINKS
from tools.e2e.oracle import differences
from tools.replay import oulad
from tools.replay.log_rows import LogRows

pytestmark = pytest.mark.search

DASHBOARD = lens.Dashboard.read()
LAYERS = {(one.panel, one.name): one for one in DASHBOARD.layers() if one.asks}
#: so many students replayed: enough for every panel, few enough for seconds
STUDENTS = 30


def some_students() -> LogRows:
    """A whole course of the least active students of a presentation: some hardly came, some stopped, some stayed."""
    log = oulad.generate(["AAA-2013J"])
    students, events = np.unique(log.userid, return_counts=True)
    keep = np.isin(log.userid, students[np.argsort(events, kind="stable")[:STUDENTS]])
    return LogRows(np.arange(1, keep.sum() + 1), log.event[keep], log.names, log.userid[keep], log.at[keep])


@pytest.fixture(scope="module")
def facts(node: Node, cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facts]:
    """A replay through Kafka and a worker, sent on as the sinks would, and what is true of it."""
    rows = some_students()
    deployment = Deployment.new(cluster, tmp_path_factory.mktemp("dashboard"), RISK_EMIT="changes")
    workload = replay_rows(deployment, rows, partitions=1)
    with deployment.worker() as worker:
        worker.wait_idle(timeout=TIMEOUT_S, events=len(rows))
    outputs = deployment.outputs()
    assert differences(workload.expected, outputs) == []
    node.drop("moodle_logs_*")
    for config in SINKS.values():
        records = [(i, (one.key, one.value)) for i, one in enumerate(outputs[config["topics"]])]
        node.send(actions(config, records))
    yield Facts(
        [json.loads(value) for value in workload.expected.sessions.values()],
        [json.loads(value) for value, _ in workload.expected.totals.values()],
        [json.loads(one.value or b"") for one in outputs[NAMES.prediction]],
    )
    node.drop("moodle_logs_*")


@pytest.mark.broker
def test_a_replays_documents_are_its_tables(node: Node, facts: Facts) -> None:
    """One document a session, a student's totals, latest prediction and last warning; and one every prediction."""

    def sorted_rows(some: Sequence[Document]) -> list[str]:
        return sorted(json.dumps(one, sort_keys=True) for one in some)

    expected = {
        "sink-sessions": facts.sessions,
        "sink-agg": facts.totals,
        "sink-predictions-latest": facts.latest,
        "sink-in-risk": list({one["USERID"]: one for one in facts.warnings}.values()),
    }
    assert expected.keys() == KEYED.keys()
    for name, some in expected.items():
        assert sorted_rows(list(node.documents(index_of(SINKS[name])).values())) == sorted_rows(some), name
    every = index_of(SINKS["sink-predictions-history"])
    assert node.ask("GET", f"/{every}/_count")["count"] == len(facts.predictions)


def test_no_panel_is_left_out() -> None:
    assert LAYERS.keys() == RECOUNTS.keys()


#: when somebody looks: so many days after the first event, or after the last
MOMENTS = {"in the fourth week": (min, 25), "the day after": (max, 1), "half a year later": (max, 200)}


def moment(facts: Facts, when: str, student: int | None = None) -> Moment:
    """One of MOMENTS, for everybody or of one student."""
    end, days = MOMENTS[when]
    at = end(one["END_DATE"] for one in facts.sessions)
    now = datetime.fromtimestamp(at / 1000, UTC) + timedelta(days=days)
    saved = DASHBOARD.saved["attributes"]
    low, high = (millis(instant(saved[end], now)) for end in ("timeFrom", "timeTo"))
    return Moment(facts if student is None else facts.of(student), now, low, high)


@pytest.mark.broker
@pytest.mark.parametrize("filtered", [False, True], ids=["everybody", "one student"])
@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize(("panel", "layer"), RECOUNTS)
def test_a_panels_numbers_are_those_of_a_recount(
    node: Node, facts: Facts, panel: str, layer: str, when: str, filtered: bool
) -> None:
    """In the fourth week most are new in risk; half a year later the time picker begins in the middle of the course."""
    # the student with the most warnings is in every panel
    student = Counter(one["USERID"] for one in facts.warnings).most_common(1)[0][0] if filtered else None
    m = moment(facts, when, student)
    one = LAYERS[panel, layer]
    asked = lens.body(one, m.now, None if student is None else str(student))
    assert lens.rows(one, node.ask("POST", f"/{one.view.index}/_search", asked)) == RECOUNTS[panel, layer](m)


@pytest.mark.broker
def test_hours_and_weekdays_are_those_of_the_zone_that_is_set(node: Node, facts: Facts) -> None:
    """Half an hour makes another hour, and an evening another day."""
    m, one = moment(facts, "the day after"), LAYERS["when", "data"]
    asked = json.dumps(lens.body(one, m.now))
    assert asked.count("ZoneId.of('UTC')") == 2
    moved = json.loads(asked.replace("ZoneId.of('UTC')", "ZoneId.of('+05:30')"))
    found = lens.rows(one, node.ask("POST", f"/{one.view.index}/_search", moved))
    assert found == hours(m, timezone(timedelta(hours=5, minutes=30))) != hours(m)


@pytest.mark.broker
def test_the_replay_covers_what_the_panels_show(facts: Facts) -> None:
    """Some in risk and some not, some new in the last week, some last seen before the time range: all are counted."""
    early, m, later = (moment(facts, when) for when in MOMENTS)
    now = RECOUNTS["in-risk-now", "data"]
    assert 0 < now(m)[0]["students"] < len(facts.totals)
    assert now(later) == now(m)
    assert any(row["seen"] < later.low for row in contact(later))
    assert 0 < len(later.facts.sessions) < len(facts.sessions)
    assert len(hours(m)) > 50
    assert sum(row["sessions-y"] > 0 for row in RECOUNTS["session-length", "sessions"](m)) >= 4
    assert sum(row["students-y"] > 0 for row in RECOUNTS["students-by-sessions", "students"](m)) >= 4
    fresh = newly(early)[0]["students"]
    assert 0 < fresh < len(firsts(early.always)) < len(firsts(facts))
    assert not newly(later)[0]["students"]


@pytest.mark.broker
def test_the_student_filter_offers_every_student(node: Node, facts: Facts) -> None:
    """Its data view has no time: nobody is missing for having been seen too long ago."""
    (control,) = DASHBOARD.controls.values()
    references = {one["name"]: one["id"] for one in DASHBOARD.saved["references"]}
    view = DASHBOARD.views[references["controlGroup_student:optionsListDataView"]]
    assert not view.time
    asked = {"size": 0, "aggs": {"all": {"terms": {"field": control["explicitInput"]["fieldName"], "size": 1000}}}}
    found = node.ask("POST", f"/{view.index}/_search", asked)["aggregations"]["all"]["buckets"]
    assert {one["key"] for one in found} == {str(one["USERID"]) for one in facts.totals}


def test_the_file_is_read_as_kibana_reads_it(tmp_path: Path) -> None:
    """The panels that are checked here are those of the file: another file, other panels."""
    other = tmp_path / "other.ndjson"
    other.write_text(lens.FILE.read_text().replace("PREDICTION > 0.7", "PREDICTION > 0.9"))
    one = {(layer.panel, layer.name): layer for layer in lens.Dashboard.read(other).layers()}["in-risk-now", "data"]
    assert one.query == "PREDICTION > 0.9"
    filters = lens.body(one, datetime(2026, 1, 1, tzinfo=UTC))["query"]["bool"]["filter"]
    assert {"bool": {"filter": [{"range": {"PREDICTION": {"gt": 0.9}}}]}} in filters
