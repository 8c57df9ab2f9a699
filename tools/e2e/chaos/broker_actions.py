"""The faults of a cluster of three brokers: one of them at a time, until every replica is in sync again."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import stack
from stack.kafka import NODES
from tools.e2e.chaos.actions import ACTIONS, Action, Context
from tools.e2e.chaos.fleet import wait_until
from tools.e2e.chaos.replicas import GROUP, TRANSACTION, Replicas
from tools.e2e.workers import E2EError

#: time the replicas have to be in sync again after a broker has returned [s]
IN_SYNC_S = 120.0
#: longest time a broker is away after a short fault, and the time it is away or suspended in a long one [s]
SHORT_S, AWAY_S, SUSPENDED_S = 3.0, 60.0, 20.0
#: largest share of the run that a long fault may take
_LONGEST_SHARE = 0.3
#: time a broker has after its suspension to notice that it was replaced [s]
_AWAKE_S = 4.0
#: answers that must agree, and the pause between them [s]
_ANSWERS, _PAUSE_S = 4, 0.5


def replicas_of(context: Context) -> Replicas:
    """Return the cluster's replicas."""
    return Replicas(context.settings)


def wait_in_sync(context: Context) -> None:
    """Wait until no partition lacks a replica. Raises E2EError if one still does after IN_SYNC_S.

    Several answers must agree: that of a broker that was suspended may be as old as its suspension.
    """
    deadline, agreed = time.monotonic() + IN_SYNC_S, 0
    while agreed < _ANSWERS:
        missing = replicas_of(context).out_of_sync()
        agreed = 0 if missing else agreed + 1
        if missing and time.monotonic() > deadline:
            raise E2EError(f"{context.monitor.action}: not in sync after {IN_SYNC_S:g} s: {', '.join(missing[:9])}")
        context.fleet.sleep(_PAUSE_S)


def any_node(context: Context) -> str:
    """Return the name of a random broker."""
    return context.rng.choice(NODES)


def transaction_coordinator(context: Context) -> str:
    """Return the name of the broker that coordinates the transactions of a random partition of the state.

    A random broker if no worker has claimed a partition yet.
    """
    claims = replicas_of(context).claims()
    if not claims:
        return any_node(context)
    transactional_id = claims[context.rng.choice(sorted(claims))]
    return NODES[replicas_of(context).coordinator(transactional_id, TRANSACTION) - 1]


def group_coordinator(context: Context) -> str:
    """Return the name of the broker that coordinates the workers' consumer group."""
    return NODES[replicas_of(context).coordinator(context.settings.app_id, GROUP) - 1]


def kill_node(choose: Callable[[Context], str]) -> Action:
    """Return an action that kills a broker with SIGKILL at a random moment and restarts it after some seconds."""

    def action(context: Context) -> None:
        context.run_for_a_while()
        name = choose(context)
        stack.kill(name, context.servers.directory)
        context.fleet.sleep(context.rng.uniform(0.0, SHORT_S))
        back(context, name)

    return action


def back(context: Context, name: str) -> None:
    """Start a broker again and wait until it is in sync."""
    stack.restart(name, context.servers.directory)
    wait_in_sync(context)


def stop_node(context: Context) -> None:
    """Stop each broker in turn with SIGTERM, which hands over its partitions, as an upgrade does."""
    for name in context.rng.sample(NODES, len(NODES)):
        stack.halt(name, context.servers.directory)
        context.run_for_a_while()
        back(context, name)


def move_leaders(context: Context) -> None:
    """Elect other leaders of all partitions, five times at random moments."""
    for _ in range(5):
        context.run_for_a_while()
        replicas_of(context).move_leaders(context.rng)


def leave_for_long(context: Context) -> None:
    """Kill a broker and keep it away for a minute, in a short run for less; the others go on without it."""
    name = any_node(context)
    stack.kill(name, context.servers.directory)
    context.fleet.sleep(min(AWAY_S, context.seconds * _LONGEST_SHARE))
    back(context, name)


def suspend_node(context: Context) -> None:
    """Suspend a broker: its connections stay, and nothing answers. It resumes as a leader that has been replaced."""
    name = any_node(context)
    stack.suspend(name, context.servers.directory)
    try:
        context.fleet.sleep(min(SUSPENDED_S, context.seconds * _LONGEST_SHARE))
    finally:
        stack.resume(name, context.servers.directory)
    context.fleet.sleep(_AWAKE_S)
    wait_in_sync(context)


def wipe_node(context: Context) -> None:
    """Kill a broker and give it an empty disk."""
    name = any_node(context)
    stack.kill(name, context.servers.directory)
    wait_until_replaced(context, name)
    stack.wipe(name, context.servers.directory)
    back(context, name)


def damage_node(context: Context) -> None:
    """Kill a broker and remove, truncate or overwrite the log of half of its partitions."""
    name = any_node(context)
    stack.kill(name, context.servers.directory)
    wait_until_replaced(context, name)
    damage_logs(context.servers.directory / name / "data", context.rng)
    back(context, name)


def wait_until_replaced(context: Context, name: str) -> None:
    """Wait until a killed broker is in sync with nothing: it must not lead with the disk that it comes back with."""
    number = NODES.index(name) + 1

    def replaced() -> bool:
        partitions = replicas_of(context).partitions()
        return not any(number in p.in_sync or p.leader == number for p in partitions)

    wait_until(replaced, IN_SYNC_S, f"{name}, which was killed, is still in sync", sleep=context.fleet.sleep)


def damage_logs(data: Path, rng: random.Random) -> None:
    """Remove half of the partitions' logs of a broker that does not run."""
    logs = sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith("__cluster_metadata"))
    for path in rng.sample(logs, (len(logs) + 1) // 2):
        shutil.rmtree(path)


#: name on the command line → action
BROKER_ACTIONS: Mapping[str, Action] = {
    "broker-killed": kill_node(any_node),
    "broker-of-transactions": kill_node(transaction_coordinator),
    "broker-of-group": kill_node(group_coordinator),
    "broker-stopped": stop_node,
    "leaders-moved": move_leaders,
    "broker-away": leave_for_long,
    "broker-suspended": suspend_node,
    "broker-wiped": wipe_node,
    "broker-damaged": damage_node,
}


def actions_for(brokers: int) -> Mapping[str, Action]:
    """Return the actions of a run with that many brokers: one broker that is killed stops everything."""
    if brokers == 1:
        return ACTIONS
    return {**{name: action for name, action in ACTIONS.items() if name != "broker"}, **BROKER_ACTIONS}
