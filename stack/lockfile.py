"""Files that a process holds locked for as long as it lives, with its pid inside.

A pid alone may have been reused since it was written down; a lock that is held has a living holder.
So nothing here signals a pid unless the file it stands in is locked at that moment.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stack.errors import StackError

#: between two looks at a lock or a server [s]
POLL_S = 0.02


def hold(path: Path, patience_s: float = 1.0) -> int | None:
    """Lock `path` exclusively and empty it; the descriptor returned is the lock. None: another has it.

    `patience_s` outlasts those who only look (`holder`), for they lock it too for a moment.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    give_up = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                os.close(fd)
                return None
            time.sleep(POLL_S)
        else:
            os.ftruncate(fd, 0)
            return fd


def inscribe(fd: int, pid: int) -> None:
    """Write the holder's pid into a file that `hold` has just emptied."""
    os.pwrite(fd, b"%d\n" % pid, 0)


def holder(path: Path) -> int | None:
    """The pid of the process that holds `path`, 0 if it has not said yet, None if nobody holds it."""
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


def freed(paths: list[Path], patience_s: float) -> bool:
    """Wait until nobody holds any of `paths`; False if someone still does after `patience_s`."""
    give_up = time.monotonic() + patience_s
    while any(holder(path) is not None for path in paths):
        if time.monotonic() > give_up:
            return False
        time.sleep(POLL_S)
    return True


@contextmanager
def alone(path: Path, patience_s: float) -> Iterator[None]:
    """Run the body while no other process is in the same one; wait for it up to `patience_s`.

    Raises StackError if the directory cannot be written, or the other is not done in time.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = hold(path, patience_s)
    except OSError as error:
        raise StackError(f"cannot write to {path.parent}: {error.strerror}") from error
    if fd is None:
        raise StackError(f"process {holder(path)} is still at work in {path.parent}: try again later")
    try:
        inscribe(fd, os.getpid())
        yield
    finally:
        os.close(fd)
