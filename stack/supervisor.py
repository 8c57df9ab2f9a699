"""`python -m stack.supervisor SPEC`: run one server and stop it when it is no longer needed.

The server is stopped when the supervisor gets SIGTERM, when the owner dies, when its time is up, when its directory
is removed and, on Linux, when the supervisor itself is killed. On other systems that leaves an orphan, which `down`
still finds: the server inherits the lock on ServerFiles.server.
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
from stack.lockfile import acquire, write_pid
from stack.process_spec import ProcessSpec, ServerFiles

#: interval for polling the owner where the kernel has no pidfd [s]
OWNER_POLL_S = 0.5
#: longest sleep, and so the delay in noticing a removed directory or a clock that was set [s]
SLEEP_S = 30.0
#: the only variables passed to a server: JAVA_TOOL_OPTIONS, QUARKUS_* and the like would change its behaviour
ENVIRONMENT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> Callable[[], None] | None:
    """Return a preexec_fn that makes the kernel kill the child when `parent` dies; None if not on Linux."""
    if sys.platform != "linux":
        return None
    # loaded here, since loading a library between fork and exec is not safe
    libc = ctypes.CDLL(None)

    def request_signal() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return request_signal


def alive(pid: int) -> bool:
    """Return whether a process with this pid exists, even as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists and belongs to another user
    return True


def open_pidfd(pid: int) -> int | None:
    """Return a descriptor that becomes readable when `pid` dies, None if the kernel has none."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def start(argv: tuple[str, ...], lock: Path) -> subprocess.Popen[bytes]:
    """Start the server, which holds `lock`. Raises StackError if an earlier server still holds it."""
    fd = acquire(lock)
    if fd is None:
        raise StackError(f"an earlier server still holds {lock}")
    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        pass_fds=[fd],
        preexec_fn=die_with_parent(os.getpid()),
    )
    write_pid(fd, child.pid)
    os.close(fd)  # the server keeps its copy, and with it the lock
    return child


def stop(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """Send SIGTERM, and SIGKILL if the server is still running after `grace_s`."""
    child.terminate()
    try:
        child.wait(grace_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def stop_reason(spec: ProcessSpec, files: ServerFiles, child: subprocess.Popen[bytes], signals: int) -> str | None:
    """Wait for a reason to stop the server and return it; None if the server has ended by itself.

    signals: read end of the pipe into which Python writes the number of each signal.
    """
    owner_fd = None if spec.owner is None else open_pidfd(spec.owner)
    polled_owner = spec.owner if owner_fd is None else None
    sources = [signals] if owner_fd is None else [signals, owner_fd]
    while child.poll() is None:
        left_s = spec.until - time.time()
        if left_s <= 0:
            return "its time is up"
        if not files.spec.exists():
            return "its directory was removed"
        if polled_owner is not None and not alive(polled_owner):
            return "its owner died"
        timeout_s = min(left_s, SLEEP_S if polled_owner is None else OWNER_POLL_S)
        readable, _, _ = select.select(sources, [], [], timeout_s)
        if owner_fd in readable:
            return "its owner died"
        if signals in readable and signal.SIGTERM in os.read(signals, 64):
            return "got SIGTERM"
    return None


def supervise(spec: ProcessSpec, files: ServerFiles) -> None:
    """Run the server until it ends or has to be stopped."""
    signals, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # the pipe receives their numbers
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    child = start(spec.argv, files.server)
    reason = stop_reason(spec, files, child, signals)
    if reason is None:
        print(f"supervisor: {spec.name} ended with {child.returncode}", flush=True)
    else:
        print(f"supervisor: stopping {spec.name}: {reason}", flush=True)
        stop(child, spec.grace_s)


def main(spec_path: Path) -> int:
    """Become a daemon that supervises the server; the command returns when the daemon holds its lock."""
    spec = ProcessSpec.read(spec_path)
    files = ServerFiles(spec_path.parent.parent, spec.name)
    lock = acquire(files.supervisor)
    if lock is None:
        print(f"supervisor: {spec.name} already has a supervisor", flush=True)
        return 1
    if pid := os.fork():
        write_pid(lock, pid)
        os._exit(0)  # the child keeps the lock
    write_pid(lock, os.getpid())  # in case the parent was killed before it wrote the pid
    os.setsid()  # detach from the terminal's Ctrl-C
    supervise(spec, files)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except (StackError, OSError) as error:
        sys.exit(f"supervisor: {error}")
