"""Records of cases, what they make of a case, the desk, the audit, and the export; without Kafka."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from page.access.visitor import Visitor
from page.cases.actions import NOTE_CHARACTERS, Action, Kind, State
from page.cases.audit import Audit, Look
from page.cases.desk import Done, InvalidText, NotWritten, Refused, UnknownEntry
from page.cases.export import HEADER, csv_lines
from page.cases.history import actions_of, all_actions
from page.cases.records import Erasure, Proposal, UnreadableRecord, decode, encode
from page.store.case import ASSIGN, STATES
from page.store.layout import SITE
from page.store.rows import CaseRecord
from tests.support.case_log import ENTRIES, NOW_S, TOPIC, CaseLog, Page, folded
from tests.support.damage import Damage
from tests.support.effort import mutants

ENTRY = ENTRIES[0]
IDS = st.integers(-(1 << 63) + 1, (1 << 63) - 1)
TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=50).map(str.strip)
PROPOSALS = st.builds(
    Proposal,
    id=st.from_regex(r"[A-Za-z0-9_-]{8,64}", fullmatch=True),
    student=IDS,
    course=IDS,
    version=st.integers(0, 999_999_999),
    kind=st.sampled_from(Kind),
    user=TEXTS.filter(bool),
    at=st.integers(0, 253_402_300_799_999),
    note=TEXTS,
    assignee=st.none() | TEXTS.filter(bool),
    since=st.none() | st.integers(-700_000, 2_900_000),
)
ASKED = Proposal("abcdefgh", 7, 3, 0, Kind.NOTE, "ann", 5, "a note", None, 16_000)


@pytest.fixture
def page() -> Page:
    return Page(CaseLog())


# -- records


@given(PROPOSALS)
def test_a_record_says_what_was_asked_for(asked: Proposal) -> None:
    """And its key says whose it is, also that of its tombstone."""
    key, value = encode(asked, "1")
    assert decode(key, value) == asked
    assert decode(key, None) == Erasure(asked.student, asked.course)


def test_a_risk_of_the_site_has_no_course() -> None:
    key, value = encode(Proposal("abcdefgh", 7, SITE, 0, Kind.NOTE, "ann", 5, "x"), "1")
    assert key == b"7||0|abcdefgh|1"
    assert json.loads(value)["COURSEID"] is None
    assert decode(key, None) == Erasure(7, SITE)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"KIND": "praise"}, "KIND is unknown"),
        ({"KIND": None}, "KIND is missing"),
        ({"VERSION": True}, "VERSION is missing"),
        ({"VERSION": 1}, "that of another action"),
        ({"USERID": 8}, "that of another action"),
        ({"ACTION": "another-id"}, "that of another action"),
        ({"NOTE": "x" * (NOTE_CHARACTERS + 1)}, "too long"),
        ({"NOTE": "a\0b"}, "control characters"),
        ({"USER": ""}, "too long"),
        ({"USER": "a\nb"}, "control characters"),
        ({"ASSIGNEE": 5}, "ASSIGNEE is missing"),
        ({"AT": 1 << 62}, "AT is not"),
        ({"SINCE": "yesterday"}, "SINCE is not a date"),
    ],
)
def test_a_record_that_is_none_of_the_pages_says_why(change: dict[str, Any], problem: str) -> None:
    key, value = encode(ASKED, "1")
    with pytest.raises(UnreadableRecord, match=problem):
        decode(key, json.dumps(json.loads(value) | change).encode())


@pytest.mark.parametrize("key", [None, b"", b"7", b"7|3", b"7|3|0|short|1", b"x|3|0|abcdefgh|1", b"9" * 19 + b"9|3|0"])
def test_a_key_that_is_none_is_no_tombstone(key: bytes | None) -> None:
    with pytest.raises(UnreadableRecord):
        decode(key, None)


def test_ids_have_64_bits() -> None:
    with pytest.raises(UnreadableRecord, match="64 bits"):
        decode(b"9999999999999999999|3|0|abcdefgh|1", None)


def test_damaged_records_are_read_or_refused() -> None:
    """Nothing else happens, and nothing but text comes out."""
    key, value = encode(ASKED, "1")
    damage, refused = Damage(3), 0
    for _ in range(mutants(5_000)):
        try:
            decode(key, damage.mutate(value))
        except UnreadableRecord:
            refused += 1
    assert refused
    assert decode(key, value) == ASKED
    with pytest.raises(UnreadableRecord):
        decode(key, b"[" * 100_000)


# -- acting


def test_states_are_those_that_the_database_knows() -> None:
    """page.store has the kinds and states as they are stored, since it knows no cases."""
    assert {kind.value: int(kind.state) for kind in Kind if kind.state is not None} == STATES
    assert Kind.ASSIGN.value == ASSIGN


def test_an_action_sets_the_state_and_the_entry_shows_it(page: Page) -> None:
    answer = page.act("ann", ENTRY, 0, "contact", "action-1", note="called\r\nher ")
    assert answer == Done(
        Action(0, "action-1", *ENTRY, 1, Kind.CONTACT, "ann", round(NOW_S * 1000), "called\nher", None)
    )
    page.act("bob", ENTRY, 1, "assign", "action-2", assignee="bob")
    page.act("bob", ENTRY, 2, "note", "action-3", note="she will come back")
    query = "SELECT state, assignee, case_version, acted_at, handled FROM entry WHERE student = ? AND course = ?"
    assert page.connection.execute(query, ENTRY).fetchone() == (State.CONTACTED, "bob", 3, round(NOW_S * 1000), 90)
    page.act("bob", ENTRY, 3, "assign", "action-4")
    page.act("bob", ENTRY, 4, "reopen", "action-5")
    assert page.connection.execute(query, ENTRY).fetchone()[:3] == (State.OPEN, None, 5)
    assert [a.version for a in actions_of(page.connection, *ENTRY)] == [1, 2, 3, 4, 5]


def test_an_action_on_an_old_version_is_refused_with_what_happened(page: Page) -> None:
    first = page.act("ann", ENTRY, 0, "acknowledge", "action-1")
    assert isinstance(first, Done)
    assert page.act("bob", ENTRY, 0, "contact", "action-2") == Refused([first.action], 1)
    assert [action.id for action in actions_of(page.connection, *ENTRY)] == ["action-1"]


def test_a_form_that_another_page_has_accepted_for_a_later_version_is_done(page: Page) -> None:
    """A page that has not read that yet must not say that it is not recorded."""
    other = Page(page.log)
    page.act("ann", ENTRY, 0, "contact", "action-1")
    other.follow()
    answer = other.act("bob", ENTRY, 1, "contact", "action-2")
    assert isinstance(answer, Done)
    assert page.act("bob", ENTRY, 0, "contact", "action-2") == answer


def test_who_is_faster_in_the_log_has_acted(page: Page) -> None:
    """A page that does not know yet of the other's action is told by the log."""
    other = Page(page.log)
    page.meanwhile = lambda: other.act("bob", ENTRY, 0, "contact", "action-2")
    answer = page.act("ann", ENTRY, 0, "acknowledge", "action-1")
    assert isinstance(answer, Refused)
    assert [(action.user, action.id) for action in answer.happened] == [("bob", "action-2")]
    other.follow()
    assert page.rows() == other.rows()


