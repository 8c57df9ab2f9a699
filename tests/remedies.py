"""`python -m tests.remedies [NAME…] [--list]`: take each remedy out of a copy, and check that its tests fail.

A remedy whose tests pass without it is untested: it is reported, and the exit code is 1. The last line is JSON. Some
tests start servers, so a full run takes long; `make test` only checks that the mutations apply (test_remedies.py).
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
from tests.support.mutations import mutated

ROOT = Path(__file__).parent.parent
#: time limit for the tests of one remedy, since without it a worker may wait for ever [s]
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Outcome:
    """The result of running a remedy's tests without it."""

    remedy: Remedy
    #: failed test → first line of its failure
    failed: dict[str, str]
    #: why the remedy counts as untested; empty if all its tests failed
    survived: str
    duration_s: float


def without(remedy: Remedy, root: Path = ROOT) -> str:
    """The source of the remedy's module without the remedy. Raises ValueError if its mutation does not apply once."""
    source = (root / remedy.file).read_text(encoding="utf-8")
    try:
        return mutated(source, remedy.function.partition(":")[2], remedy.mutation)
    except ValueError as error:
        raise ValueError(f"{remedy.name}: {remedy.function}: {error}") from None


def copy_tracked_files(directory: Path) -> None:
    """Copy the files that git tracks, with uncommitted changes."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)


def run(remedy: Remedy) -> Outcome:
    """Run the remedy's tests in a copy without the remedy."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="moodle-risk-remedy-") as temporary:
        directory = Path(temporary) / "tree"
        copy_tracked_files(directory)
        (directory / remedy.file).write_text(without(remedy), encoding="utf-8")
        report = Path(temporary) / "report.xml"
        code = run_pytest(directory, remedy.tests, report, Path(temporary) / "tests")
        failed, others = parse_report(report) if report.exists() else ({}, ["pytest wrote no report"])
    survived = "; ".join(others)
    if code is None:
        survived = f"its tests did not finish within {TIMEOUT_S:g} s"
    elif code != 1:
        survived = f"pytest's exit code was {code}, not 1"
    elif missing := [test for test in remedy.tests if not any(matches(case, test) for case in failed)]:
        survived = "; ".join([*(f"{test} passes" for test in missing), *others])
    return Outcome(remedy, failed, survived, time.monotonic() - started)


def run_pytest(directory: Path, tests: Sequence[str], report: Path, temporary: Path) -> int | None:
    """Run tests in a copy. Returns pytest's exit code, None after a timeout."""
    options = ("-q", "-p", "no:cacheprovider", f"--basetemp={temporary}", f"--junitxml={report}")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # more examples than usual: a property test that misses the fault by chance would count as passed
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "TEST_EFFORT": "5"},
    )
    try:
        return process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # with the workers and servers it started
            process.wait()


def parse_report(report: Path) -> tuple[dict[str, str], list[str]]:
    """The failed tests with the first line of each failure, and other problems: errors and skipped tests."""
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


def matches(case: str, test: str) -> bool:
    """Whether a test case is the test of that node id, or one of its parametrized cases."""
    return case == test or case.startswith(f"{test}[")


def summary(outcome: Outcome) -> str:
    """One line per remedy."""
    head = f"{'SURVIVED' if outcome.survived else 'fails':<9} {outcome.duration_s:5.1f} s  {outcome.remedy.name}"
    if outcome.survived:
        return f"{head}: {outcome.survived}"
    return (
        head
        + ": "
        + "; ".join(f"{name.rpartition('::')[2]}: {failure[:120]}" for name, failure in outcome.failed.items())
    )


def listing() -> str:
    """All faults, each with its remedies."""
    lines = []
    for fault, what in FAULTS.items():
        lines.append(f"{fault}: {what}")
        lines += [f"    {remedy.name} ({remedy.file})" for remedy in REMEDIES if fault in remedy.faults]
    return "\n".join(lines)


def main() -> int:
    """Run the command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.remedies", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="remedies; all of them if none is named")
    parser.add_argument("--list", action="store_true", help="list faults and remedies")
    options = parser.parse_args()
    if options.list:
        print(listing())
        return 0
    known = {remedy.name: remedy for remedy in REMEDIES}
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no such remedy: {', '.join(unknown)}")
    outcomes = []
    for name in options.names or known:
        outcomes.append(run(known[name]))
        print(summary(outcomes[-1]), flush=True)
    survived = [outcome.remedy.name for outcome in outcomes if outcome.survived]
    print(f"{len(outcomes) - len(survived)} of {len(outcomes)} remedies are tested")
    durations = {outcome.remedy.name: round(outcome.duration_s, 1) for outcome in outcomes}
    print(json.dumps({"remedies": len(outcomes), "survived": survived, "took_s": durations}))
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
