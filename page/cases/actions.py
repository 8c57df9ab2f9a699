"""Actions on the case of a student in a course, and what they make of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

#: most characters of a note
NOTE_CHARACTERS = 2_000


class State(IntEnum):
    """The state of a case. Stored: the numbers do not change."""

    OPEN = 0
    ACKNOWLEDGED = 1
    CONTACTED = 2
    NOT_APPLICABLE = 3
    #: flagged wrongly
    WRONG = 4


class Kind(StrEnum):
    """What an action does; all but NOTE and ASSIGN set the state."""

    ACKNOWLEDGE = "acknowledge"
    CONTACT = "contact"
    NOT_APPLICABLE = "not-applicable"
    WRONG = "wrong"
    REOPEN = "reopen"
    NOTE = "note"
    #: to the user in `assignee`; null: to nobody
    ASSIGN = "assign"

    @property
    def state(self) -> State | None:
        """The state that an action of this kind sets; None: it leaves it."""
        return _STATES.get(self)


_STATES = {
    Kind.ACKNOWLEDGE: State.ACKNOWLEDGED,
    Kind.CONTACT: State.CONTACTED,
    Kind.NOT_APPLICABLE: State.NOT_APPLICABLE,
    Kind.WRONG: State.WRONG,
    Kind.REOPEN: State.OPEN,
}


@dataclass(frozen=True, slots=True)
class Action:
    """An action on a case that has been accepted."""

    #: in the topic of the cases
    offset: int
    #: chosen by whoever acts, so that a repetition is recognised
    id: str
    student: int
    #: page.store.layout.SITE with RISK_COURSES=site
    course: int
    #: of the case, after the action: 1, 2, …
    version: int
    kind: Kind
    user: str
    #: epoch milliseconds, by the clock of the page on which it was done
    at: int
    note: str
    #: of Kind.ASSIGN only
    assignee: str | None
