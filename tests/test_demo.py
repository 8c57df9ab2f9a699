"""The commands that start servers of their own, run as a new user would: `demo`, `demo --cdc`, `smoke`."""

from __future__ import annotations

import csv
import json
import re
import shutil
import socket
import subprocess
import sys
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

import stack
from tests.support import risk_course
from tools.demo import page as demo_page
from tools.demo.run import run
from tools.demo.stats import Stats
from tools.demo.view import panel
from tools.replay import oulad

ROOT = Path(__file__).parents[1]
#: rows to replay, without a pause
ROWS = 4000


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `faust -A app …` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "faust", "-A", "app", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def demo(directory: Path, *options: str) -> None:
    """Run the demo without a terminal: it prints lines, ends when all rows are processed, and leaves no server."""
    done = command("demo", *options, f"--directory={directory}", "--speed=0", f"--limit={ROWS}")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    match = re.search(r" ([\d,]+) events .* lag +0 .* ([\d,]+) sessions +(\d+) of (\d+) students at risk", last)
    assert match, done.stdout
    events, sessions, at_risk, students = (int(number.replace(",", "")) for number in match.groups())
    assert events == ROWS
    # on the first day nobody's risk can be high
    assert 0 == at_risk < students < sessions < events
    assert last.endswith("0 alerts open, -")
    assert re.search(r"^advisers' page: http://127\.0\.0\.1:\d+/$", done.stdout, re.MULTILINE), done.stdout
    assert "Traceback" not in (directory / "page.log").read_text()
    assert (directory / "stack" / "logs" / "kafka.log").exists()
    assert stack.status(directory / "stack") == []


@pytest.fixture
def stats() -> Stats:
    """What the rows of two courses leave; every second student has withdrawn or failed."""
    stats, rows = Stats({student: student % 2 == 0 for student in range(101, 137)}), risk_course.written()
    for key, value in rows.risk:
        stats.add_risk(key, value, 0)
    for key, value in rows.alerts:
        stats.add_alert(key, value, 0)
    return stats


def test_open_alerts_come_first_the_highest_risk_at_the_top(stats: Stats) -> None:
    """Who is forgotten is gone; the rest of the risks that are raised follow."""
    rows, written = stats.contact_first(100), risk_course.written()
    alerted = [row for row in rows if row.since is not None]
    assert rows[: len(alerted)] == alerted
    assert {row.student for row in alerted} == set(stats.alerted)
    risks = [row.risk or 0.0 for row in alerted]
    assert risks == sorted(risks, reverse=True)
    assert {row.band for row in rows[len(alerted) :]} == {"RAISED"}
    assert stats.risk.keys() == {key for key, value in dict(written.risk).items() if value is not None}
    assert stats.opened + stats.closed == len(written.alerts)
    assert stats.opened - stats.closed == len(alerted)


@pytest.mark.parametrize("width", [80, 120])
def test_the_view_gives_the_reasons_in_words(stats: Stats, width: int) -> None:
    console = Console(record=True, width=width, file=StringIO())
    console.print(panel("title", stats, {"counts": {}, "lag": {}}, 0.0, None, "note"))
    text = console.export_text()
    first = stats.contact_first(1)[0]
    assert f"{first.risk:.2f} {first.band}" in text
    assert str(first.since) in text
    if width == 120:
        for reason in first.reasons:
            assert reason.replace("the median of the course is", "median") in text
        assert "withdrew or failed" in text
        assert re.search(r"\d+ HIGH  \d+ RAISED  \d+ LOW  \d+ GONE", text)
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.broker
def test_the_demo_shows_students_at_risk_and_draws_a_picture(tmp_path: Path) -> None:
    """The picture is what a terminal would show, and refers to no other file."""
    picture = tmp_path / "demo.svg"
    demo(tmp_path / "demo", f"--picture={picture}")
    root = ElementTree.parse(picture).getroot()
    texts = [text.replace("\xa0", " ") for text in root.itertext()]
    for label in ("open alerts", "lag", "Who to contact first", "moodle-risk · BBB-2013J"):
        assert any(label in text for text in texts), texts
    svg = picture.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"url\((?!#)|href|@font-face", svg)


@pytest.mark.cdc
@pytest.mark.long  # tests/test_cdc.py sends the demo's rows through both
def test_the_demo_runs_through_mariadb_and_debezium(tmp_path: Path) -> None:
    demo(tmp_path / "demo", "--cdc")


async def test_without_mariadb_the_demo_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does so before it downloads or starts anything."""
    monkeypatch.setattr(shutil, "which", lambda command, path: None)
    (presentation,) = oulad.select_presentations(["BBB-2013J"])
    with pytest.raises(stack.Unavailable, match=r"apt-get install .*mariadb-server-core"):
        await run(tmp_path / "demo", presentation, 0.0, Console(), cdc=True, limit=1)


@pytest.mark.broker
@pytest.mark.long  # .ci/run runs smoke on another version of Kafka if there is time, `make matrix` on each
def test_smoke_ends_with_one_line_of_json() -> None:
    done = command("smoke", f"--limit={ROWS}")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result["exact"] is True
    assert result["events"] == ROWS


def test_the_page_of_the_demo_knows_what_became_of_the_students(tmp_path: Path) -> None:
    """One row for each enrolment, in the words of the page; a port that is taken is not asked for twice."""
    demo_page.write_outcomes(tmp_path / "outcomes.csv")
    with (tmp_path / "outcomes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    enrolments = oulad.load_enrolments()
    assert len(rows) == len(enrolments.student)
    lost = [row["outcome"] in ("withdrew", "failed") for row in rows]
    assert lost == enrolments.unsuccessful.tolist()
    assert {int(row["course"]) for row in rows} == {p.course for p in oulad.PRESENTATIONS}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert demo_page.port_or_free(taken.getsockname()[1]) != taken.getsockname()[1]