def test_a_page_that_is_behind_refuses_nothing_by_itself(page: Page) -> None:
    """A visitor has seen on one page what the other has not read yet, and acts there, or sends the form again."""
    behind = Page(page.log)
    page.act("ann", ENTRY, 0, "contact", "action-1")
    page.act("ann", ENTRY, 1, "reopen", "action-2")
    assert isinstance(behind.act("ann", ENTRY, 1, "reopen", "action-2"), Done)
    page.follow()
    page.act("bob", ENTRY, 2, "note", "action-3", note="x")
    assert isinstance(behind.act("ann", ENTRY, 3, "contact", "action-4"), Done)
    page.follow()
    assert page.rows() == behind.rows()
    assert page.version(ENTRY) == 4


def test_an_action_that_is_sent_again_counts_once(page: Page) -> None:
    """If the answer was lost, and if the page had not read it when it was sent again."""
    page.loses_answers = True
    with pytest.raises(NotWritten):
        page.act("ann", ENTRY, 0, "contact", "action-1")
    page.loses_answers = False
    assert isinstance(page.act("ann", ENTRY, 0, "contact", "action-1"), Done)
    other = Page(page.log)
    assert isinstance(other.act("ann", ENTRY, 0, "contact", "action-1"), Done)
    assert [len(p.log.alive(1)) for p in (page, other)] == [2, 2], "a key of its own for each"
    page.follow()
    assert page.rows() == other.rows() == folded(page.log.compacted(tombstones=False))
    assert page.version(ENTRY) == 1


