"""Why the topics cannot be read, or not read on."""

from __future__ import annotations

from app.settings import Settings


class NotReady(Exception):
    """The topics cannot be read yet: what is waited for, and what to do."""


class MadeAnew(Exception):
    """The database is derived from topics that no longer exist: why this is known."""


class Rewritten(Exception):
    """A topic was written anew: it has to be read from its beginning."""


def unanswered(settings: Settings, error: BaseException) -> str:
    """Return a line that says that the brokers do not answer."""
    return f"{settings.broker} (RISK_BROKER) does not answer: {str(error) or type(error).__name__}"
