"""What advisers did, beside what the model says: read from the page's export or its topic, reported, not trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.errors import ConfigError
from app.kafka.topics import of_page
from app.settings import Settings
from page.cases.actions import Kind, State
from page.cases.export import csv_lines
from page.cases.history import all_actions
from page.cases.records import Proposal, encode
from page.store.layout import SITE
from tests.support.case_log import ENTRIES, CaseLog, Page
from tests.support.cluster import Deployment, row, run_async
from tests.test_training_own import few_resamples, write_own
from tools.training import run
from tools.training.cases import cases_of, read_topic
from tools.training.inputs import load
from tools.training.outcomes_file import read_cases

__all__ = ["few_resamples"]

HEADER = "userid,courseid,version,at,user,action,state,assignee,note"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join((HEADER, *lines)) + "\n", encoding="utf-8")
    return path


def test_the_pages_export_is_read(tmp_path: Path) -> None:
    """With its notes of several lines, and its mark of the encoding."""
    page = Page(CaseLog())
    page.act("ann", ENTRIES[0], 0, "contact", "action-1", note='two\nlines, "quoted"')
    page.act("ann", ENTRIES[0], 1, "reopen", "action-2")
    page.act("bob", ENTRIES[2], 0, "wrong", "action-1")
    page.act("bob", ENTRIES[1], 0, "note", "action-1", note="=1")
    path = tmp_path / "cases.csv"
    path.write_text("".join(csv_lines(all_actions(page.connection))), encoding="utf-8", newline="")
    cases, refused = read_cases(path, courses=True)
    assert refused == []
    assert cases.states == {ENTRIES[0]: State.CONTACTED, ENTRIES[2]: State.WRONG, ENTRIES[1]: State.OPEN}


def test_the_last_state_of_a_case_counts_but_contacted_stays() -> None:
    kinds = [Kind.ACKNOWLEDGE, Kind.NOTE, Kind.WRONG, Kind.ASSIGN]
    assert cases_of((1, 2, kind) for kind in kinds).states == {(1, 2): State.WRONG}
    assert cases_of((1, 2, kind) for kind in (*kinds, Kind.CONTACT, Kind.REOPEN)).states == {(1, 2): State.CONTACTED}


def test_a_bad_row_of_cases_is_refused_by_its_line(tmp_path: Path) -> None:
    path = write(
        tmp_path / "cases.csv", "1,2,1,,ann,contact,,,", "1,2,2,,ann,praise,,,", "x,2,1,,ann,contact,,,", "1,2", ""
    )
    cases, refused = read_cases(path, courses=True)
    assert cases.states == {(1, 2): State.CONTACTED}
    assert [str(each) for each in refused] == [
        "line 3: column action is no action of the page", "line 4: column userid is not a number",
        "line 5: 2 cells, not 9",
    ]  # fmt: skip


def test_without_courses_all_cases_are_of_one(tmp_path: Path) -> None:
    path = write(tmp_path / "cases.csv", "1,2,1,,ann,contact,,,", "3,,1,,ann,wrong,,,")
    assert read_cases(path, courses=False)[0].states == {(1, 0): State.CONTACTED, (3, 0): State.WRONG}
    assert read_cases(path, courses=True)[0].states == {(1, 2): State.CONTACTED, (3, 0): State.WRONG}


@pytest.mark.usefixtures("few_resamples")
def test_the_report_says_what_advisers_did(tmp_path: Path) -> None:
    """The model and all other figures are the same without."""
    source = write_own(tmp_path, students=60)
    done = ["contact", "wrong", "note"]
    # every third student stops and is lost; 2000 is in no outcome
    lines = [f"{1000 + s},1,1,,ann,{done[s // 3 % 3]},,," for s in range(0, 27, 3)] + ["2000,1,1,,ann,contact,,,"]
    cases = write(tmp_path / "cases.csv", *lines)
    results = []
    for each in (source, replace(source, cases=cases)):
        directory = tmp_path / ("with" if each.cases else "without")
        printed = run.train_own(each, Settings(), tmp_path / "model.json", (), range(14, 22, 7), directory)
        results.append((json.loads((directory / "report.json").read_text()), printed))
    (plain, _), (reported, printed) = results
    assert plain["cases"] is None
    figures = reported.pop("cases")
    for result in (plain, reported):
        del result["command"]
        result.pop("cases", None)
    assert plain == reported
    assert (figures["cases"], figures["of_other_students"]) == (10, 1)
    rows = {each["done"]: each for each in figures["rows"]}
    for word in ("contacted", "flagged wrongly", "only notes"):
        assert (rows[word]["students"], rows[word]["lost"]) == (3, 3)
    assert sum(each["students"] for each in figures["rows"]) == 60
    with_alert: dict[str, Any] = {word: each["with_an_alert"] for word, each in rows.items()}
    assert with_alert["contacted"] > 0
    assert figures["precision_of_those_contacted"] == 1.0
    (line,) = [line for line in printed if "cases:" in line]
    assert f"contacted {with_alert['contacted']} ({with_alert['contacted']} lost)" in line
    text = (tmp_path / "with" / "report.md").read_text()
    assert "## What advisers did" in text
    assert "## What advisers did" not in (tmp_path / "without" / "report.md").read_text()


def test_options_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    own = write_own(tmp_path)
    with pytest.raises(ConfigError, match="name the cases twice"):
        replace(own, cases=Path("a"), cases_from_kafka=True).check()
    with pytest.raises(ConfigError, match="log of the students of the cases"):
        replace(own, log=None, outcomes=None, cases=Path("a")).check()
    with pytest.raises(ConfigError, match="no column is named version"):
        load(replace(own, cases=own.groups), Settings())


@pytest.mark.broker
def test_cases_in_the_topic_count_as_on_the_page(deployment: Deployment) -> None:
    """Refused and unreadable records do not count. A topic that is not there is named."""
    with pytest.raises(ConfigError, match="-cases does not exist"):
        run_async(read_topic(deployment.settings, courses=True))
    deployment.declare(*of_page(deployment.names, 30))
    asked = [
        Proposal("action-1", 1, 2, 0, Kind.CONTACT, "ann", 5),
        Proposal("action-2", 1, 2, 0, Kind.WRONG, "bob", 6),
        Proposal("action-3", 7, SITE, 0, Kind.WRONG, "bob", 7),
    ]
    records = [encode(each, "1") for each in asked]
    rows = [row(value, key) for key, value in records]
    deployment.send(deployment.names.cases, [*rows, row(b"none", b"k")])
    cases = run_async(read_topic(deployment.settings, courses=True))
    assert cases.states == {(1, 2): State.CONTACTED, (7, 0): State.WRONG}
