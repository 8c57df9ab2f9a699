"""`python -m tests.remedies [NAME…] [--list]`: take every remedy out of a copy, and see its tests fail.

A remedy whose tests do not fail without it is not tested: that is said, and the exit code is 1. The last line is
JSON. It takes a while, for some tests start servers: `make test` only looks over the table (test_remedies.py).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.remedy_table import FAULTS, REMEDIES, Remedy

ROOT = Path(__file__).parent.parent
#: how long the tests of one remedy may take, for a missing remedy may make a worker wait [s]
PATIENCE_S = 600.0


@dataclass(frozen=True)
class Outcome:
    """What came of taking a remedy out."""

    remedy: Remedy
    #: test → how it failed
    failed: dict[str, str]
    #: why the remedy counts as not tested; empty where it is
    survived: str
    took_s: float


def taken_out(remedy: Remedy, root: Path = ROOT) -> str:
    """The text of the remedy's file without it. Raises ValueError if it does not stand there exactly once."""
    text = (root / remedy.file).read_text(encoding="utf-8")
    if (count := text.count(remedy.old)) != 1:
        raise ValueError(f"{remedy.name}: its text occurs {count} times in {remedy.file}")
    return text.replace(remedy.old, remedy.new)


def copied(directory: Path) -> None:
    """Copy the files git knows, as they are now."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)


def tried(remedy: Remedy) -> Outcome:
    """Take the remedy out of a copy, and run its tests there."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="moodle-risk-remedy-") as temporary:
        directory = Path(temporary) / "tree"
        copied(directory)
        (directory / remedy.file).write_text(taken_out(remedy), encoding="utf-8")
        report = Path(temporary) / "report.xml"
        code = pytest_in(directory, remedy.tests, report, Path(temporary) / "tests")
        failed, others = judged(report) if report.exists() else ({}, ["nothing was reported"])
    survived = "; ".join(others)
    if code is None:
        survived = f"its tests did not end within {PATIENCE_S:g} s"
    elif code != 1:
        survived = f"pytest's exit code was {code}, not 1"
    elif missing := [test for test in remedy.tests if not any(belongs(case, test) for case in failed)]:
        survived = "; ".join([*(f"{test} passes" for test in missing), *others])
    return Outcome(remedy, failed, survived, time.monotonic() - began)


def pytest_in(directory: Path, tests: Sequence[str], report: Path, temporary: Path) -> int | None:
    """Run tests in a copy; pytest's exit code, None if they did not end."""
    options = ("-q", "-p", "no:cacheprovider", f"--basetemp={temporary}", f"--junitxml={report}")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        return process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # workers and servers die with it
            process.wait()


def judged(report: Path) -> tuple[dict[str, str], list[str]]:
    """The tests that failed, with the first line of how, and what else went wrong: errors, and skipped tests."""
    failed, others = {}, []
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        if (failure := case.find("failure")) is not None:
            lines = (failure.get("message") or failure.text or "").splitlines()
            failed[name] = lines[0] if lines else ""
        if (error := case.find("error")) is not None:
            others.append(f"{name} could not run: {(error.get('message') or '').splitlines()[:1]}")
        if case.find("skipped") is not None:
            others.append(f"{name} was skipped")
    return failed, others


def belongs(case: str, test: str) -> bool:
    """Whether a test case is the test that was named, or one of its parameters'."""
    return case == test or case.startswith(f"{test}[")


def told(outcome: Outcome) -> str:
    """One line about a remedy."""
    head = f"{'SURVIVED' if outcome.survived else 'fails':<9} {outcome.took_s:5.1f} s  {outcome.remedy.name}"
    if outcome.survived:
        return f"{head}: {outcome.survived}"
    return head + ": " + "; ".join(f"{name.rpartition('::')[2]}: {how[:120]}" for name, how in outcome.failed.items())


def listed() -> str:
    """Faults, and the remedies of each."""
    lines = []
    for fault, what in FAULTS.items():
        lines.append(f"{fault}: {what}")
        lines += [f"    {remedy.name} ({remedy.file})" for remedy in REMEDIES if fault in remedy.faults]
    return "\n".join(lines)


def main() -> int:
    """Do it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.remedies", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="remedies; all of them if none is named")
    parser.add_argument("--list", action="store_true", help="what there is")
    options = parser.parse_args()
    if options.list:
        print(listed())
        return 0
    known = {remedy.name: remedy for remedy in REMEDIES}
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no such remedy: {', '.join(unknown)}")
    outcomes = []
    for name in options.names or known:
        outcomes.append(tried(known[name]))
        print(told(outcomes[-1]), flush=True)
    survived = [outcome.remedy.name for outcome in outcomes if outcome.survived]
    print(f"{len(outcomes) - len(survived)} of {len(outcomes)} remedies are tested")
    took = {outcome.remedy.name: round(outcome.took_s, 1) for outcome in outcomes}
    print(json.dumps({"remedies": len(outcomes), "survived": survived, "took_s": took}))
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
