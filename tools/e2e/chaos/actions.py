"""What is done to workers and servers: one function a fault, each leaves worker 1 running and alone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import stack
from app.ops.failpoints import POINTS
from tools.e2e.chaos.fleet import Fleet
from tools.e2e.chaos.output_monitor import Watch
from tools.e2e.workers import TrialError

#: how long a worker may take until something comes out again, whatever was done to it [s]
PATIENCE_S = 90.0
#: how long a worker may take to come to the place where it is to die [s]
REACH_S = 15.0
#: how long the others may take over a dead worker's work, from the end of its session time-out on [s]
TAKEOVER_S = 5.0


@dataclass
class Trial:
    """The things a deed may touch."""

    fleet: Fleet
    watch: Watch
    servers: stack.Environment
    draw: random.Random
    #: silence after which the group takes a worker for dead [s]
    session_s: float
    #: of the state
    partitions: int
    #: whether the whole log has been sent: then nothing more need come out
    sent: Callable[[], bool]
    #: the longest time from a kill until another worker had taken over [s]; 0 where there was none
    takeover_s: float = 0.0

    def wait_for_rows(self) -> None:
        """Return when all workers work and rows come out. Raises TrialError if none do."""
        give_up = time.monotonic() + PATIENCE_S
        while not all((w.stats() or {"problem": "?"})["problem"] is None for w in self.fleet.running.values()):
            if time.monotonic() > give_up:
                break
            self.fleet.pause(0.1)
        end = self.watch.end
        while self.watch.end <= end and not self.sent():
            if time.monotonic() > give_up:
                tails = "\n".join(worker.tail() for worker in self.fleet.running.values())
                raise TrialError(f"{self.watch.deed}: nothing came out for {PATIENCE_S:g} s:\n{tails}")
            self.fleet.pause(0.1)

    def a_while(self, longest: float = 1.5) -> None:
        """Let the workers work."""
        self.fleet.pause(self.draw.uniform(0.1, longest))

    def joined(self, number: int) -> None:
        """Start another worker and wait until it has partitions."""
        self.fleet.start(number)
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            self.fleet.pause(0.1)
            stats = self.fleet.running[number].stats()
            if stats and stats["problem"] is None and stats["lag"]:
                return
        raise TrialError(f"worker {number} got no partition:\n{self.fleet.running[number].tail()}")

    def taken_over(self, number: int) -> None:
        """Measure from now how long a worker takes until it owns all partitions and rows come out again."""
        killed = time.monotonic()
        while not self._owns_all(number):
            if time.monotonic() > killed + PATIENCE_S:
                raise TrialError(f"worker {number} did not take over:\n{self.fleet.running[number].tail()}")
            self.fleet.pause(0.05)
        end = self.watch.end
        while self.watch.end <= end and not self.sent() and time.monotonic() <= killed + PATIENCE_S:
            self.fleet.pause(0.05)
        self.takeover_s = max(self.takeover_s, time.monotonic() - killed)

    def _owns_all(self, number: int) -> bool:
        stats = self.fleet.running[number].stats()
        return stats is not None and stats["problem"] is None and len(stats["state_partitions"]) == self.partitions


Deed = Callable[[Trial], None]


def kill(trial: Trial) -> None:
    """SIGKILL at a random moment."""
    trial.a_while()
    trial.fleet.kill(1)
    trial.fleet.start(1)


def kill_and_wipe(trial: Trial) -> None:
    """The same, and the local state is gone: a new disk."""
    trial.a_while()
    trial.fleet.kill(1)
    trial.fleet.wipe(1)
    trial.fleet.start(1)


def kill_at(point: str) -> Deed:
    """SIGKILL between two steps of a flush; the state is kept or wiped."""

    def deed(trial: Trial) -> None:
        trial.fleet.stop(1)
        count = 1 if point == "owned" else trial.draw.randrange(1, 12)
        trial.fleet.start(1, f"kill@{point}:{count}")
        if not trial.fleet.ended(1, timeout=REACH_S):
            trial.fleet.kill(1)
        if trial.draw.random() < 0.5:
            trial.fleet.wipe(1)
        trial.fleet.start(1)

    deed.__doc__ = f"SIGKILL when {POINTS[point]}."
    return deed


def ask_to_stop(trial: Trial) -> None:
    """SIGTERM, twice: it ends well, and soon."""
    for _ in range(2):
        trial.a_while()
        trial.fleet.stop(1)
        trial.fleet.start(1)
        trial.wait_for_rows()


def join_and_leave(trial: Trial) -> None:
    """A second worker takes half of the partitions, and gives them back."""
    trial.joined(2)
    trial.a_while(3.0)
    trial.fleet.stop(2)


def kill_one_of_two(trial: Trial) -> None:
    """One of two workers is killed and stays away; the other takes over, and hands over again."""
    trial.joined(2)
    trial.a_while()
    trial.fleet.kill(1)
    trial.taken_over(2)
    trial.a_while(3.0)
    trial.fleet.start(1)
    trial.a_while(3.0)
    trial.fleet.stop(2)


def suspend(trial: Trial) -> None:
    """One of two sleeps until it has been replaced, and wakes up with rows in its hands."""
    trial.joined(2)
    trial.fleet.suspend(1)
    trial.fleet.pause(trial.session_s + 2)
    trial.fleet.resume(1)
    trial.a_while(3.0)
    trial.wait_for_rows()
    trial.fleet.stop(2)


def kill_the_broker(trial: Trial) -> None:
    """Kafka is killed, and comes back after a moment."""
    stack.kill("kafka", trial.servers.directory)
    trial.fleet.pause(trial.draw.uniform(0.0, 2.0))
    stack.restart("kafka", trial.servers.directory)


def take_the_registry_away(trial: Trial) -> None:
    """The registry is killed, a worker starts anew meanwhile, and it comes back."""
    stack.kill("registry", trial.servers.directory)
    trial.fleet.pause(2.0)
    stack.restart("registry", trial.servers.directory)


def damage_the_disk(trial: Trial) -> None:
    """A worker is killed, and some of its RocksDB's files are rubbish or missing when it comes back."""
    trial.a_while()
    trial.fleet.kill(1)
    files = sorted(path for path in trial.fleet.data(1).rglob("*.db/*") if path.is_file())
    for path in trial.draw.sample(files, min(len(files), max(2, len(files) // 3))):
        spoil(path, trial.draw)
    trial.fleet.start(1)


def spoil(path: Path, draw: random.Random) -> None:
    """Remove a file, cut it off, or overwrite some of it."""
    size = path.stat().st_size
    what = draw.choice(("remove", "cut", "overwrite"))
    if what == "remove":
        path.unlink()
    elif what == "cut":
        with path.open("r+b") as file:
            file.truncate(size // 2)
    else:
        with path.open("r+b") as file:
            file.seek(draw.randrange(max(1, size)))
            file.write(draw.randbytes(64))


#: name → deed; every schedule has each of them at least once, if its time allows
DEEDS: Mapping[str, Deed] = {
    "kill": kill,
    "kill-wiped": kill_and_wipe,
    **{f"kill-{point}": kill_at(point) for point in POINTS},
    "sigterm": ask_to_stop,
    "join-leave": join_and_leave,
    "kill-one-of-two": kill_one_of_two,
    "suspend": suspend,
    "broker": kill_the_broker,
    "registry": take_the_registry_away,
    "damaged-disk": damage_the_disk,
}
