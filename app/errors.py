"""Errors that a person must act on; each is one line that says what is wrong and what to set."""

from __future__ import annotations


class ConfigError(Exception):
    """The program cannot start; the message names the setting, topic or column to change."""


class MissingRecords(Exception):
    """Records are missing between two fetches; continuing would lose them."""


class DamagedDatabase(Exception):
    """A local database cannot be read. It is marked, and the next start rebuilds it from the changelog."""
