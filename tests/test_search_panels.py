"""Every panel's numbers against a recount, on a real Elasticsearch node with the output of a real replay.

The replay is a log in Kafka, processed by a real worker with the totals model; its topics are indexed as the sinks
would. The risk and the alerts are rows of the codec about two invented courses, where alerts open and close, and
students fall silent (tests/support/risk_course.py). A panel whose data view computes a field with a script is searched
on an OpenSearch node with the same documents.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

import stack
from tests.support import lens, risk_course
from tests.support.cluster import TIMEOUT_S, Deployment, replay_rows
from tests.support.lens import instant, millis
from tests.support.panel_oracle import RECOUNTS, Facts, Moment, firsts, hours, newly
from tests.support.risk_oracle import (
    RISK_RECOUNTS,
    Courses,
    contact,
    opened_lately,
    per_course,
    per_week,
    silence,
    silent,
)
from tests.support.search_node import Node
from tests.support.sink_documents import Action, Document, actions, index_of
from tests.test_connect import KEYED, NAMES, SINKS
from tools.e2e.oracle import differences
from tools.replay import oulad
from tools.replay.log_rows import LogRows

pytestmark = pytest.mark.search

DASHBOARD = lens.Dashboard.read()
LAYERS = {(layer.panel, layer.name): layer for layer in DASHBOARD.layers() if layer.has_query}
#: the sinks of the risk, whose rows are not the replay's
RISK_SINKS = {"sink-risk", "sink-risk-alerts"}
#: number of students replayed: enough for every panel, few enough to take seconds
STUDENTS = 30


def least_active_students() -> LogRows:
    """Return the log of a presentation's least active students: some hardly came, some stopped, some stayed."""
    log = oulad.generate(["AAA-2013J"])
    students, events = np.unique(log.userid, return_counts=True)
    keep = np.isin(log.userid, students[np.argsort(events, kind="stable")[:STUDENTS]])
    return replace(log.take(np.flatnonzero(keep)), id=np.arange(1, keep.sum() + 1))


@pytest.fixture(scope="module")
def facts(node: Node, cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facts]:
    """The documents of a replay through Kafka and a worker, indexed as the sinks would."""
    rows = least_active_students()
    # the totals model, whose predictions the oracle knows
    variables = {"RISK_EMIT": "changes", "RISK_MODEL": "v1"}
    deployment = Deployment.new(cluster, tmp_path_factory.mktemp("dashboard"), **variables)
    workload = replay_rows(deployment, rows, partitions=1)
    with deployment.worker() as worker:
        worker.wait_idle(timeout=TIMEOUT_S, events=len(rows))
    outputs = deployment.outputs()
    assert differences(workload.expected, outputs) == []
    node.drop("moodle_logs_*")
    for name in sorted(SINKS.keys() - RISK_SINKS):
        config = SINKS[name]
        records = [(i, (record.key, record.value)) for i, record in enumerate(outputs[config["topics"]])]
        node.send(actions(config, records))
    yield Facts(
        [json.loads(value) for value in workload.expected.sessions.values()],
        [json.loads(value) for value, _ in workload.expected.totals.values()],
        [json.loads(record.value or b"") for record in outputs[NAMES.prediction]],
    )
    node.drop("moodle_logs_*")


@pytest.fixture(scope="module")
def courses(node: Node) -> Iterator[Courses]:
    """The documents of the risk and the alerts, indexed as the sinks would."""
    rows = risk_course.written()
    node.drop("moodle_risk*")
    for name, records in (("sink-risk", rows.risk), ("sink-risk-alerts", rows.alerts)):
        node.send(actions(SINKS[name], enumerate(records)))
    latest = dict(rows.risk).values()
    yield Courses(
        [json.loads(value) for value in latest if value is not None], [json.loads(v or b"") for _, v in rows.alerts]
    )
    node.drop("moodle_risk*")


@pytest.fixture(scope="module")
def scripting(node: Node, facts: Facts, courses: Courses, scripting_node: Node) -> Node:
    """A node that runs scripts, with the same documents in the indices of data views that have scripts."""
    for index in {layer.view.index for layer in LAYERS.values() if layer.scripts}:
        copied = node.documents(index).items()
        scripting_node.send([Action(index, id, None, json.dumps(document).encode()) for id, document in copied])
    return scripting_node


