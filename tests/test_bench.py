"""The bench: its arithmetic without a broker, and a small run of it that would see a lost order of magnitude."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bench import __main__ as command
from bench import load, report, watching
from bench import plain_faust as usual
from bench import procfs as account
from bench.children import Child
from bench.environment import WIDTH
from bench.figures import Latency, Ratio, Run, Series, percentiles
from bench.latency import Load
from bench.log import backlog
from bench.plot import draw
from bench.session import LABELS, Plan, Report, Session
from tools.e2e.oracle import expected_tables
from tools.e2e.workers import E2EError

#: the whole job's CPU over that of merely reading: 1.6 where README's figures were measured. As much as this is no
#: noise of a busy machine, both being measured one right after the other: something per event has come in
LIMIT = 4.0


# -- on a real broker


@pytest.mark.broker
@pytest.mark.timeout(180)
def test_the_whole_job_stays_near_the_price_of_reading(cluster, tmp_path):
    nothing = Load(rate=1, seconds=0, warm_up_s=0, students=1, partitions=4)
    plan = Plan(150_000, (5_000,), partitions=4, runs=1, changes=0, usual=0, load=nothing, default_gc=False)
    session = Session(cluster, tmp_path, Console(file=io.StringIO()), tag=f"bench{uuid.uuid4().hex[:8]}")
    found = session.run(plan)
    assert found.exact, found.of("job").as_dict()["wrong"]
    assert found.ratio().best <= LIMIT, [one.as_dict() for one in found.series]
    assert report.line(found).keys() >= {"cpu_us_per_event", "read_cpu_us_per_event", "ratio", "events_per_s", "exact"}


@pytest.mark.broker
@pytest.mark.timeout(180)
def test_latency_is_of_every_event(cluster, tmp_path):
    """A second of live load: each event's prediction is seen, by the app and by the floor."""
    session = Session(cluster, tmp_path, Console(file=io.StringIO()), tag=f"bench{uuid.uuid4().hex[:8]}")
    session.live(Load(rate=200, seconds=1, warm_up_s=1, students=100, partitions=2))
    assert [(one.key, one.events, one.unseen) for one in session.report.latencies] == [
        ("floor", 200, 0),
        ("app", 200, 0),
    ]
    assert all(0 < one.p50_ms <= one.p99_ms <= one.max_ms for one in session.report.latencies)


# -- what the operating system says


def test_cpu_is_that_of_the_process_that_is_asked_about(tmp_path):
    """A process that works has used about as much as it says itself; one that is gone raises."""
    code = "import time\nwhile time.process_time() < .3: pass\nprint(time.process_time(), flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        said = float(other.stdout.readline())
        assert said <= account.cpu_s(other.pid) <= said + 0.1
        assert 1 < account.resident_mb(other.pid) <= account.peak_mb(other.pid) < 1000
    with pytest.raises(OSError, match=r"."):
        account.cpu_s(other.pid)


def test_a_child_that_fails_says_so(tmp_path):
    with (
        Child("bench.reading", ["nothing"], os.environ, tmp_path / "log") as child,
        pytest.raises(E2EError, match="invalid choice"),
    ):
        child.said()


# -- arithmetic


def test_percentiles_are_latencies_that_occurred():
    assert percentiles(np.arange(1.0, 101.0)) == (50.0, 99.0, 100.0)
    assert percentiles(np.array([7.0])) == (7.0, 7.0, 7.0)
    assert np.isnan(percentiles(np.array([]))).all()


def test_an_event_is_matched_with_the_first_prediction_that_knows_of_it():
    """One prediction may answer several events of a student; another student's never does."""
    userid, at = np.array([1, 1, 2, 1, 3]), np.array([100, 200, 150, 300, 100])
    seen_userid, seen_at = np.array([2, 1, 1, 1]), np.array([150, 200, 200, 300])
    which, found = watching.match(userid, at, seen_userid, seen_at)
    assert found.tolist() == [True, True, True, True, False]
    assert which[found].tolist() == [1, 1, 0, 3]


