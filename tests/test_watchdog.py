"""A worker that stands still notices, says why and ends itself; one that works, waits or sleeps does not."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

import stack
from app.ops.failpoints import VARIABLE
from app.ops.watchdog import Patience, Standing, Watchdog
from tests.support import cluster as live

LOOKS = 5


def end_of(story: Iterable[Standing | None], looks: int = LOOKS) -> tuple[int, str] | None:
    """When a worker with that story has to end, and why. None: the loop says nothing at that look."""
    patience, beats, last = Patience(looks), 0, Standing("starting")
    for at, one in enumerate(story):
        if one is not None:
            beats, last = beats + 1, one
        if (reason := patience.look(beats, last)) is not None:
            return at, reason
    return None


def test_a_step_now_and_then_is_enough() -> None:
    assert end_of(Standing("12 records wait", i // LOOKS) for i in range(200)) is None


def test_nothing_to_do_is_no_standstill() -> None:
    assert end_of([Standing(None)] * 200) is None


def test_the_same_mark_with_something_to_do_is_a_standstill() -> None:
    found = end_of([Standing(None), *[Standing("12 records wait", 7)] * 20])
    assert found == (LOOKS + 2, "no progress for 6 s: 12 records wait")


def test_a_standstill_begins_anew_with_every_step() -> None:
    story = [*[Standing("a", 1)] * LOOKS, *[Standing("a", 2)] * LOOKS, *[Standing("b", 2)] * LOOKS]
    assert end_of(story) is None


def test_a_silent_loop_is_noticed_even_if_it_had_nothing_to_do() -> None:
    found = end_of([Standing(None), *[None] * 20])
    assert found == (LOOKS + 1, "the event loop has not turned for 6 s")


def test_a_worker_that_does_not_end_when_asked_is_ended() -> None:
    found = end_of([Standing("stopping", i, stopping=True) for i in range(30)], looks=60)
    assert found is not None
    assert found[1] == "asked to stop, and still here after 11 s"


def test_the_thread_looks_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.ops.watchdog.LOOK_S", 0.01)
    ends: list[str] = []
    stuck = Watchdog(0.05, end=ends.append)
    stuck.start()
    stuck.join(5)
    assert len(ends) == 1
    over = Watchdog(0.05, end=ends.append)
    over.start()
    over.over()
    over.join(5)
    assert len(ends) == 1


#: where a worker is stuck -> how its last line begins
STUCK = {
    "hang@sent:2": "no progress for {s} s: ",
    "hang@framed:1": "no progress for {s} s: 300 records of topic {source} partition 0 wait",
    "block@written:2": "the event loop has not turned for {s} s",
    "hang@owned:1": "no progress for {s} s: waiting for ",
}
STALL_S = 9


@pytest.fixture(scope="module")
def stuck(cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[str]]]:
    """How the log of a worker ended that was stuck, by where; side by side, for all of it is waiting."""

    def ended(fault: str) -> str:
        place = live.Place.new(cluster, tmp_path_factory.mktemp("stuck"), RISK_BATCH_ROWS="100")
        schema = place.make_source()
        place.send(place.names.source, [live.visit(schema, n, live.START + n * 1000) for n in range(300)])
        with place.worker(RISK_STALL_TIMEOUT=str(STALL_S), **{VARIABLE: fault}) as worker:
            code = worker.process.wait(2 * live.PATIENCE_S)
        last = worker.tail(1).replace(place.names.source, "{source}")
        return f"{code} {last}"

    with ThreadPoolExecutor(len(STUCK)) as pool:
        yield {fault: pool.submit(ended, fault) for fault in STUCK}


@pytest.mark.broker
@pytest.mark.parametrize("fault", STUCK)
def test_a_worker_that_is_stuck_ends_itself(stuck: dict[str, Future[str]], fault: str) -> None:
    """Wherever it is stuck: exit code 1, and one clear last line."""
    expected = STUCK[fault].format(s=STALL_S + 1, source="{source}")
    assert stuck[fault].result().startswith(f"1 moodle-risk: gave up: {expected}")


@pytest.mark.broker
def test_a_spare_worker_waits_for_as_long_as_it_takes(place: live.Place) -> None:
    """More workers than partitions: one without any is fine, and takes over when it is needed."""
    schema = place.make_source()
    place.send(place.names.source, [live.visit(schema, n, live.START + n * 1000) for n in range(300)])
    settings = {"RISK_STALL_TIMEOUT": "5"}
    with ExitStack() as running:
        workers = [running.enter_context(place.worker(n, **settings)) for n in range(1, 6)]
        for worker in workers:
            worker.wait(lambda stats: stats["problem"] is None, timeout=live.PATIENCE_S)
        spare = [w for w in workers if not (w.stats() or {}).get("lag")]
        assert spare
        time.sleep(8)
        assert all(worker.running for worker in workers)
