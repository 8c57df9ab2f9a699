"""Records of `<app>-cases`: an action as it was asked for, or a tombstone that erases a case.

The topic is compacted, and is folded from its beginning by whoever reads it (fold.py). So compaction must drop nothing
but what was erased: each record has a key of its own, which begins with the student and the course.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from datetime import date
from typing import Any

from page.cases.actions import NOTE_CHARACTERS, Kind
from page.store.layout import SITE

#: student, course (empty: SITE), version, id of the action, number of the attempt
_KEY = re.compile(rb"(-?[0-9]{1,19})\|(-?[0-9]{1,19})?\|([0-9]{1,9})\|([A-Za-z0-9_-]{8,64})\|([A-Za-z0-9_-]{1,64})")
_ACTION_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_EPOCH = date(1970, 1, 1).toordinal()
_INT64_MAX = (1 << 63) - 1
_KINDS = frozenset(kind.value for kind in Kind)
#: end of the year 9999 [epoch ms]
_LATEST_MS = 253_402_300_799_999
#: most characters of a user's name
USER_CHARACTERS = 200


class UnreadableRecord(ValueError):
    """A record of the topic that is none of the page's; the text says why, the same for all such records."""


class InvalidText(ValueError):
    """A note or a name that is not accepted; the text is for whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """An action as it was asked for: it is accepted only if the case still has the version that it was made for."""

    id: str
    student: int
    course: int
    #: of the case when whoever acted looked at it: 0 without actions
    version: int
    kind: Kind
    user: str
    #: epoch milliseconds
    at: int
    note: str = ""
    assignee: str | None = None
    #: day on which the alert opened that was open for whoever acted; None: none was
    since: int | None = None


@dataclass(frozen=True, slots=True)
class Erasure:
    """A tombstone: all actions on the case before it are erased."""

    student: int
    course: int


def encode(proposal: Proposal, attempt: str) -> tuple[bytes, bytes]:
    """Return key and value of a record; attempt: differs each time that the same action is sent."""
    course = None if proposal.course == SITE else proposal.course
    place = f"{proposal.student}|{'' if course is None else course}|{proposal.version}"
    value = {
        "ACTION": proposal.id,
        "USERID": proposal.student,
        "COURSEID": course,
        "VERSION": proposal.version,
        "KIND": proposal.kind.value,
        "USER": proposal.user,
        "AT": proposal.at,
        "NOTE": proposal.note,
        "ASSIGNEE": proposal.assignee,
        "SINCE": None if proposal.since is None else date.fromordinal(_EPOCH + proposal.since).isoformat(),
    }
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"{place}|{proposal.id}|{attempt}".encode(), text.encode()


def decode(key: bytes | None, value: bytes | None) -> Proposal | Erasure:
    """Read a record. Raises UnreadableRecord."""
    match = _KEY.fullmatch(key or b"")
    if match is None:
        raise UnreadableRecord("its key is not userid|courseid|version|action|attempt")
    student, course = int(match[1]), SITE if match[2] is None else int(match[2])
    if not all(-_INT64_MAX <= number <= _INT64_MAX for number in (student, course)):
        raise UnreadableRecord("an id has more than 64 bits")
    if value is None:
        return Erasure(student, course)
    try:
        row = json.loads(value)
    except (ValueError, RecursionError):
        raise UnreadableRecord("its value is not JSON") from None
    if not isinstance(row, dict):
        raise UnreadableRecord("its value is not a JSON object")
    proposal = _proposal(row)
    named = (proposal.student, proposal.course, proposal.version, proposal.id)
    if named != (student, course, int(match[3]), match[4].decode()):
        raise UnreadableRecord("its key is that of another action")
    return proposal


def _proposal(row: dict[str, Any]) -> Proposal:
    def field(name: str, kind: type[Any] | tuple[type[Any], ...]) -> Any:
        cell = row.get(name)
        if not isinstance(cell, kind) or isinstance(cell, bool):
            raise UnreadableRecord(f"{name} is missing or of another type")
        return cell

    course = field("COURSEID", (int, type(None)))
    assignee, since = (field(name, (str, type(None))) for name in ("ASSIGNEE", "SINCE"))
    kind = field("KIND", str)
    if kind not in _KINDS:
        raise UnreadableRecord("its KIND is unknown")
    try:
        proposal = Proposal(
            id=field("ACTION", str),
            student=field("USERID", int),
            course=SITE if course is None else course,
            version=field("VERSION", int),
            kind=Kind(kind),
            user=checked_name(field("USER", str)),
            at=field("AT", int),
            note=checked_note(field("NOTE", str)),
            assignee=None if assignee is None else checked_name(assignee),
            since=None if since is None else _day(since),
        )
    except InvalidText:
        raise UnreadableRecord("its NOTE, USER or ASSIGNEE is too long, or has control characters") from None
    if not 0 <= proposal.at <= _LATEST_MS:
        raise UnreadableRecord("AT is not a time from 1970 to 9999")
    return proposal


def _day(text: str) -> int:
    try:
        return date.fromisoformat(text).toordinal() - _EPOCH
    except ValueError:
        raise UnreadableRecord("SINCE is not a date") from None


def checked_id(text: str) -> str:
    """Return the id of an action. Raises InvalidText unless it is one."""
    if not _ACTION_ID.fullmatch(text):
        raise InvalidText("The form is damaged: load the page again.")
    return text


def checked_note(text: str) -> str:
    """Return a note, with the line ends of Unix and without space around it. Raises InvalidText."""
    note = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if len(note) > NOTE_CHARACTERS:
        raise InvalidText(f"The note has {len(note):,} characters; at most {NOTE_CHARACTERS:,} are kept.")
    if _has_controls(note.replace("\n", "")):
        raise InvalidText("The note has characters that are no text (control characters): remove them.")
    return note


def checked_name(text: str) -> str:
    """Return a user's name. Raises InvalidText."""
    if not 0 < len(text) <= USER_CHARACTERS or _has_controls(text):
        raise InvalidText(f"A user's name has 1 to {USER_CHARACTERS} characters, none of them control characters.")
    return text


def _has_controls(text: str) -> bool:
    """Whether a text has control characters, or halves of characters, which no encoding of Unicode can express."""
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)
