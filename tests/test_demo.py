"""The commands that bring servers of their own, run as a newcomer would: `demo`, `demo --cdc`, `smoke`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import stack
from tools.demo import run as demos
from tools.replay import oulad

ROOT = Path(__file__).parents[1]
#: rows of the course that are played, all at once
ROWS = 4000


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`faust -A app …`, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "faust", "-A", "app", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.parametrize(
    "way", [pytest.param([], marks=pytest.mark.broker), pytest.param(["--cdc"], marks=pytest.mark.cdc)]
)
def test_the_demo_shows_students_in_risk_and_ends(way: list[str], tmp_path: Path) -> None:
    """Where there is no terminal it prints lines, ends when all is counted, and leaves nothing running."""
    done = command("demo", *way, f"--directory={tmp_path / 'demo'}", "--speed=0", f"--limit={ROWS}")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    found = re.search(r" ([\d,]+) events .* lag +0 .* ([\d,]+) sessions +(\d+) of (\d+) students in risk", last)
    assert found, done.stdout
    events, sessions, risky, students = (int(one.replace(",", "")) for one in found.groups())
    assert events == ROWS
    assert 0 < risky <= students < sessions < events
    assert not list((tmp_path / "demo" / "stack").glob("*.orders"))


async def test_without_mariadb_the_demo_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it downloads or starts anything."""
    monkeypatch.setattr(shutil, "which", lambda command, path: None)
    (one,) = oulad.named(["BBB-2013J"])
    with pytest.raises(stack.Unavailable, match=r"apt-get install .*mariadb-server-core"):
        await demos.run(tmp_path / "demo", one, 0.0, Console(), cdc=True, limit=1)


@pytest.mark.broker
def test_smoke_ends_with_one_line_of_json() -> None:
    done = command("smoke", f"--limit={ROWS}")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result["exact"] is True
    assert result["events"] == ROWS
