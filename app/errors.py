"""Errors a person must act on: each is one line that says what is wrong and what to set."""

from __future__ import annotations


class ConfigError(Exception):
    """The program cannot start like this; the message names the setting, topic or column to change."""


class MissingRecords(Exception):
    """Records between two fetches are missing: going on would lose them."""


class DamagedDatabase(Exception):
    """A local database cannot be read; it has been marked, and the next start rebuilds it."""
