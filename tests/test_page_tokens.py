"""Codes of students in URLs: readable by one page only, always the same, and nothing else is one."""

from __future__ import annotations

from string import ascii_letters, digits

from hypothesis import given
from hypothesis import strategies as st

from page.access.secret import Secret
from page.access.tokens import Tokens

IDS = st.integers(-(1 << 63), (1 << 63) - 1)
TOKENS = Tokens(Secret(b"s" * 32).key("students"))
OTHERS = Tokens(Secret(b"t" * 32).key("students"))


@given(IDS, IDS)
def test_a_code_stands_for_a_student_and_a_course(student, course):
    token = TOKENS.encode(student, course)
    assert TOKENS.decode(token) == (student, course)
    assert TOKENS.encode(student, course) == token
    assert len(token) == 22
    assert token.isascii()
    assert OTHERS.decode(token) != (student, course)


@given(IDS, IDS, st.integers(0, 21), st.sampled_from("ABCXYZabcxyz0189-_"))
def test_another_code_is_another_student(student, course, place, character):
    """No two codes stand for the same, so a wrong one is that of ids that no student has."""
    token = TOKENS.encode(student, course)
    other = token[:place] + character + token[place + 1 :]
    if other != token:
        assert TOKENS.decode(other) != (student, course)


@given(st.text())
def test_any_text_is_no_code_or_one_that_this_page_could_have_made(text):
    for tokens in (TOKENS, Tokens(b"k" * 32, plain=True)):
        ids = tokens.decode(text)
        assert ids is None or TOKENS.decode(text) is None or TOKENS.encode(*ids) == text


def test_a_code_has_one_spelling():
    """Its last character has four bits more than are needed."""
    token = TOKENS.encode(17, 3)
    others = [token[:-1] + character for character in ascii_letters + digits + "-_"]
    assert [other for other in others if TOKENS.decode(other) == (17, 3)] == [token]


def test_codes_say_nothing_about_the_ids():
    """Neither the same student in two courses nor neighbours have anything in common."""
    codes = [TOKENS.encode(student, course) for student in range(40) for course in range(40)]
    assert len({code[:6] for code in codes}) == len(codes)
    assert len({code[-6:] for code in codes}) == len(codes)


def test_ids_stand_in_urls_where_the_setting_allows_it():
    plain = Tokens(b"k" * 32, plain=True)
    assert plain.encode(17, -1) == "17.-1"
    assert plain.decode("17.-1") == (17, -1)
    assert plain.decode(Tokens(b"k" * 32).encode(17, 3)) == (17, 3), "links that were sent before"
    assert [plain.decode(text) for text in ("17", "17.", ".3", "17.x", "9223372036854775808.1", "1.2\n")] == [None] * 6
    assert TOKENS.decode("17.3") is None
