"""Passwords, of which only hashes (argon2id) are kept."""

from __future__ import annotations

import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

#: shortest and longest password [characters]
SHORTEST, LONGEST = 10, 1000
#: 64 MiB and 3 passes (RFC 9106, second recommendation)
_HASHER = PasswordHasher(time_cost=3, memory_cost=1 << 16, parallelism=4)
#: as many at once, for the sake of memory; the others wait, at most so long [s]
_AT_ONCE, _WAIT_S = threading.BoundedSemaphore(2), 5.0
#: of no password, for names that do not exist: they take as long as others
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$c29tZSByYW5kb20gc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


class TooMany(Exception):
    """More passwords are to be checked than this machine can."""


def problem(password: str) -> str | None:
    """Return why a password cannot be used; None if it can."""
    if len(password) < SHORTEST:
        return f"a password has at least {SHORTEST} characters"
    if len(password) > LONGEST:
        return f"a password has at most {LONGEST} characters"
    return None


def hash_of(password: str) -> str:
    """Return the hash of a password, with its salt and parameters."""
    return _HASHER.hash(_canonical(password))


def fits(password: str, hashed: str) -> bool:
    """Whether a hash is that of a password. Takes as long for no hash ("") as for any other.

    Raises TooMany.
    """
    if not _AT_ONCE.acquire(timeout=_WAIT_S):
        raise TooMany
    try:
        return _HASHER.verify(hashed or _NOBODY, _canonical(password[: LONGEST + 1])) and bool(hashed)
    except (VerificationError, InvalidHashError):
        return False
    finally:
        _AT_ONCE.release()


def _canonical(password: str) -> str:
    """Return a password in Unicode's composed form: keyboards differ in how they write the same letter."""
    return unicodedata.normalize("NFC", password)