def test_matching_agrees_with_looking_for_it():
    rng = np.random.default_rng(3)
    for _ in range(50):
        n, m = rng.integers(1, 30, 2)
        userid, at = rng.integers(1, 5, n), rng.integers(0, 20, n)
        seen_userid, seen_at = rng.integers(1, 5, m), rng.integers(0, 20, m)
        which, found = watching.match(userid, at, seen_userid, seen_at)
        for i in range(n):
            fits = [j for j in range(m) if seen_userid[j] == userid[i] and seen_at[j] >= at[i]]
            assert bool(found[i]) == bool(fits)
            assert not fits or which[i] == fits[0]


def test_nothing_seen_is_nothing_matched():
    none = np.empty(0, np.int64)
    assert watching.match(np.array([1]), np.array([5]), none, none)[1].tolist() == [False]


def test_latencies_of_a_load(tmp_path):
    """The first events do not count; what was never answered does not either, and is told."""
    np.savez(tmp_path / "x.npz", userid=[1, 2, 3], at=[10, 20, 30], sent=[0, 5_000_000, 6_000_000])
    seen = [(9_000_000, b'{"USERID":2,"PREDICTION":0.5,"CREATED_DATE":20}')]
    latency, unseen = watching.latencies(tmp_path / "x.npz", seen, 1)
    assert (latency.tolist(), unseen) == ([4.0], 1)


async def test_the_load_is_even_and_nothing_is_sent_before_it_is_due():
    now, sent = [0], []

    async def sleep(seconds: float) -> None:
        now[0] += int(seconds * 1e9) + 300_000

    async def send(i: int) -> None:
        sent.append(i)

    when, late = await load.evenly(100, 1000.0, send, clock=lambda: now[0], sleep=sleep)
    assert sent == list(range(100))
    assert (when >= np.arange(100) * 1_000_000).all()
    assert late.max() == pytest.approx(0.3)


def test_a_students_live_rows_are_later_each_time():
    rows = load.live_rows(1000, 500.0, 40, 1_000_000)
    for student in np.unique(rows.userid):
        assert (np.diff(rows.at[rows.userid == student]) == 80).all()


def series(key: str, *cpu: float, students: int = 5_000, wrong: tuple[str, ...] | None = ()) -> Series:
    runs = tuple(Run(1e6 / c, c, 100.0 + c, wrong if key.startswith("job") else None) for c in cpu)
    return Series(key, LABELS[key], 1_000, students, runs)


def whole_report() -> Report:
    logs = [
        series(key, *cpu, students=students)
        for students in (5_000, 100_000)
        for key, cpu in (("read", (2.0, 1.0, 4.0)), ("read-batches", (0.5, 0.5, 0.5)), ("job", (3.0, 2.0, 4.0)))
    ]
    live = [
        Latency("floor", "bare", 1000.0, 100, 0, 3.0, 9.0, 20.0),
        Latency("app", "app", 1000.0, 100, 0, 10.0, 30.0, 60.0),
    ]
    return Report([*logs, series("usual", 700.0)], live)


def test_the_ratio_is_of_the_best_and_of_the_rounds():
    job, read = series("job", 3.0, 2.0, 4.0), series("read", 2.0, 1.0, 4.0)
    assert Ratio.of(job, read) == Ratio(best=2.0, median=1.5)


def test_exact_is_for_all_runs_or_it_is_not():
    assert whole_report().exact
    assert Series("job", "", 1, 1, (Run(1, 1, wrong=()), Run(1, 1, wrong=("x",)))).exact is False
    assert series("read", 1.0).exact is None
    found = whole_report()
    found.latencies[1] = replace(found.latencies[1], unseen=1)
    assert not found.exact
    assert not Report([*whole_report().series, series("job-changes", 1.0, wrong=("x",))]).exact


# -- what is printed and written


def test_the_tables_hold_every_row_and_where_it_was_measured():
    found = whole_report()
    document = report.document(found, 4)
    console = Console(file=io.StringIO(), width=WIDTH)
    console.print(report.throughput(found, document), report.ratios(found), report.latency(found))
    text = console.file.getvalue()
    assert "…" not in text
    for wanted in ("100,000", "2.00 (3.00)", "47 to 50", "(cited)", "700.00", "Kafka 3.9", "10.0", "30.0"):
        assert wanted in text