@pytest.mark.broker
def test_a_replays_documents_are_its_tables(node: Node, facts: Facts) -> None:
    """There is one document per session, one per student in each table, and one per prediction."""

    def sorted_rows(documents: Sequence[Document]) -> list[str]:
        return sorted(json.dumps(document, sort_keys=True) for document in documents)

    expected = {
        "sink-sessions": facts.sessions,
        "sink-agg": facts.totals,
        "sink-predictions-latest": facts.latest,
        "sink-in-risk": list({document["USERID"]: document for document in facts.warnings}.values()),
    }
    assert expected.keys() == KEYED.keys() - RISK_SINKS
    for name, documents in expected.items():
        assert sorted_rows(list(node.documents(index_of(SINKS[name])).values())) == sorted_rows(documents), name
    every = index_of(SINKS["sink-predictions-history"])
    assert node.ask("GET", f"/{every}/_count")["count"] == len(facts.predictions)


def test_no_panel_is_left_out() -> None:
    assert LAYERS.keys() == {*RECOUNTS, *RISK_RECOUNTS}


#: times of viewing: number of days after the first event, or after the last
MOMENTS = {"in the fourth week": (min, 25), "the day after": (max, 1), "half a year later": (max, 200)}


def moment(facts: Facts, when: str, student: int | None = None) -> Moment:
    """Return one of MOMENTS, for all students or for one."""
    end, days = MOMENTS[when]
    at = end(document["END_DATE"] for document in facts.sessions)
    now = datetime.fromtimestamp(at / 1000, UTC) + timedelta(days=days)
    saved = DASHBOARD.saved["attributes"]
    low, high = (millis(instant(saved[end], now)) for end in ("timeFrom", "timeTo"))
    return Moment(facts if student is None else facts.of(student), now, low, high)


@pytest.mark.broker
@pytest.mark.parametrize("filtered", [False, True], ids=["all students", "one student"])
@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize(("panel", "layer"), RECOUNTS)
def test_a_panels_numbers_are_those_of_a_recount(
    request: pytest.FixtureRequest, facts: Facts, panel: str, layer: str, when: str, filtered: bool
) -> None:
    """In the fourth week most are new in risk; half a year later the time picker begins in the middle of the course."""
    # the student with the most warnings is in every panel
    student = Counter(document["USERID"] for document in facts.warnings).most_common(1)[0][0] if filtered else None
    m = moment(facts, when, student)
    assert searched(request, LAYERS[panel, layer], m, student) == RECOUNTS[panel, layer](m)


@pytest.mark.broker
@pytest.mark.parametrize("filtered", [False, True], ids=["all students", "one student"])
@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize(("panel", "layer"), RISK_RECOUNTS)
def test_the_numbers_about_risk_and_alerts_are_those_of_a_recount(
    request: pytest.FixtureRequest, facts: Facts, courses: Courses, panel: str, layer: str, when: str, filtered: bool
) -> None:
    """The filtered student is the one with the most alerts."""
    student = Counter(d["USERID"] for d in courses.alerts).most_common(1)[0][0] if filtered else None
    m, some = moment(facts, when), courses if student is None else courses.of(student)
    assert searched(request, LAYERS[panel, layer], m, student) == RISK_RECOUNTS[panel, layer](m, some)


def searched(
    request: pytest.FixtureRequest, layer: lens.Layer, m: Moment, student: int | None = None
) -> list[lens.Row]:
    """Return the rows that a layer shows at a moment, on the node that can compute its fields."""
    node: Node = request.getfixturevalue("scripting" if layer.scripts else "node")
    search = lens.body(layer, m.now, None if student is None else str(student))
    return lens.rows(layer, node.ask("POST", f"/{layer.view.index}/_search", search))


@pytest.mark.broker
def test_the_courses_cover_what_the_panels_show(facts: Facts, courses: Courses) -> None:
    """Alerts open and close, students are silent or gone, and some have two reasons."""
    early, m, _ = (moment(facts, when) for when in MOMENTS)
    assert 0 < opened_lately(early, courses) < len(courses.alerts)
    rows = contact(m, courses)
    assert len(rows) > len({row["student"] for row in rows}) > 3
    assert any(isinstance(row["reasons"], list) for row in rows)
    for change in ("opened", "closed"):
        assert sum(row[f"{change}-y"] > 0 for row in per_week(m, courses, change)) >= 3
    for row in per_course(m, courses):
        assert min(row[name] for name in ("raised", "high", "alerts", "gone")) > 0
    assert {row["band"] for row in silent(m, courses)} >= {"GONE", "HIGH"}
    assert any(len(d["REASONS"]) == 2 and silence(d) is not None for d in courses.risk)


