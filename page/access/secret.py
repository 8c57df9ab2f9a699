"""The secret of a page: a file in its directory, from which the keys of codes in URLs and of forms are derived."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from app.errors import ConfigError

NAME = "secret"
_BYTES = 32


class Secret:
    """The secret of a page, 32 random bytes. Without it, or with another, links that were sent lead nowhere."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def key(self, purpose: str) -> bytes:
        """Return the key for a purpose, 32 bytes: from one, nobody learns another."""
        return hmac.digest(self._value, f"moodle-risk page {purpose}".encode(), "sha256")

    @classmethod
    def of(cls, directory: Path) -> Secret:
        """Read the secret in `directory`, or make one. Raises ConfigError if it is damaged or others may read it."""
        path = directory / NAME
        try:
            if not path.exists():
                _create(path)
            mode, value = path.stat().st_mode, path.read_bytes()
        except OSError as error:
            raise ConfigError(f"RISK_PAGE_DATADIR: cannot read or write {path}: {error.strerror}") from None
        if mode & 0o077:
            raise ConfigError(f"RISK_PAGE_DATADIR: others may read {path}: chmod 600 it, or delete it for a new one")
        if len(value) != _BYTES:
            raise ConfigError(f"RISK_PAGE_DATADIR: {path} is damaged: delete it, and the page makes another")
        return cls(value)


def _create(path: Path) -> None:
    """Write a new secret that is whole or not there, whenever this ends."""
    new = path.with_name(f"{NAME}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(secrets.token_bytes(_BYTES))
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