def test_the_document_is_json_and_ends_in_the_line():
    document = json.loads(json.dumps(report.document(whole_report(), 4)))
    assert document["line"] == {
        "events": 1_000,
        "cpu_us_per_event": 2.0,
        "read_cpu_us_per_event": 1.0,
        "ratio": 2.0,
        "ratio_median": 1.5,
        "events_per_s": 500_000,
        "rss_mb": 104,
        "latency_p50_ms": 10.0,
        "latency_p99_ms": 30.0,
        "floor_latency_p50_ms": 3.0,
        "floor_latency_p99_ms": 9.0,
        "exact": True,
    }
    assert set(document["ratios"]) == {"5000", "100000"}
    assert document["versions"].keys() >= {"python", "kafka", "aiokafka", "faust-streaming", "numpy"}


@pytest.mark.parametrize("live", [True, False])
def test_the_plot_is_a_png_of_its_size(tmp_path: Path, live: bool):
    found = whole_report()
    if not live:
        found.latencies.clear()
    draw(report.document(found, 4), tmp_path / "bench.png")
    head = (tmp_path / "bench.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", head[16:24]) == (1500, 675)


def test_save_writes_both_files(tmp_path):
    command.save(report.document(whole_report(), 4), tmp_path / "docs", Console(file=io.StringIO()))
    assert json.loads((tmp_path / "docs" / "bench.json").read_text())["line"]["exact"]
    assert (tmp_path / "docs" / "bench.png").stat().st_size > 10_000


def test_arguments():
    plan = command.plan(command.arguments([]))
    assert (plan.events, list(plan.students), plan.partitions, plan.runs) == (1_000_000, [5_000, 100_000], 4, 3)
    plan = command.plan(command.arguments(["--events", "2000000", "--students", "7", "--latency", "0", "--usual", "0"]))
    assert (plan.events, plan.students, plan.usual, plan.load.seconds) == (2_000_000, [7], 0, 0)
    growths = [command.arguments(given).growth for given in ([], ["--growth"], ["--growth", "1", "3"])]
    assert growths == [None, [], [1, 3]]


@pytest.mark.parametrize(
    "wrong", [["--events", "1"], ["--runs", "0"], ["--rate", "x"], ["--students"], ["--growth", "4"]]
)
def test_arguments_that_make_no_sense(wrong, capsys):
    with pytest.raises(SystemExit):
        command.arguments(wrong)
    assert wrong[0] in capsys.readouterr().err


# -- the usual Faust way is the same job


def test_the_usual_ways_sessions_are_the_recounts():
    """In time order, as a log of one partition is."""
    rows = backlog(2_000, 20)
    kept: dict[int, list[list[int]]] = {}
    ever: dict[int, dict[tuple[int, int], int]] = {}
    for student, at in zip(rows.userid.tolist(), rows.at.tolist(), strict=True):
        merged, gone, stay = usual.merge(kept.get(student, []), at)
        kept[student] = [*stay, merged]
        mine = ever.setdefault(student, {})
        for start, end, _ in gone:
            del mine[start, end]
        mine[merged[0], merged[1]] = merged[2]
    truth = expected_tables(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))
    got = {
        usual.session_key(str(student), [start, end, n]): usual.session_row(student, [start, end, n])
        for student, mine in ever.items()
        for (start, end), n in mine.items()
    }
    assert got == truth.sessions
    assert max(len(sessions) for sessions in kept.values()) < 10  # it does not keep them for ever


def test_the_usual_way_joins_at_the_gap_and_bridges():
    gap = usual.GAP_MS
    assert usual.merge([[0, 0, 1]], gap) == ([0, gap, 2], [[0, 0, 1]], [])
    assert usual.merge([[0, 0, 1]], gap + 1) == ([gap + 1, gap + 1, 1], [], [[0, 0, 1]])
    assert usual.merge([[0, 0, 1], [2 * gap, 2 * gap, 1]], gap)[0] == [0, 2 * gap, 3]
