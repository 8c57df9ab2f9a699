"""Errors that an operator must act on; each is one line that says what is wrong and what to set."""

from __future__ import annotations

from models.errors import ConfigError as ConfigError


class MissingRecords(Exception):
    """Records are missing between two fetches; continuing would lose them."""


class PartitionsChanged(Exception):
    """An internal topic has another number of partitions than when the worker started: its state is elsewhere."""


class DamagedDatabase(Exception):
    """A local database cannot be read. It is marked, and the next start rebuilds it from the changelog."""


class RefusedRows(Exception):
    """The broker refuses rows, and would refuse them again: a topic's configuration must change first."""
