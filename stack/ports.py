"""Ports on the loopback address."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from stack.errors import StackError
from stack.server import HIGHEST_PORT, HOST

#: the lowest port that everybody may listen on
LOWEST = 1024
#: how often a port is drawn from a range before giving up
DRAWS = 1000


def is_free(port: int) -> bool:
    """Whether a server could listen on it now; connections of a dead one that linger do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def require_free(port: int) -> None:
    """Raises StackError if it is taken."""
    if not is_free(port):
        raise StackError(f"port {port} is in use")


def choose(
    names: Sequence[str], given: int | None, before: Mapping[str, int], highest: int = HIGHEST_PORT
) -> dict[str, int]:
    """A port for each name: for the first the `given` one, for others that of `before`, or any that is free.
    None of these is above `highest`.

    They are free now, which is no promise: whoever starts a server looks again if it dies.
    Raises StackError if the given one is taken, or none is free.
    """
    if given is not None:
        require_free(given)
    with ExitStack() as held:
        ports: dict[str, int] = {}
        for name in names:
            wish = given if name == names[0] and given is not None else before.get(name)
            probe = held.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, wish if wish is not None and is_free(wish) else any_free(highest)))
            ports[name] = probe.getsockname()[1]  # bound until all are chosen, so that they differ
        return ports


def any_free(highest: int) -> int:
    """A free port up to `highest`; 0, which leaves it to the system, if that is all the same. Raises StackError."""
    if highest == HIGHEST_PORT:
        return 0
    drawn = (random.randint(LOWEST, highest) for _ in range(DRAWS))
    if port := next(filter(is_free, drawn), None):
        return port
    raise StackError(f"no port from {LOWEST} to {highest} is free")
