"""`python -m stack.supervisor ORDERS`: a small process that keeps one server, and lets it outlive nothing.

The server ends when the keeper gets SIGTERM, when the owner dies (however it dies), when its time is up,
when its directory is removed, and, on Linux, when the keeper itself is killed. Elsewhere that leaves an
orphan, which `down` still finds: the server inherits Files.server, and with it the lock.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from stack.errors import StackError
from stack.lockfile import hold, inscribe
from stack.process_spec import Files, Orders

#: how often to look for the owner where the kernel does not tell [s]
LOOK_S = 0.5
#: longest sleep: so late may a removed directory, or a wall clock that jumped, be noticed [s]
SLEEP_S = 30.0
#: the only variables a server sees: JAVA_TOOL_OPTIONS, QUARKUS_* and the like would change what it is
ENVIRONMENT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")

PR_SET_PDEATHSIG = 1


def dying_with(parent: int) -> Callable[[], None] | None:
    """What a child runs first so that the kernel kills it when `parent` dies; None where it cannot."""
    if sys.platform != "linux":
        return None
    # loaded here, since a child between fork and exec had better not load libraries
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was asked
            os._exit(1)

    return ask


def alive(pid: int) -> bool:
    """Whether a process with this pid exists, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists, and is somebody else's
    return True


def watch(pid: int) -> int | None:
    """A descriptor that becomes readable when `pid` dies, or None where the kernel has no such thing."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def start(argv: tuple[str, ...], server: Path) -> subprocess.Popen[bytes]:
    """Run the server, holding the file `server`. Raises StackError if an earlier one still does."""
    fd = hold(server)
    if fd is None:
        raise StackError(f"an earlier server still holds {server}")
    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        pass_fds=[fd],
        preexec_fn=dying_with(os.getpid()),
    )
    inscribe(fd, child.pid)
    os.close(fd)  # from here on the server alone holds it
    return child


def stop(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """SIGTERM, and SIGKILL to what is still there after `grace_s`."""
    child.terminate()
    try:
        child.wait(grace_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def why_stop(orders: Orders, files: Files, child: subprocess.Popen[bytes], signals: int) -> str | None:
    """Sleep until there is a reason to stop the server, and name it; None when the server ended by itself.

    `signals` is the read end of the pipe into which Python writes the number of each signal that arrives.
    """
    owner = None if orders.owner is None else watch(orders.owner)
    looked_for = orders.owner if owner is None else None
    told = [signals] if owner is None else [signals, owner]
    while child.poll() is None:
        left_s = orders.until - time.time()
        if left_s <= 0:
            return "its time is up"
        if not files.orders.exists():
            return "its directory is gone"
        if looked_for is not None and not alive(looked_for):
            return "its owner is gone"
        readable, _, _ = select.select(told, [], [], min(left_s, SLEEP_S if looked_for is None else LOOK_S))
        if owner in readable:
            return "its owner is gone"
        if signals in readable and signal.SIGTERM in os.read(signals, 64):
            return "asked to"
    return None


def keep(orders: Orders, files: Files) -> None:
    """Run the server and see it out."""
    signals, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # their numbers arrive through the pipe
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    child = start(orders.argv, files.server)
    reason = why_stop(orders, files, child, signals)
    if reason is None:
        print(f"keeper: {orders.name} ended with {child.returncode}", flush=True)
    else:
        print(f"keeper: stopping {orders.name}: {reason}", flush=True)
        stop(child, orders.grace_s)


def main(orders_path: Path) -> int:
    """Become a daemon that keeps the server. The command returns once the keeper lives: its file is held."""
    orders = Orders.read(orders_path)
    files = Files(orders_path.parent.parent, orders.name)
    held = hold(files.keeper)
    if held is None:
        print(f"keeper: {orders.name} is kept already", flush=True)
        return 1
    if pid := os.fork():
        inscribe(held, pid)
        os._exit(0)  # the lock lives on in the child
    inscribe(held, os.getpid())  # in case the command was killed just now
    os.setsid()  # out of reach of the terminal's Ctrl-C
    keep(orders, files)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except (StackError, OSError) as error:
        sys.exit(f"keeper: {error}")
