"""Secrets from a variable or from a file."""

from __future__ import annotations

from pathlib import Path

from app.errors import ConfigError


def secret(variable: str, value: str, file: str) -> str:
    """Return the secret that `variable` holds (`value`), or that `variable`_FILE names (`file`); "" for neither.

    One newline at the end of a file is no part of it. Raises ConfigError, in one line without the secret, if both are
    set or the file cannot be read.
    """
    if value and file:
        raise ConfigError(f"{variable} and {variable}_FILE are both set: set one of them")
    if not file:
        return value
    try:
        return Path(file).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ConfigError(f"{variable}_FILE: cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{variable}_FILE: {file} is not a text file") from None
