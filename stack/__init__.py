"""Real servers on a machine that has only Python: Kafka, a schema registry and, on request, more.

`python -m stack up|down|status DIRECTORY`, or from Python:

    environment = stack.up(directory, owner_pid=os.getpid())   # the servers stop when this process dies
    environment.broker, environment.registry
    stack.kill("kafka", directory); stack.restart("kafka", directory)
    stack.down(directory)
"""

from stack.cluster import (
    HOURS,
    Status,
    down,
    fetch,
    halt,
    kill,
    restart,
    resume,
    status,
    suspend,
    up,
    wipe,
)
from stack.environment import Environment
from stack.errors import StackError, Unavailable

__all__ = [
    "HOURS",
    "Environment",
    "StackError",
    "Status",
    "Unavailable",
    "down",
    "fetch",
    "halt",
    "kill",
    "restart",
    "resume",
    "status",
    "suspend",
    "up",
    "wipe",
]