def test_a_record_that_is_sent_again_later_takes_nothing_with_it(page: Page) -> None:
    """With one key for both, compaction would drop the first, and with it what others did after it."""
    other, idle = Page(page.log), Page(page.log)
    page.act("ann", ENTRY, 0, "contact", "action-1")
    other.follow()
    other.act("bob", ENTRY, 1, "note", "action-2", note="x")
    assert isinstance(idle.act("ann", ENTRY, 0, "contact", "action-1"), Done)
    assert folded(page.log.compacted(tombstones=False)) == idle.rows()
    assert idle.version(ENTRY) == 2


def test_an_action_that_is_not_written_may_be_sent_again(page: Page) -> None:
    page.loses_records = True
    with pytest.raises(NotWritten):
        page.act("ann", ENTRY, 0, "contact", "action-1")
    page.loses_records = False
    assert isinstance(page.act("ann", ENTRY, 0, "contact", "action-1"), Done)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "praise"}, "form is damaged"),
        ({"action_id": "short"}, "form is damaged"),
        ({"action_id": "a|b|c|d|e|f"}, "form is damaged"),
        ({"note": "x" * 2_001}, "2,001 characters"),
        ({"note": "a\0b"}, "control characters"),
        ({"note": "a\ud800b"}, "control characters"),
        ({"kind": "note", "note": " \r\n"}, "note is empty"),
        ({"kind": "assign", "assignee": "x\0"}, "user's name"),
    ],
)
def test_a_form_that_is_wrong_is_refused_in_words(page: Page, change: dict[str, Any], text: str) -> None:
    form: dict[str, Any] = {"version": 0, "kind": "contact", "action_id": "action-1"} | change
    with pytest.raises(InvalidText, match=text):
        page.desk.act(Visitor("ann"), *ENTRY, **form)
    assert page.log.records == []


def test_a_note_is_kept_as_it_is(page: Page) -> None:
    """Markup, right-to-left marks and long words are text."""
    note = "<script>alert(1)</script> \u202eabc\u202c " + "w" * 1_900
    page.act("ann", ENTRY, 0, "note", "action-1", note=note)
    assert actions_of(page.connection, *ENTRY)[0].note == note


@pytest.mark.parametrize("entry", [(1, 11), (9, 10), (1, SITE)])
def test_nobody_acts_on_what_they_may_not_see(page: Page, entry: tuple[int, int]) -> None:
    """An entry of another course, one that does not exist, and one of the whole site."""
    with pytest.raises(UnknownEntry):
        page.desk.act(Visitor("ann", frozenset({10})), *entry, 0, "contact", "action-1")


@pytest.mark.parametrize("version", [-1, 1, 10**12])
def test_a_version_that_never_was_is_refused(page: Page, version: int) -> None:
    assert page.act("ann", ENTRY, version, "contact", "action-1") == Refused([], 0)


def test_a_tombstone_erases_the_case_and_only_that(page: Page) -> None:
    page.act("ann", ENTRY, 0, "contact", "action-1")
    page.act("ann", (2, 10), 0, "wrong", "action-1")
    page.log.append(page.log.records[0].key, None)
    page.follow()
    assert page.version(ENTRY) == 0
    assert actions_of(page.connection, *ENTRY) == []
    assert len(list(all_actions(page.connection))) == 1
    assert isinstance(page.act("ann", ENTRY, 0, "note", "action-1", note="again"), Done)


