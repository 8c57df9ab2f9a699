"""What can go wrong, as one line a person can act on."""


class StackError(Exception):
    """The servers could not be started, stopped or asked; the message says what to do."""


class Unavailable(StackError):
    """Something the servers are made of cannot be had: no network, or no Java for this platform."""
