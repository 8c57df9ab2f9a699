"""The committed kibana/moodle-risk.ndjson: Kibana's rules hold, and the check of the rules finds violations."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.predictions import THRESHOLD
from tests.support.kibana_rules import Json, problems
from tests.support.lens import FILE, Dashboard
from tests.test_connect import SINKS, TEMPLATE, fields_of, index_of, typed

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "kibana" / "build.py"
OBJECTS = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
_TYPES = typed(TEMPLATE["template"]["mappings"]["properties"])
#: index -> field -> type in the template, for the fields that are written to the index, in all their forms
FIELDS = {
    index_of(config): {
        path: kind
        for name in fields_of(config["topics"])
        for path, kind in _TYPES.items()
        if path in (name, f"{name}.day")
    }
    for config in SINKS.values()
}


def test_the_file_follows_kibanas_rules() -> None:
    assert problems(OBJECTS, FIELDS) == []


def test_there_is_a_data_view_for_every_index() -> None:
    views = {view["id"]: view["attributes"] for view in OBJECTS if view["type"] == "index-pattern"}
    assert {view["title"] for view in views.values()} == FIELDS.keys()
    assert {id: view.get("timeFieldName") for id, view in views.items()} == {
        "moodle-risk-sessions": "START_DATE",
        "moodle-risk-totals": None,
        "moodle-risk-predictions-latest": "CREATED_DATE",
        "moodle-risk-predictions-history": "CREATED_DATE",
        "moodle-risk-in-risk": "CREATED_DATE",
        "moodle-risk-current": "AS_OF",
        "moodle-risk-alerts": "DAY",
    }


def test_every_object_comes_after_what_it_refers_to() -> None:
    seen: set[str] = set()
    for saved in OBJECTS:
        assert {reference["id"] for reference in saved["references"]} <= seen
        seen.add(saved["id"])


# --- the threshold ---


def test_the_threshold_is_the_same_everywhere() -> None:
    """In KSQL's statement, in the app, and in every query, reference line and text of the dashboard."""
    (ksql,) = re.findall(
        r"WHERE prediction > ([\d.]+);", (ROOT / "ksql/5_moodle_logs_prediction_in_risk.sql").read_text()
    )
    dashboard = Dashboard.read()
    layers = list(dashboard.layers())
    texts = [layer.query for layer in layers]
    texts += [column.get("filter", {}).get("query", "") for layer in layers for column in layer.columns.values()]
    queries = [number for text in texts for number in re.findall(r"PREDICTION ([<>=]+) ([\d.]+)", text)]
    lines = [
        column["params"]["value"]
        for layer in layers
        for column in layer.columns.values()
        if column["operationType"] == "static_value"
    ]
    assert len(queries) == 5
    assert len(lines) == 1
    assert {(">", float(ksql)), *((sign, float(number)) for sign, number in queries)} == {(">", THRESHOLD)}
    assert float(lines[0]) == THRESHOLD
    percents = set(re.findall(r"bove (?:\*\*)?(\d+)", json.dumps(dashboard.panels)))
    assert percents == {f"{THRESHOLD * 100:.0f}"}
    assert f"Above {THRESHOLD:.0%}" in note(dashboard)


def note(dashboard: Dashboard) -> str:
    text: str = dashboard.panels["note"]["embeddableConfig"]["savedVis"]["params"]["markdown"]
    return text.replace("**", "")


def test_the_first_panel_says_that_these_are_predictions() -> None:
    dashboard = Dashboard.read()
    assert dashboard.panels["note"]["gridData"]["y"] == 0
    assert note(dashboard).startswith("### Predictions, not facts")


def test_panels_about_the_current_state_ignore_the_time_picker() -> None:
    """They have their own time range or no time field, so inactive students are not hidden."""
    dashboard = Dashboard.read()
    always = {id for id, panel in dashboard.panels.items() if "timeRange" in panel["embeddableConfig"]}
    assert always == {
        *("alerts-open", "alerts-opened", "silent-now", "gone", "contact-first", "risk-per-course", "silent-students"),
        *("in-risk-now", "newly-in-risk", "above-the-limit", "first-warnings"),
    }
    timeless = {layer.panel for layer in dashboard.layers() if not layer.view.time}
    assert timeless == {"students", "students-by-sessions", "fewest-sessions"}
    latest = {"moodle-risk-predictions-latest", "moodle-risk-current"}
    about_now = {layer.panel for layer in dashboard.layers() if layer.view.id in latest}
    assert about_now <= always
    for id in always:
        assert dashboard.panels[id]["embeddableConfig"]["timeRange"]["from"].startswith("1970")


# --- the file matches its source ---


def build(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(BUILD), *arguments], capture_output=True, text=True, check=False)


