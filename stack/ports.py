"""Choice of free ports on the loopback address."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from stack.errors import StackError
from stack.server import HIGHEST_PORT, HOST

#: the lowest port that needs no privileges
LOWEST = 1024
#: random ports to try in a limited range before giving up
DRAWS = 1000


def bind(probe: socket.socket, port: int) -> None:
    """Bind a port that no server listens on; lingering connections of a dead one do not count. Raises OSError."""
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind((HOST, port))


def is_free(port: int) -> bool:
    """Return whether a server could listen on `port` now."""
    with socket.socket() as probe:
        try:
            bind(probe, port)
        except OSError:
            return False
    return True


def require_free(port: int) -> None:
    """Raise StackError if `port` is in use."""
    if not is_free(port):
        raise StackError(f"port {port} is in use")


def choose(
    names: Sequence[str], requested: int | None, previous: Mapping[str, int], highest: int = HIGHEST_PORT
) -> dict[str, int]:
    """Return a port for each name: `requested` for the first, else the previous one if free, else any free port.

    No randomly chosen port is above `highest`. The ports are free now but not reserved: a server that loses its
    port before it listens must be started again. Raises StackError if `requested` is in use or no port is free.
    """
    if requested is not None:
        require_free(requested)
    with ExitStack() as probes:
        ports: dict[str, int] = {}
        for name in names:
            preferred = requested if name == names[0] and requested is not None else previous.get(name)
            probe = probes.enter_context(socket.socket())
            bind(probe, preferred if preferred is not None and is_free(preferred) else any_free(highest))
            ports[name] = probe.getsockname()[1]  # stays bound until all are chosen, so that they differ
        return ports


def any_free(highest: int = HIGHEST_PORT) -> int:
    """Return a free port up to `highest`. Raises StackError if there seems to be none."""
    candidates = (random.randint(LOWEST, highest) for _ in range(DRAWS))
    if port := next(filter(is_free, candidates), None):
        return port
    raise StackError(f"no port from {LOWEST} to {highest} is free")
