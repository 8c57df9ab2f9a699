"""Training and evaluation on own students: files of outcomes and groups, splits, and the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from app.errors import ConfigError
from app.model_file import load
from app.settings import Settings
from models.standing import CohortRule, StandingModel
from stack import Environment
from tools.replay import oulad
from tools.replay.sender import prepare, produce
from tools.training import inputs, metrics, run
from tools.training.counted_log import count_rows
from tools.training.inputs import Source
from tools.training.looks import take_looks
from tools.training.options import days_of
from tools.training.outcomes import FAR
from tools.training.outcomes_file import read_groups, read_outcomes
from tools.training.standing import (
    HALF_LIFE_DAYS,
)
from tools.training.topic_log import read_log

EVENT, HANDED_IN = r"\core\event\course_viewed", r"\mod_assign\event\assessable_submitted"


def v2s() -> StandingModel:
    model = load("v2s")
    assert isinstance(model, StandingModel)
    return model


# -- outcomes and groups


HEAD = "userid,courseid,outcome,date,registered,start\n"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("x,5,passed,,,", "column userid is not a number"),
        ("0,5,passed,,,", "column userid is not above 0"),
        (",5,passed,,,", "column userid is empty"),
        ("2,5,left,,,", "column outcome is none of withdrawn, failed, passed"),
        ("2,5,withdrawn,25.11.2013,,", "column date is no date like 2013-11-25"),
        ("2,5,withdrawn,2013-02-30,,", "column date is no date like 2013-11-25"),
        ("2,5,withdrawn,2013-02-01,2013-03-01,", "date is before registered"),
        ("2,5,passed", "3 cells, not 6"),
        ("1,5,failed,,,", "the same student and course as in line 2"),
    ],
)
def test_a_bad_row_of_outcomes_is_refused_by_its_line(tmp_path: Path, row: str, problem: str) -> None:
    """The others are used; no message has the content of a cell."""
    path = tmp_path / "out.csv"
    path.write_text(f"{HEAD}1,5,passed,,2013-10-01,2013-10-07\n{row}\n3,5,Withdrawn,2013-11-25,,\n")
    outcomes, refused = read_outcomes(path, courses=True)
    assert [str(r) for r in refused] == [f"line 3: {problem}"]
    assert outcomes.student.tolist() == [1, 3]
    assert outcomes.lost.tolist() == [False, True]
    assert outcomes.last.tolist() == [FAR, 16_034]
    assert outcomes.registered.tolist() == [15_979, -FAR]
    assert outcomes.start == {5: 15_985}


def test_outcomes_without_courses_are_of_one(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("outcome;date;UserID\npassed;;4\nfailed;;5\n")
    outcomes, refused = read_outcomes(path, courses=True)
    assert (refused, outcomes.course.tolist(), outcomes.student.tolist()) == ([], [0, 0], [4, 5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("userid,date\n1,\n", "out.csv, line 1: no column is named outcome"),
        ("userid,outcome,date,date\n", "several columns are named date"),
        ("userid,outcome,date\nx,passed,\n", "no row can be used; line 2: column userid is not a number"),
    ],
)
def test_outcomes_that_cannot_be_used_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "out.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_outcomes(path, courses=True)


def test_groups_are_all_columns_besides_userid(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text("userid,gender,age\n1,F,35-55\nx,M,\n2,M,\n")
    groups = read_groups(path)
    assert groups.attributes == {"gender": {1: "F", 2: "M"}, "age": {1: "35-55"}}
    assert [str(r) for r in groups.refused] == ["line 3: column userid is not a number"]


# -- own students


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are not looked at here."""
    monkeypatch.setattr(metrics, "RESAMPLES", 10)


DAYS = 40


def write_own(directory: Path, *, courses: int = 1, students: int = 60) -> Source:
    """A log of students of whom every third stops in the middle, and their outcomes; ids differ by course."""
    visits: list[tuple[int, int, str, int]] = []
    outcomes, groups = ["userid,courseid,outcome,date"], ["userid,kind"]
    random = np.random.default_rng(3)
    for course in range(1, courses + 1):
        for s in range(students):
            student, stops = 1000 * course + s, s % 3 == 0
            groups.append(f"{student},{'even' if s % 2 else 'odd'}")
            for day in range(DAYS):
                if random.random() < (0.5 if not stops or day < 15 else 0.1):
                    at = 1_400_000_000 + 86_400 * (day + 100 * course) + s
                    visits.append((at, student, EVENT if day % 9 else HANDED_IN, course))
            outcomes.append(f"{student},{course},{'failed' if stops else 'passed'},")
        outcomes.append(f"{1000 * course + 999},{course},withdrawn,")
    log = ["timecreated,userid,eventname,courseid,id"]
    log += [f"{at},{student},{event},{course},{i}" for i, (at, student, event, course) in enumerate(sorted(visits))]
    for name, lines in (("log", log), ("out", outcomes), ("groups", groups)):
        (directory / f"{name}.csv").write_text("\n".join(lines) + "\n")
    paths = (directory / f"{name}.csv" for name in ("log", "out", "groups"))
    return Source(*paths, from_kafka=False, unit="s", timezone="Europe/London")


