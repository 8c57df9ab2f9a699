"""Where advisers act on cases: an action is done when the log of all actions says so, for every page the same."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from page.access.visitor import Visitor
from page.cases.actions import Action, Kind
from page.cases.history import actions_of
from page.cases.ports import Reader, Tables
from page.cases.records import InvalidText, Proposal, checked_id, checked_name, checked_note, encode
from page.cases.writer import NotWritten, Writer

__all__ = ["Desk", "Done", "InvalidText", "NotWritten", "Refused", "UnknownEntry"]


class UnknownEntry(LookupError):
    """There is no such student in such a course, as far as the visitor may know."""


@dataclass(frozen=True, slots=True)
class Done:
    """The action is recorded: in Kafka, on all replicas, and in this page's database."""

    action: Action


@dataclass(frozen=True, slots=True)
class Refused:
    """The action is not recorded: the case has changed since the visitor looked at it."""

    #: the actions since then, the oldest first; empty if all actions have been erased
    happened: Sequence[Action]
    #: of the case now
    version: int


class Desk:
    """Records actions. Used by the threads that serve requests; blocks them until the action is done or refused."""

    def __init__(
        self,
        tables: Tables,
        reader: Reader,
        writer: Writer,
        topic: str,
        timeout_s: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tables, self._reader, self._writer, self._topic = tables, reader, writer, topic
        self._timeout_s, self._clock = timeout_s, clock

    def act(
        self,
        visitor: Visitor,
        student: int,
        course: int,
        version: int,
        kind: str,
        action_id: str,
        note: str = "",
        assignee: str | None = None,
    ) -> Done | Refused:
        """Record an action on the case of a student in a course.

        version: of the case when the visitor looked at it; action_id: made with the form, so that it counts once
        however often it is sent. Raises UnknownEntry for an entry that the visitor may not see, InvalidText with what
        is wrong with the form, and NotWritten if it is not known whether the action is recorded: sent again, it counts
        once.
        """
        query = "SELECT iif(alert, since, NULL) FROM entry WHERE student = ? AND course = ?"
        entry = self._tables.read().execute(query, (student, course)).fetchone() if visitor.sees(course) else None
        if entry is None:
            raise UnknownEntry(f"no entry of student {student} in course {course}")
        try:
            of_kind = Kind(kind)
        except ValueError:
            raise InvalidText("The form is damaged: load the page again.") from None
        asked = Proposal(
            id=checked_id(action_id),
            student=student,
            course=course,
            version=version,
            kind=of_kind,
            user=checked_name(visitor.name),
            at=round(1000 * self._clock()),
            note=checked_note(note),
            assignee=checked_name(assignee) if of_kind is Kind.ASSIGN and assignee else None,
            since=entry[0],
        )
        if asked.kind is Kind.NOTE and not asked.note:
            raise InvalidText("The note is empty: write something.")
        if done := self._done(asked, self._actions(asked)):
            return done
        (offset,) = self._writer.write(self._topic, [encode(asked, secrets.token_hex(8))], asked.at)
        if not self._reader.wait_for(self._topic, offset, self._timeout_s):
            raise NotWritten(self._topic)
        actions = self._actions(asked)
        return self._done(asked, actions) or Refused(actions[max(asked.version, 0) :], len(actions))

    def _actions(self, asked: Proposal) -> Sequence[Action]:
        return actions_of(self._tables.read(), asked.student, asked.course)

    def _done(self, asked: Proposal, actions: Sequence[Action]) -> Done | None:
        """Whether the action has been accepted, as far as this page has read.

        Nothing is refused before the page has read what the log decides: on another page the visitor may have seen a
        later version, or sent the same form with it.
        """
        for action in actions:
            if action.id == asked.id:
                return Done(action)
        return None