def test_unreadable_records_are_counted_and_named(page: Page, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(25):
        page.log.append(b"k", b"v")
    page.act("ann", ENTRY, 0, "contact", "action-1")
    counted = page.connection.execute("SELECT topic, reason, number, newest FROM unreadable").fetchall()
    assert counted == [(TOPIC, "its key is not userid|courseid|version|action|attempt", 25, 24)]
    assert len(caplog.messages) == 20
    assert f"topic {TOPIC} partition 0 offset 19: its key" in caplog.messages[-1]


# -- the export


def test_the_export_has_a_line_for_each_action(page: Page) -> None:
    page.act("ann", ENTRY, 0, "contact", "action-1", note='=HYPERLINK("x")\nand "more", later')
    page.act("ann", ENTRY, 1, "note", "action-2", note="-1")
    page.act("bob", (2, 10), 0, "assign", "action-3", assignee="bob")
    text = "".join(csv_lines(all_actions(page.connection)))
    assert text.startswith("\ufeff")
    table = list(csv.DictReader(io.StringIO(text[1:], newline="")))
    assert tuple(table[0]) == HEADER
    assert [(r["userid"], r["courseid"], r["version"], r["action"], r["state"], r["assignee"]) for r in table] == [
        ("1", "10", "1", "contact", "contacted", ""),
        ("1", "10", "2", "note", "contacted", ""),
        ("2", "10", "1", "assign", "open", "bob"),
    ]
    assert [r["note"] for r in table] == ['\'=HYPERLINK("x")\nand "more", later', "'-1", ""]
    assert table[0]["at"] == "2023-11-14T22:13:20+00:00"
    assert "".join(csv_lines(all_actions(page.connection, frozenset({11})))).count("\n") == 1


# -- the audit


class Written:
    """A writer that keeps what it is given. Mutable."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    @contextmanager
    def writing(self, topic: str, rows: list[tuple[bytes | None, bytes]], at: int | None = None) -> Iterator[None]:
        assert topic == "audit"
        yield
        self.rows += [json.loads(value) for _, value in rows]


def test_the_audit_says_who_looked_at_whom() -> None:
    written = Written()
    audit = Audit(written, "audit", clock=lambda: NOW_S)  # type: ignore[arg-type]
    audit.record(Visitor("ann"), Look.STUDENT, [(1, 10), (2, SITE)], address="10.0.0.7")
    audit.record("x" * 999 + "\ud800", Look.LOGIN_REFUSED, user="y\ud800", page=2)
    assert written.rows[0] == {
        "AT": round(NOW_S * 1000), "USER": "ann", "WHAT": "student", "ADDRESS": "10.0.0.7", "DETAIL": {},
        "ENTRIES": [[1, 10], [2, None]],
    }  # fmt: skip
    assert (written.rows[1]["USER"], written.rows[1]["DETAIL"]) == ("x" * 200, {"user": "y?", "page": 2})


def test_a_long_export_is_several_records() -> None:
    written = Written()
    entries = [(student, 10) for student in range(25_000)]
    Audit(written, "audit").record("ann", Look.EXPORT, entries)  # type: ignore[arg-type]
    assert [len(row["ENTRIES"]) for row in written.rows] == [10_000, 10_000, 5_000]
    assert [entry for row in written.rows for entry in row["ENTRIES"]] == [list(entry) for entry in entries]


def test_the_fold_reads_records_without_a_timestamp_of_ours(page: Page) -> None:
    key, value = encode(Proposal("abcdefgh", *ENTRY, 0, Kind.WRONG, "ann", 5), "1")
    assert folded([CaseRecord(9, -1, key, value)])[0][:5] == (*ENTRY, 1, "abcdefgh", "wrong")


def test_an_id_counts_once_whatever_version_it_is_sent_for(page: Page) -> None:
    """No page sends such a record; somebody else's must not stop the reader."""
    asked = Proposal("action-1", *ENTRY, 0, Kind.WRONG, "ann", 5)
    for version in (0, 1, 1):
        page.log.append(*encode(replace(asked, version=version), str(version)))
    page.follow()
    assert page.version(ENTRY) == 1
