"""Lock files that a process holds while it lives, with its pid as their content.

A pid that was only written down may have been reused, but the holder of a held lock is alive.
So a pid is signalled only while the file that contains it is locked.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stack.errors import StackError

#: interval for polling a lock [s]
POLL_S = 0.02


def acquire(path: Path, timeout_s: float = 1.0) -> int | None:
    """Lock `path` exclusively and truncate it; return the descriptor that holds the lock, None if it is held.

    `timeout_s` must outlast a concurrent call of `holder`, which locks the file briefly.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(fd)
                return None
            time.sleep(POLL_S)
        else:
            os.ftruncate(fd, 0)
            return fd


def write_pid(fd: int, pid: int) -> None:
    """Write the holder's pid into a file that `acquire` has truncated."""
    os.pwrite(fd, b"%d\n" % pid, 0)


def holder(path: Path) -> int | None:
    """Return the pid of the process that holds `path`, 0 if it has not written its pid yet, None if not held."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(fd, 32, 0) or b"0")
    else:
        return None
    finally:
        os.close(fd)


def wait_released(paths: list[Path], timeout_s: float) -> bool:
    """Wait until none of `paths` is held; return False if one still is after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while any(holder(path) is not None for path in paths):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


@contextmanager
def exclusive(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold the lock file `path` during the block; wait up to `timeout_s` for another process to release it.

    Raises StackError if the directory is not writable or the lock is not released in time.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = acquire(path, timeout_s)
    except OSError as error:
        raise StackError(f"cannot write to {path.parent}: {error.strerror}") from error
    if fd is None:
        raise StackError(f"process {holder(path)} is still working in {path.parent}: try again later")
    try:
        write_pid(fd, os.getpid())
        yield
    finally:
        os.close(fd)