@pytest.mark.usefixtures("few_resamples")
def test_a_model_of_own_students_is_written_with_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One course with few outcomes: the level is fitted, and evaluated in folds by student."""
    source, output = write_own(tmp_path), tmp_path / "model.json"
    path = tmp_path / "out.csv"
    path.write_text(path.read_text() + "7,1,unknown,\n")
    lines = run.train_own(source, Settings(), output, (), range(14, 36, 7), tmp_path / "report")
    assert "60 students with outcomes, 20 of them withdrawn or failed: the slopes of v2s-" in lines[0]
    assert lines[1] == "5 folds by student, in one course"
    assert "outcomes, line 63: column outcome is none of" in capsys.readouterr().err
    model = load(str(output))
    assert isinstance(model, StandingModel)
    assert model.coefficients == v2s().coefficients
    assert model.base_shift != 0
    assert model.timezone == "Europe/London"
    assert model.metrics["auc"]["value"] > 0.7
    report = (tmp_path / "report" / "report.md").read_text()
    for text in (
        "rows of outcomes refused: 1",
        "never seen in the course: 1",
        "kind even",
        "| v1 |",
        "| days silent |",
    ):
        assert text in report
    html = (tmp_path / "report" / "report.html").read_text()
    for plot in (tmp_path / "report").glob("*.svg"):
        ElementTree.parse(plot)
        assert f"![{plot.stem}]({plot.name})" in report
        assert plot.read_text() in html
    again = run.evaluate_own(source, Settings(), str(output), (), range(14, 36, 7), None)
    assert any("evaluated on course 1" in line for line in again)


@pytest.mark.usefixtures("few_resamples")
def test_courses_are_split_by_run_or_by_the_one_to_test(tmp_path: Path) -> None:
    source = write_own(tmp_path, courses=2, students=40)
    days, output = range(14, 36, 7), tmp_path / "model.json"
    assert "each of 2 courses scored by a model of the others" in run.train_own(
        source, Settings(), output, (), days, None
    )
    assert "tested on course 2" in run.train_own(source, Settings(), output, ("2",), days, None)
    with pytest.raises(ConfigError, match=r"--test 3: no such course .* there are course 1, course 2"):
        run.train_own(source, Settings(), output, ("3",), days, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcomes": None}, "--outcomes is missing"),
        ({"log": None}, "--log or --from-kafka is missing"),
        ({"from_kafka": True}, "name two logs"),
        ({"unit": "h"}, "--unit must be one of ms, s, not 'h'"),
        ({"timezone": "Mars"}, "--timezone: 'Mars' is no time zone"),
    ],
)
def test_options_that_do_not_fit_are_one_line(change: dict[str, Any], message: str) -> None:
    source = Source(Path("a"), Path("b"), None, from_kafka=False, unit="s", timezone="UTC")
    with pytest.raises(ConfigError, match=message):
        replace(source, **change).check()


@pytest.mark.parametrize("text", ["14", "112..14", "a..b", "14..", "1..9999"])
def test_days_are_a_range(text: str) -> None:
    assert days_of("14..112") == range(14, 113, 7)
    with pytest.raises(ConfigError, match="--days"):
        days_of(text)


def test_landmarks_begin_on_the_first_busy_day_or_the_start(tmp_path: Path) -> None:
    source = write_own(tmp_path)
    (course,) = inputs.load(source, Settings()).runs
    assert course.start == course.first_day
    assert course.never_seen == 1
    text = (tmp_path / "out.csv").read_text().replace("outcome,date", "outcome,date,start")
    (tmp_path / "out.csv").write_text(text.replace("passed,", "passed,,2014-09-01").replace("failed,", "failed,,"))
    (course,) = inputs.load(source, Settings()).runs
    assert course.start == 16_314


def test_looks_are_of_students_who_are_enrolled(tmp_path: Path) -> None:
    """Of those who have left, and of those without an outcome, there is none; both are peers."""
    source = write_own(tmp_path)
    path = tmp_path / "out.csv"
    lines = path.read_text().splitlines()
    lines[1] = "1000,1,withdrawn,2014-09-01"
    del lines[2]
    path.write_text("\n".join(lines))
    (course,) = inputs.load(source, Settings()).runs
    some, without = take_looks([course], CohortRule(), HALF_LIFE_DAYS, range(14, 36, 7))
    assert without == 0
    assert len(some) == 4 * 58 + int((some.student == 1000).sum())
    assert 1001 not in some.student


# -- the log in the source topic


@pytest.mark.broker
async def test_the_log_in_the_source_topic_counts_as_in_a_file(cluster: Environment) -> None:
    """Of several partitions: the same rows, in order of their time."""
    where = Settings(broker=cluster.broker, schema_registry=cluster.registry, source_topic="training-log")
    rows = oulad.generate(["AAA-2013J"], last_day=-5)
    await produce(await prepare(where, rows, partitions=3))
    expected, got = count_rows(rows, where.counting), await read_log(where)
    order = np.lexsort((expected.kind, expected.course, expected.student, expected.at))
    other = np.lexsort((got.kind, got.course, got.student, got.at))
    assert np.array_equal(got.at, np.sort(expected.at))
    for column in ("student", "course", "at", "kind"):
        assert np.array_equal(getattr(expected, column)[order], getattr(got, column)[other]), column


@pytest.mark.broker
async def test_a_source_topic_that_does_not_exist_is_named(cluster: Environment) -> None:
    where = Settings(broker=cluster.broker, schema_registry=cluster.registry, source_topic="no-such-topic")
    with pytest.raises(ConfigError, match="topic no-such-topic does not exist"):
        await read_log(where)
