"""The form for actions on a case: what it offers, and what it says when an action was not recorded."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from page.cases.actions import NOTE_CHARACTERS, Action, Kind, State
from page.store.queries import Entry
from page.web.words import KINDS

#: buttons that assign the case, to whoever presses them or to nobody
TAKE, RELEASE = "take", "release"
_LABELS = {
    Kind.CONTACT: "Contacted",
    Kind.ACKNOWLEDGE: "Acknowledge",
    Kind.NOT_APPLICABLE: "Not applicable",
    Kind.WRONG: "Flagged wrongly",
    Kind.REOPEN: "Reopen",
    Kind.NOTE: "Add note only",
}
#: what is offered in each state, the likeliest first
_CHOICES = {
    State.OPEN: (Kind.CONTACT, Kind.ACKNOWLEDGE, Kind.NOT_APPLICABLE, Kind.WRONG, Kind.NOTE),
    State.ACKNOWLEDGED: (Kind.CONTACT, Kind.NOT_APPLICABLE, Kind.WRONG, Kind.NOTE, Kind.REOPEN),
    State.CONTACTED: (Kind.NOTE, Kind.REOPEN, Kind.CONTACT, Kind.NOT_APPLICABLE, Kind.WRONG),
    State.NOT_APPLICABLE: (Kind.REOPEN, Kind.CONTACT, Kind.WRONG, Kind.NOTE),
    State.WRONG: (Kind.REOPEN, Kind.CONTACT, Kind.NOT_APPLICABLE, Kind.NOTE),
}


@dataclass(frozen=True, slots=True)
class CaseForm:
    """The form as it is shown."""

    #: of the case as it is shown with the form
    version: int
    #: what the visitor has written already
    note: str = ""
    #: a repetition of the form has the same, so that it counts once
    action_id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    #: what is wrong with the note; empty: nothing
    error: str = ""
    #: heading above the page if the action was not recorded
    problem: str = ""
    #: what was done meanwhile; None: that is not the problem
    happened: Sequence[Action] | None = None

    @property
    def most(self) -> int:
        """Most characters of a note."""
        return NOTE_CHARACTERS

    def choices(self, entry: Entry) -> list[tuple[str, str]]:
        """Return the buttons: value and text, the likeliest first."""
        state = State(entry.state)
        labels = _LABELS | ({Kind.CONTACT: "Contacted again"} if state is State.CONTACTED else {})
        return [(kind.value, labels[kind]) for kind in _CHOICES[state]]


def done_text(done: str) -> str:
    """Return what has been done, after "you"; `done`: value of the button. Empty for any other text."""
    if done in (TAKE, RELEASE):
        return "took it" if done == TAKE else "gave it back"
    return KINDS[Kind(done)] if done in set(Kind) else ""
