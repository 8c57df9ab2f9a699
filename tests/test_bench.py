"""Tests of the bench: its arithmetic without a broker, and short runs that detect a tenfold slowdown."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bench import __main__ as command
from bench import latency_reader, load, plain_faust, procfs, report, rounds, side_by_side
from bench.child_process import ChildProcess
from bench.environment import WIDTH
from bench.figures import Latency, Ratio, Run, Series, percentiles
from bench.latency import Load
from bench.plot import draw
from bench.session import LABELS, Plan, Report, Session
from bench.synthetic_log import backlog
from tools.e2e.oracle import expected_tables
from tools.e2e.workers import E2EError

#: maximum of the whole job's CPU divided by that of reading. Both are measured one right after the other, so a ratio
#: above this is not noise: something is done per event
LIMIT = 4.0


# -- on a real broker


@pytest.mark.broker
@pytest.mark.long
@pytest.mark.timeout(180)
def test_the_whole_job_costs_little_more_than_reading(cluster, tmp_path):
    no_load = Load(rate=1, seconds=0, warm_up_s=0, students=1, partitions=4)
    plan = Plan(150_000, (5_000,), partitions=4, runs=1, changes=0, plain_faust=0, load=no_load, default_gc=False)
    session = Session(cluster, tmp_path, Console(file=io.StringIO()), tag=f"bench{uuid.uuid4().hex[:8]}")
    results = session.run(plan)
    assert results.exact, results.of("job").as_dict()["wrong"]
    assert results.ratio().best <= LIMIT, [series.as_dict() for series in results.series]
    assert report.line(results).keys() >= {
        "cpu_us_per_event",
        "read_cpu_us_per_event",
        "ratio",
        "events_per_s",
        "exact",
    }


@pytest.mark.broker
@pytest.mark.long
@pytest.mark.timeout(180)
def test_latency_is_measured_for_every_event(cluster, tmp_path):
    """In a second of live load each event gets a prediction, from the app and from the bare loop."""
    session = Session(cluster, tmp_path, Console(file=io.StringIO()), tag=f"bench{uuid.uuid4().hex[:8]}")
    session.run_latency(Load(rate=200, seconds=1, warm_up_s=1, students=100, partitions=2))
    assert [(latency.key, latency.events, latency.unseen) for latency in session.report.latencies] == [
        ("floor", 200, 0),
        ("app", 200, 0),
    ]
    assert all(0 < latency.p50_ms <= latency.p99_ms <= latency.max_ms for latency in session.report.latencies)


# -- CPU and memory of processes


def test_cpu_and_memory_of_another_process(tmp_path):
    """The CPU of a running process is about what it reports itself; for an ended one it raises OSError."""
    code = "import time\nwhile time.process_time() < .3: pass\nprint(time.process_time(), flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        reported = float(other.stdout.readline())
        assert reported <= procfs.cpu_s(other.pid) <= reported + 0.1
        assert 1 < procfs.resident_mb(other.pid) <= procfs.peak_mb(other.pid) < 1000
    with pytest.raises(OSError, match=r"."):
        procfs.cpu_s(other.pid)


def test_a_failing_child_is_an_error_with_its_log(tmp_path):
    with (
        ChildProcess("bench.reading", ["invalid"], os.environ, tmp_path / "log") as child,
        pytest.raises(E2EError, match="invalid choice"),
    ):
        child.read()


# -- arithmetic


def test_percentiles_are_not_interpolated():
    assert percentiles(np.arange(1.0, 101.0)) == (50.0, 99.0, 100.0)
    assert percentiles(np.array([7.0])) == (7.0, 7.0, 7.0)
    assert np.isnan(percentiles(np.array([]))).all()


def test_an_event_is_matched_with_the_first_prediction_that_includes_it():
    """A prediction may match several events of its student, but none of another student."""
    userid, at = np.array([1, 1, 2, 1, 3]), np.array([100, 200, 150, 300, 100])
    seen_userid, seen_at = np.array([2, 1, 1, 1]), np.array([150, 200, 200, 300])
    index, matched = latency_reader.match(userid, at, seen_userid, seen_at)
    assert matched.tolist() == [True, True, True, True, False]
    assert index[matched].tolist() == [1, 1, 0, 3]


def test_match_agrees_with_a_linear_search():
    rng = np.random.default_rng(3)
    for _ in range(50):
        n, m = rng.integers(1, 30, 2)
        userid, at = rng.integers(1, 5, n), rng.integers(0, 20, n)
        seen_userid, seen_at = rng.integers(1, 5, m), rng.integers(0, 20, m)
        index, matched = latency_reader.match(userid, at, seen_userid, seen_at)
        for i in range(n):
            fits = [j for j in range(m) if seen_userid[j] == userid[i] and seen_at[j] >= at[i]]
            assert bool(matched[i]) == bool(fits)
            assert not fits or index[i] == fits[0]


def test_match_without_predictions():
    none = np.empty(0, np.int64)
    assert latency_reader.match(np.array([1]), np.array([5]), none, none)[1].tolist() == [False]


def test_latencies_of_a_load(tmp_path):
    """The first events are skipped; events without a prediction are counted as unseen."""
    np.savez(tmp_path / "x.npz", userid=[1, 2, 3], at=[10, 20, 30], sent=[0, 5_000_000, 6_000_000])
    seen = [(9_000_000, b'{"USERID":2,"PREDICTION":0.5,"CREATED_DATE":20}')]
    latency, unseen = latency_reader.latencies(tmp_path / "x.npz", seen, 1)
    assert (latency.tolist(), unseen) == ([4.0], 1)


def test_workers_side_by_side_count_as_one():
    """Their counters are added, and the ratio is that of the best runs."""
    one = {"state_partitions": [0, 1], "problem": None, "counts": {"visits": 5, "rows": {"p": 3}}}
    other = {"state_partitions": [2], "problem": None, "counts": {"visits": 2, "rows": {"p": 1}, "predictions_read": 4}}
    together = side_by_side.added([one, other])["counts"]
    assert together == {"visits": 7, "predictions_read": 4, "rows": {"p": 4}}
    assert side_by_side.is_shared([one, other], 3)
    assert not side_by_side.is_shared([one, other], 4)
    assert not side_by_side.is_shared([one, {**other, "problem": "recovering"}], 3)
    assert not side_by_side.is_shared([one, {**other, "state_partitions": []}], 2)
    alone, four = side_by_side.Group(1, 0), side_by_side.Group(4, 1)
    runs = {alone: [Run(9.0, 2.5, 1.0, ()), Run(8.0, 2.0, 3.0, ())], four: [Run(7.0, 2.2, 9.0, ())]}
    figures = side_by_side.figures(runs)
    assert [(row["standbys"], row["ratio"]) for row in figures["runs"]] == [(0, 1.0), (1, 1.1)]
    assert figures["exact"]
    assert not side_by_side.figures({**runs, four: [Run(7.0, 2.2, 9.0, ("x",))]})["exact"]


async def test_the_load_has_a_constant_rate_and_is_never_early():
    now, sent = [0], []

    async def sleep(seconds: float) -> None:
        now[0] += int(seconds * 1e9) + 300_000

    async def send(i: int) -> None:
        sent.append(i)

    when, late = await load.send_evenly(100, 1000.0, send, clock=lambda: now[0], sleep=sleep)
    assert sent == list(range(100))
    assert (when >= np.arange(100) * 1_000_000).all()
    assert late.max() == pytest.approx(0.3)


def test_a_students_live_rows_have_increasing_times():
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


def test_ratio_of_best_runs_and_median_of_rounds():
    job, read = series("job", 3.0, 2.0, 4.0), series("read", 2.0, 1.0, 4.0)
    assert Ratio.of(job, read) == Ratio(best=2.0, median=1.5)


def test_exact_requires_all_runs():
    assert whole_report().exact
    assert Series("job", "", 1, 1, (Run(1, 1, wrong=()), Run(1, 1, wrong=("x",)))).exact is False
    assert series("read", 1.0).exact is None
    results = whole_report()
    results.latencies[1] = replace(results.latencies[1], unseen=1)
    assert not results.exact
    assert not Report([*whole_report().series, series("job-changes", 1.0, wrong=("x",))]).exact


# -- what is printed and written


def test_the_tables_have_all_rows_and_the_versions():
    results = whole_report()
    document = report.document(results, 4)
    console = Console(file=io.StringIO(), width=WIDTH)
    console.print(report.throughput(results, document), report.ratios(results), report.latency(results))
    text = console.file.getvalue()
    assert "…" not in text
    for wanted in ("100,000", "2.00 (3.00)", "47 to 50", "(cited)", "700.00", "Kafka 3.9", "10.0", "30.0"):
        assert wanted in text


def test_the_document_is_json_and_includes_the_line():
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
def test_the_plot_is_a_png_of_fixed_size(tmp_path: Path, live: bool):
    results = whole_report()
    if not live:
        results.latencies.clear()
    draw(report.document(results, 4), tmp_path / "bench.png")
    head = (tmp_path / "bench.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", head[16:24]) == (1500, 675)


def test_save_writes_both_files(tmp_path):
    command.save(report.document(whole_report(), 4), tmp_path / "docs", Console(file=io.StringIO()))
    assert json.loads((tmp_path / "docs" / "bench.json").read_text())["line"]["exact"]
    assert (tmp_path / "docs" / "bench.png").stat().st_size > 10_000


def test_arguments():
    plan = command.make_plan(command.parse_arguments([]))
    assert (plan.events, list(plan.students), plan.partitions, plan.runs) == (1_000_000, [5_000, 100_000], 4, 3)
    plan = command.make_plan(
        command.parse_arguments(["--events", "2000000", "--students", "7", "--latency", "0", "--plain-faust", "0"])
    )
    assert (plan.events, plan.students, plan.plain_faust, plan.load.seconds) == (2_000_000, [7], 0, 0)
    growths = [command.parse_arguments(argv).growth for argv in ([], ["--growth"], ["--growth", "1", "3"])]
    assert growths == [None, [], [1, 3]]


@pytest.mark.parametrize(
    "wrong", [["--events", "1"], ["--runs", "0"], ["--rate", "x"], ["--students"], ["--growth", "4"]]
)
def test_invalid_arguments(wrong, capsys):
    with pytest.raises(SystemExit):
        command.parse_arguments(wrong)
    assert wrong[0] in capsys.readouterr().err


# -- plain Faust does the same job


def test_plain_fausts_sessions_equal_the_expected_ones():
    """In time order, as in a log with one partition."""
    rows = backlog(2_000, 20)
    kept: dict[int, list[list[int]]] = {}
    ever: dict[int, dict[tuple[int, int], int]] = {}
    for student, at in zip(rows.userid.tolist(), rows.at.tolist(), strict=True):
        merged, absorbed, others = plain_faust.merge(kept.get(student, []), at)
        kept[student] = [*others, merged]
        mine = ever.setdefault(student, {})
        for start, end, _ in absorbed:
            del mine[start, end]
        mine[merged[0], merged[1]] = merged[2]
    truth = expected_tables(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))
    got = {
        plain_faust.session_key(str(student), [start, end, n]): plain_faust.session_row(student, [start, end, n])
        for student, mine in ever.items()
        for (start, end), n in mine.items()
    }
    assert got == truth.sessions
    assert max(len(sessions) for sessions in kept.values()) < 10  # old sessions are dropped


def test_plain_faust_merges_sessions_up_to_the_gap():
    gap = plain_faust.GAP_MS
    assert plain_faust.merge([[0, 0, 1]], gap) == ([0, gap, 2], [[0, 0, 1]], [])
    assert plain_faust.merge([[0, 0, 1]], gap + 1) == ([gap + 1, gap + 1, 1], [], [[0, 0, 1]])
    assert plain_faust.merge([[0, 0, 1], [2 * gap, 2 * gap, 1]], gap)[0] == [0, 2 * gap, 3]


async def test_rounds_are_measured_with_and_without_a_pause() -> None:
    """Each of them predicts; the pause is not counted."""
    began = time.process_time()
    assert 0 < await rounds.measure(3, 2, 0.01) < 1e3 * (time.process_time() - began)
