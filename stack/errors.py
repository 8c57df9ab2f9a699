"""Errors whose message is one line that a user can act on."""

#: the packages that stack needs beyond the worker's
EXTRA = "pip install 'moodle-risk[stack]'"


class StackError(Exception):
    """A server could not be started, stopped or queried; the message says what to do."""


class Unavailable(StackError):
    """A requirement of the servers is missing: a download, Java, MariaDB or a Python package."""


class NoAnswer(StackError):
    """A server did not answer a request, or another server answered on its port."""
