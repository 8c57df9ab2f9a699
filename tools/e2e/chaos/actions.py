"""The faults: one function each, which leaves worker 1 running alone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import stack
from app.ops.failpoints import POINTS
from app.settings import Settings
from tools.e2e.chaos.fleet import Fleet
from tools.e2e.chaos.output_monitor import OutputMonitor
from tools.e2e.workers import E2EError

#: time the workers have to produce output again after any fault [s]
RECOVERY_S = 90.0
#: time a worker has to reach the failpoint that kills it [s]
FAILPOINT_S = 15.0
#: time the others have to take over a dead worker's partitions, from the end of its session timeout [s]
TAKEOVER_S = 5.0


@dataclass
class Context:
    """What an action works on: workers, servers, the monitor of the output, and a random generator."""

    fleet: Fleet
    monitor: OutputMonitor
    servers: stack.Environment
    rng: random.Random
    #: the workers' session timeout [s]
    session_s: float
    #: number of partitions of the state
    partitions: int
    #: the workers' settings
    settings: Settings
    #: duration of the run's faults [s]
    seconds: float
    #: whether the whole log has been sent, so that no more output is to be expected
    all_sent: Callable[[], bool]
    #: longest time from a kill until another worker had taken over [s]; 0 if that was not measured
    takeover_s: float = 0.0

    def wait_for_output(self) -> None:
        """Wait until all workers are healthy and new rows are written. Raises E2EError if there are none in time."""
        deadline = time.monotonic() + RECOVERY_S
        while not all((w.stats() or {"problem": "?"})["problem"] is None for w in self.fleet.running.values()):
            if time.monotonic() > deadline:
                break
            self.fleet.sleep(0.1)
        end_offset = self.monitor.end_offset
        while self.monitor.end_offset <= end_offset and not self.all_sent():
            if time.monotonic() > deadline:
                tails = "\n".join(worker.tail() for worker in self.fleet.running.values())
                raise E2EError(f"{self.monitor.action}: no output for {RECOVERY_S:g} s:\n{tails}")
            self.fleet.sleep(0.1)

    def run_for_a_while(self, longest: float = 1.5) -> None:
        """Let the workers run for a random time of 0.1 to `longest` s."""
        self.fleet.sleep(self.rng.uniform(0.1, longest))

    def add_worker(self, number: int) -> None:
        """Start another worker and wait until it has partitions."""
        self.fleet.start(number)
        deadline = time.monotonic() + RECOVERY_S
        while time.monotonic() < deadline:
            self.fleet.sleep(0.1)
            stats = self.fleet.running[number].stats()
            if stats and stats["problem"] is None and stats["lag"]:
                return
        raise E2EError(f"worker {number} was assigned no partition:\n{self.fleet.running[number].tail()}")

    def measure_takeover(self, number: int) -> None:
        """Measure the time from now until a worker owns all partitions and new rows are written."""
        killed = time.monotonic()
        while not self._owns_all(number):
            if time.monotonic() > killed + RECOVERY_S:
                raise E2EError(f"worker {number} did not take over:\n{self.fleet.running[number].tail()}")
            self.fleet.sleep(0.05)
        end_offset = self.monitor.end_offset
        while self.monitor.end_offset <= end_offset and not self.all_sent() and time.monotonic() <= killed + RECOVERY_S:
            self.fleet.sleep(0.05)
        self.takeover_s = max(self.takeover_s, time.monotonic() - killed)

    def _owns_all(self, number: int) -> bool:
        stats = self.fleet.running[number].stats()
        return stats is not None and stats["problem"] is None and len(stats["state_partitions"]) == self.partitions


Action = Callable[[Context], None]


def kill(context: Context) -> None:
    """Kill the worker with SIGKILL at a random moment and restart it."""
    context.run_for_a_while()
    context.fleet.kill(1)
    context.fleet.start(1)


def kill_and_wipe(context: Context) -> None:
    """Kill the worker with SIGKILL at a random moment and restart it without its local state."""
    context.run_for_a_while()
    context.fleet.kill(1)
    context.fleet.wipe(1)
    context.fleet.start(1)


def kill_at(point: str) -> Action:
    """Return an action that kills the worker at a failpoint, and restarts it with or without its local state."""

    def action(context: Context) -> None:
        context.fleet.stop(1)
        count = 1 if point == "owned" else context.rng.randrange(1, 12)
        context.fleet.start(1, f"kill@{point}:{count}")
        if not context.fleet.wait_for_failpoint(1, timeout=FAILPOINT_S):
            context.fleet.kill(1)
        if context.rng.random() < 0.5:
            context.fleet.wipe(1)
        context.fleet.start(1)

    return action


def stop_gracefully(context: Context) -> None:
    """Stop the worker with SIGTERM and restart it, twice; it must exit with 0 in time."""
    for _ in range(2):
        context.run_for_a_while()
        context.fleet.stop(1)
        context.fleet.start(1)
        context.wait_for_output()


def join_and_leave(context: Context) -> None:
    """Let a second worker join, take over half of the partitions, and leave again."""
    context.add_worker(2)
    context.run_for_a_while(3.0)
    context.fleet.stop(2)


def kill_one_of_two(context: Context) -> None:
    """Kill one of two workers and measure the takeover by the other one; then hand the partitions back."""
    context.add_worker(2)
    context.run_for_a_while()
    context.fleet.kill(1)
    context.measure_takeover(2)
    context.run_for_a_while(3.0)
    context.fleet.start(1)
    context.run_for_a_while(3.0)
    context.fleet.stop(2)


def suspend(context: Context) -> None:
    """Suspend one of two workers until the other has replaced it; it resumes in the middle of its flush."""
    context.add_worker(2)
    context.fleet.suspend(1)
    context.fleet.sleep(context.session_s + 2)
    context.fleet.resume(1)
    context.run_for_a_while(3.0)
    context.wait_for_output()
    context.fleet.stop(2)


def kill_broker(context: Context) -> None:
    """Kill Kafka and restart it after at most two seconds."""
    stack.kill("kafka", context.servers.directory)
    context.fleet.sleep(context.rng.uniform(0.0, 2.0))
    stack.restart("kafka", context.servers.directory)


def kill_registry(context: Context) -> None:
    """Kill the schema registry and restart it after two seconds."""
    stack.kill("registry", context.servers.directory)
    context.fleet.sleep(2.0)
    stack.restart("registry", context.servers.directory)


def damage_disk(context: Context) -> None:
    """Kill the worker, damage some of its RocksDB's files, and restart it."""
    context.run_for_a_while()
    context.fleet.kill(1)
    files = sorted(path for path in context.fleet.data(1).rglob("*.db/*") if path.is_file())
    for path in context.rng.sample(files, min(len(files), max(2, len(files) // 3))):
        damage_file(path, context.rng)
    context.fleet.start(1)


def damage_file(path: Path, rng: random.Random) -> None:
    """Remove a file, truncate it to half its size, or overwrite 64 bytes of it."""
    size = path.stat().st_size
    kind = rng.choice(("remove", "truncate", "overwrite"))
    if kind == "remove":
        path.unlink()
    elif kind == "truncate":
        with path.open("r+b") as file:
            file.truncate(size // 2)
    else:
        with path.open("r+b") as file:
            file.seek(rng.randrange(max(1, size)))
            file.write(rng.randbytes(64))


#: name on the command line → action; a schedule runs each of them once before any is repeated
ACTIONS: Mapping[str, Action] = {
    "kill": kill,
    "kill-wiped": kill_and_wipe,
    **{f"kill-{point}": kill_at(point) for point in POINTS},
    "sigterm": stop_gracefully,
    "join-leave": join_and_leave,
    "kill-one-of-two": kill_one_of_two,
    "suspend": suspend,
    "broker": kill_broker,
    "registry": kill_registry,
    "damaged-disk": damage_disk,
}