@pytest.mark.broker
def test_without_courses_the_tables_have_rows(
    request: pytest.FixtureRequest, node: Node, facts: Facts, courses: Courses
) -> None:
    """With RISK_COURSES=site COURSEID is null, which the index shows as "all": a missing value has no row."""
    rows = risk_course.written(site=True).risk
    m, sink = moment(facts, "the day after"), SINKS["sink-risk"]
    node.drop("moodle_risk")
    node.send(actions(sink, enumerate(rows)))
    site = Courses([json.loads(value) for value in dict(rows).values() if value is not None], [])
    try:
        assert searched(request, LAYERS["contact-first", "data"], m) == contact(m, site) != []
        (row,) = searched(request, LAYERS["risk-per-course", "data"], m)
        assert row["course"] == "all"
    finally:
        node.drop("moodle_risk")
        node.send(actions(sink, enumerate(risk_course.written().risk)))


@pytest.mark.broker
def test_hours_and_weekdays_are_those_of_the_zone_that_is_set(scripting: Node, facts: Facts) -> None:
    """A zone half an hour off changes hours, and around midnight weekdays."""
    m, layer = moment(facts, "the day after"), LAYERS["when", "data"]
    search = json.dumps(lens.body(layer, m.now))
    assert search.count("ZoneId.of('UTC')") == 2
    moved = json.loads(search.replace("ZoneId.of('UTC')", "ZoneId.of('+05:30')"))
    rows = lens.rows(layer, scripting.ask("POST", f"/{layer.view.index}/_search", moved))
    assert rows == hours(m, timezone(timedelta(hours=5, minutes=30))) != hours(m)


@pytest.mark.broker
def test_the_replay_covers_what_the_panels_show(facts: Facts) -> None:
    """Some students are in risk and some not, some are new in the last week, some were last seen before the range."""
    early, m, later = (moment(facts, when) for when in MOMENTS)
    now = RECOUNTS["in-risk-now", "data"]
    assert 0 < now(m)[0]["students"] < len(facts.totals)
    assert now(later) == now(m)
    assert any(row["seen"] < later.low for row in RECOUNTS["above-the-limit", "data"](later))
    assert 0 < len(later.facts.sessions) < len(facts.sessions)
    assert len(hours(m)) > 50
    assert sum(row["sessions-y"] > 0 for row in RECOUNTS["session-length", "sessions"](m)) >= 4
    assert sum(row["students-y"] > 0 for row in RECOUNTS["students-by-sessions", "students"](m)) >= 4
    fresh = newly(early)[0]["students"]
    assert 0 < fresh < len(firsts(early.always)) < len(firsts(facts))
    assert not newly(later)[0]["students"]


@pytest.mark.broker
def test_the_student_filter_offers_every_student(node: Node, facts: Facts) -> None:
    """Its data view has no time field, so students last seen before the time range are offered too."""
    (control,) = DASHBOARD.controls.values()
    references = {reference["name"]: reference["id"] for reference in DASHBOARD.saved["references"]}
    view = DASHBOARD.views[references["controlGroup_student:optionsListDataView"]]
    assert not view.time
    search = {"size": 0, "aggs": {"all": {"terms": {"field": control["explicitInput"]["fieldName"], "size": 1000}}}}
    buckets = node.ask("POST", f"/{view.index}/_search", search)["aggregations"]["all"]["buckets"]
    assert {bucket["key"] for bucket in buckets} == {str(document["USERID"]) for document in facts.totals}


def test_the_file_is_read_as_kibana_reads_it(tmp_path: Path) -> None:
    """The panels checked here are those of the file: a changed file changes the search."""
    other = tmp_path / "other.ndjson"
    other.write_text(lens.FILE.read_text().replace("PREDICTION > 0.7", "PREDICTION > 0.9"))
    in_risk = {(layer.panel, layer.name): layer for layer in lens.Dashboard.read(other).layers()}["in-risk-now", "data"]
    assert in_risk.query == "PREDICTION > 0.9"
    filters = lens.body(in_risk, datetime(2026, 1, 1, tzinfo=UTC))["query"]["bool"]["filter"]
    assert {"bool": {"filter": [{"range": {"PREDICTION": {"gt": 0.9}}}]}} in filters