def test_the_file_is_up_to_date() -> None:
    done = build("--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stale_or_missing_file_is_reported_and_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "built.ndjson"
    assert build("--check", f"--file={path}").returncode == 1
    assert build(f"--file={path}").returncode == 0
    assert path.read_bytes() == FILE.read_bytes()
    path.write_text(path.read_text().replace("Students at risk", "Edited by hand"))
    done = build("--check", f"--file={path}")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


# --- the check finds violations ---


class Copy:
    """A copy of the file's objects to modify, with the parts that are stored as text decoded."""

    def __init__(self) -> None:
        self.objects = copy.deepcopy(OBJECTS)
        self.dashboard = self.objects[-1]
        attributes = self.dashboard["attributes"]
        self.panels: dict[str, Json] = {panel["panelIndex"]: panel for panel in json.loads(attributes["panelsJSON"])}
        self.controls: Json = json.loads(attributes["controlGroupInput"]["panelsJSON"])

    def view(self, name: str) -> Json:
        (saved,) = (saved for saved in self.objects if saved["id"] == f"moodle-risk-{name}")
        return saved

    def state(self, panel: str) -> Json:
        state: Json = self.panels[panel]["embeddableConfig"]["attributes"]["state"]
        return state

    def column(self, panel: str, id: str) -> Json:
        layers = self.state(panel)["datasourceStates"]["formBased"]["layers"]
        (one,) = (layer["columns"][id] for layer in layers.values() if id in layer["columns"])
        column: Json = one
        return column

    def encoded(self) -> list[Json]:
        attributes = self.dashboard["attributes"]
        attributes["panelsJSON"] = json.dumps(list(self.panels.values()))
        attributes["controlGroupInput"]["panelsJSON"] = json.dumps(self.controls)
        return self.objects


def put(target: Json, **values: Any) -> None:
    target.update(values)


def runtime(spoilt: Copy, old: str, new: str) -> None:
    attributes = spoilt.view("sessions")["attributes"]
    attributes["runtimeFieldMap"] = attributes["runtimeFieldMap"].replace(old, new)


SPOILT: dict[str, tuple[Callable[[Copy], object], str]] = {
    "newer than Kibana": (lambda c: put(c.dashboard, typeMigrationVersion="10.9.0"), "version 10.9.0"),
    "no version": (lambda c: c.view("totals").pop("typeMigrationVersion"), "version None"),
    "old name of a key": (lambda c: put(c.dashboard, migrationVersion={}), "keys ['migrationVersion']"),
    "an id twice": (lambda c: c.objects.insert(0, c.view("totals")), "index-pattern moodle-risk-totals: twice"),
    "no data view": (lambda c: c.objects.remove(c.view("totals")), "leads nowhere"),
    "reference to nowhere": (lambda c: put(c.dashboard["references"][0], id="x"), "leads nowhere"),
    "reference twice": (lambda c: c.dashboard["references"].append(c.dashboard["references"][0]), "twice"),
    "reference lost": (lambda c: c.dashboard["references"].pop(0), "data view None outside"),
    "unused reference": (lambda c: put(c.dashboard["references"][0], name="x:y"), "x:y is not used"),
    "another view inside": (
        lambda c: put(c.panels["when"]["embeddableConfig"]["attributes"]["references"][0], id="moodle-risk-totals"),
        "outside, moodle-risk-totals inside",
    ),
    "another layer inside": (
        lambda c: put(c.panels["when"]["embeddableConfig"]["attributes"]["references"][0], name="x"),
        "references inside are not those",
    ),
    "panel's name in the grid": (lambda c: put(c.panels["when"]["gridData"], i="x"), "is x in the grid"),
    "panel twice": (lambda c: put(c.panels["when"], panelIndex="note"), "panel note: twice"),
    "colon": (lambda c: put(c.panels["note"], panelIndex="a:b"), "a colon"),
    "overlap": (lambda c: put(c.panels["when"]["gridData"], y=117), "panels session-length and when overlap"),
    "too wide": (lambda c: put(c.panels["note"]["gridData"], w=49), "outside of the grid"),
    "no title": (lambda c: put(c.panels["when"], title=" "), "no title"),
    "no text": (lambda c: put(c.panels["note"]["embeddableConfig"]["savedVis"]["params"], markdown=""), "no text"),
    "unknown panel": (lambda c: put(c.panels["when"], type="vega"), "type vega"),
    "future panel": (lambda c: put(c.panels["when"], version="9.4.0"), "version 9.4.0"),
    "reversed time range": (
        lambda c: put(c.panels["in-risk-now"]["embeddableConfig"]["timeRange"], to="1969-01-01T00:00:00Z"),
        "time range from 1970",
    ),
    "range ignored": (lambda c: put(c.dashboard["attributes"], timeRestore=False), "timeRestore"),
    "forbidden": (lambda c: put(c.dashboard["attributes"], sections=[]), "Kibana forbids sections"),
    "field that is not there": (
        lambda c: put(c.column("contact-first", "risk"), sourceField="RISKS"),
        "RISKS is in neither",
    ),
    "field of another index": (
        lambda c: put(c.column("contact-first", "risk"), sourceField="SESSIONS"),
        "SESSIONS is in neither",
    ),
    "last by something that is no time": (
        lambda c: put(c.column("contact-first", "reasons")["params"], sortField="SINCE.day"),
        "the last by SINCE.day",
    ),
    "last of a number": (
        lambda c: put(c.column("contact-first", "reasons"), sourceField="REASONS.OWN"),
        "last_value of REASONS.OWN, which is double",
    ),
    "mean of a keyword": (
        lambda c: put(c.column("fewest-sessions", "length"), sourceField="USERID"),
        "which is keyword",
    ),
    "histogram of a number": (
        lambda c: put(c.column("per-day", "sessions-x"), sourceField="DURATION"),
        "which is long",
    ),
    "wrong data type": (
        lambda c: put(c.column("contact-first", "student"), dataType="number"),
        "dataType number, not string",
    ),
    "unknown operation": (lambda c: put(c.column("when", "value"), operationType="rate"), "operation rate"),
    "count of a field": (lambda c: put(c.column("when", "value"), sourceField="USERID"), "count of USERID"),
    "no label": (lambda c: put(c.column("when", "value"), label=""), "no label"),
    "ordered by a missing column": (
        lambda c: put(c.column("contact-first", "student")["params"]["orderBy"], columnId="x"),
        "ordered by x",
    ),
    "formula of a missing column": (
        lambda c: put(c.column("newly-in-risk", "students"), references=["x"]),
        "refers to x",
    ),
    "query for a missing field": (
        lambda c: put(c.state("contact-first")["query"], query="RISKS > 1"),
        "query asks for RISKS",
    ),
    "query for any value of a missing field": (
        lambda c: put(c.column("contact-first", "band")["filter"], query="BANDS: *"),
        "query asks for BANDS",
    ),
    "column's query for a missing field": (
        lambda c: put(c.column("newly-in-risk", "studentsX1")["filter"], query="AT < now"),
        "query asks for AT",
    ),
    "another language": (lambda c: put(c.state("when")["query"], language="lucene"), "query in lucene"),
    "order of columns": (
        lambda c: c.state("when")["datasourceStates"]["formBased"]["layers"]["data"]["columnOrder"].pop(),
        "columnOrder",
    ),
    "column not drawn": (lambda c: put(c.state("when")["visualization"], valueAccessor="x"), "draws column x"),
    "layer not there": (lambda c: put(c.state("students")["visualization"], layerId="x"), "draws layer x"),
    "layer not drawn": (lambda c: c.state("per-day")["visualization"]["layers"].pop(0), "layers that are not drawn"),
    "axis without a title": (lambda c: put(c.state("per-day")["visualization"], yTitle=""), "without a title"),
    "right axis without a title": (lambda c: put(c.state("per-day")["visualization"], yRightTitle=""), "a right axis"),
    "colour alone": (
        lambda c: put(c.state("per-day")["visualization"]["layers"][1], seriesType="bar"),
        "nothing but colour",
    ),
    "coloured cells": (
        lambda c: put(c.state("when")["visualization"]["gridConfig"], isCellLabelVisible=False),
        "nothing but a colour",
    ),
    "time field of another type": (
        lambda c: put(c.view("sessions")["attributes"], timeFieldName="DURATION"),
        "time field DURATION is long",
    ),
    "time field not there": (
        lambda c: put(c.view("totals")["attributes"], timeFieldName="START_DATE"),
        "time field START_DATE is not there",
    ),
    "no time field": (lambda c: c.view("sessions")["attributes"].pop("timeFieldName"), "but no time field"),
    "index without a sink": (lambda c: put(c.view("totals")["attributes"], title="moodle"), "no sink writes to moodle"),
    "script with a missing field": (lambda c: runtime(c, "doc['START_DATE']", "doc['AT']"), "reads AT"),
    "runtime field lost": (lambda c: runtime(c, "START_HOUR", "HOUR"), "START_HOUR is in neither"),
    "runtime field that hides a field": (lambda c: runtime(c, "START_HOUR", "USERID"), "hides a real one"),
    "label of a missing field": (
        lambda c: put(c.view("totals")["attributes"], fieldAttrs='{"AT":{}}'),
        "fieldAttrs of AT",
    ),
    "no filter": (lambda c: c.controls.clear(), "no student filter"),
    "filter on a missing field": (
        lambda c: put(c.controls["student"]["explicitInput"], fieldName="AT"),
        "AT is not there in",
    ),
    "filter without a view": (lambda c: c.dashboard["references"].pop(), "control student: no data view"),
    "filter under another name": (lambda c: put(c.controls["student"]["explicitInput"], id="x"), "control student: "),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_violation_is_found(name: str) -> None:
    spoilt = Copy()
    assert problems(spoilt.encoded(), FIELDS) == []
    spoil, expected = SPOILT[name]
    spoil(spoilt)
    violations = problems(spoilt.encoded(), FIELDS)
    assert any(expected in line for line in violations), violations


def test_a_wrong_type_in_an_index_is_found() -> None:
    """If the template lost a date field, the time picker would not work."""
    fields = {
        index: {**types, **({"START_DATE": "long"} if "START_DATE" in types else {})} for index, types in FIELDS.items()
    }
    assert any("time field START_DATE is long" in line for line in problems(OBJECTS, fields))
