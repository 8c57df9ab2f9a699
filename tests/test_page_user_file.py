"""The users of the page: their file, and the command that writes it."""

from __future__ import annotations

import io
import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from argon2 import PasswordHasher

from app.errors import ConfigError
from app.settings import Settings
from page.access import passwords
from page.access.users import User, Users, read, write
from page.commands.page_user import page_user

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$x"
ADA, BEN = User("ada", None, HASH), User("Bén Ø", frozenset({3, 1}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


def put(path: Path, text: str) -> None:
    """Write the file as an administrator would by hand."""
    path.write_text(text)
    path.chmod(0o600)


def test_what_is_written_is_read_again(path):
    write(path, [ADA, BEN])
    assert read(path) == [ADA, BEN]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["users"]


def test_a_link_to_the_file_stays_one(path, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    path.symlink_to(tmp_path / "elsewhere" / "users")
    write(path, [ADA])
    assert path.is_symlink()
    assert read(path) == [ADA]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not {"),
        ('{"name": "ada"}', "is not {"),
        ('{"name": "ada", "courses": "all", "admin": true}', "is not {"),
        ('{"name": "", "courses": "all"}', "the name"),
        ('{"name": " ada", "courses": "all"}', "the name"),
        ('{"name": "a\\u0000", "courses": "all"}', "the name"),
        ('{"name": "\\u202eada", "courses": "all"}', "the name"),
        ('{"name": "A\\u0308", "courses": "all"}', "the name"),
        ('{"name": 7, "courses": "all"}', "the name"),
        ('{"name": "' + "a" * 201 + '", "courses": "all"}', "the name"),
        ('{"name": "ada", "courses": "any"}', "courses"),
        ('{"name": "ada", "courses": [true]}', "courses"),
        ('{"name": "ada", "courses": [1.0]}', "courses"),
        ('{"name": "ada", "courses": [9223372036854775808]}', "courses"),
        ('{"name": "ada", "courses": null}', "courses"),
        ('{"name": "ada", "courses": "all", "hash": "secret"}', "hash"),
        ('{"name": "ada", "courses": "all", "hash": 7}', "hash"),
        ('{"name": "ben", "courses": "all"}', "is there already"),
    ],
)
def test_a_line_that_is_wrong_is_named(path, line, problem):
    put(path, f'{{"name": "ben", "courses": [1]}}\n\n{line}\n')
    with pytest.raises(ConfigError, match=r"^RISK_PAGE_USERS: .*, line 3") as caught:
        read(path)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o660, 0o666, 0o644])
def test_a_file_that_others_may_read_or_change_is_refused(path, mode):
    write(path, [ADA])
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        read(path)


def test_a_file_that_the_group_may_read_is_accepted(path):
    """So Kubernetes mounts secrets."""
    write(path, [ADA])
    path.chmod(0o440)
    assert read(path) == [ADA]


def test_a_file_that_is_no_text_or_not_there_is_an_error_of_one_line(path):
    with pytest.raises(ConfigError, match="page-user add"):
        Users(path)
    path.write_bytes(b"\xff")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="UTF-8"):
        Users(path)


def test_changes_of_the_file_count_at_once(path):
    """Also those of the same length."""
    write(path, [ADA])
    known = Users(path)
    assert known.find("ada") == ADA
    assert known.find("ben") is None
    write(path, [User("ben", None)])
    assert known.find("ada") is None
    assert known.find("ben") is not None


def test_while_the_file_cannot_be_read_nobody_is_known(path):
    write(path, [ADA])
    known = Users(path)
    put(path, "{")
    for _ in range(2):
        with pytest.raises(ConfigError, match="line 1"):
            known.find("ada")
    path.unlink()
    with pytest.raises(ConfigError, match="cannot read"):
        known.find("ada")
    write(path, [ADA])
    assert known.find("ada") == ADA


def test_a_name_is_the_same_however_its_letters_are_composed(path):
    write(path, [BEN])
    assert Users(path).find("Be\u0301n Ø") == BEN


# -- passwords


def test_a_password_fits_its_hash_only():
    hashed = passwords.hash_of("correct horse battery")
    assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert passwords.fits("correct horse battery", hashed)
    assert not passwords.fits("correct horse batterY", hashed)
    assert not passwords.fits("correct horse battery", "")
    assert not passwords.fits("correct horse battery", "$argon2id$v=19$broken")


def test_a_password_is_the_same_however_its_letters_are_composed(monkeypatch):
    monkeypatch.setattr(passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    assert passwords.fits("pa\u0308sswort ganz", passwords.hash_of("p\u00e4sswort ganz"))


def test_a_name_that_does_not_exist_takes_as_long_as_another(monkeypatch):
    """The same work is done: whoever measures times learns no names."""
    verified = []
    monkeypatch.setattr(passwords, "_HASHER", SimpleNamespace(verify=lambda hashed, _: verified.append(hashed)))
    assert not passwords.fits("x", "")
    passwords.fits("x", HASH)
    nobody, somebody = verified
    assert nobody.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert somebody == HASH


# -- the command


@pytest.fixture
def run(path, monkeypatch):
    """Run the command with words of arguments and a line of standard input; return what it says."""

    monkeypatch.setattr(passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))

    def run(action: str, user: str | None = None, *, typed: str = "", **options: object) -> str:
        said: list[str] = []
        settings = Settings.from_env({"RISK_PAGE_USERS": str(path)})
        command = SimpleNamespace(app=SimpleNamespace(settings=settings), say=said.append)
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        given = {"courses": None, "sees_all": False, "sso": False, **options}
        page_user.main(command, action=action, user=user, **given)
        return "\n".join(said)

    return run


def test_users_are_added_changed_and_removed(run, path):
    assert run("add", "ada", sees_all=True, typed="correct horse\n") == "ada  all courses"
    assert run("add", "ben", courses="12, 3", sso=True) == "ben  courses 3,12  (single sign-on only)"
    assert run("list") == "ada  all courses\nben  courses 3,12  (single sign-on only)"
    ada = read(path)[0]
    assert passwords.fits("correct horse", ada.hash)
    run("passwd", "ada", typed="another horse\r\n")
    assert passwords.fits("another horse", read(path)[0].hash)
    assert run("courses", "ada", courses="5") == "ada  courses 5"
    assert run("courses", "ada", courses="") == "ada  courses none"
    assert run("remove", "ada") == "ada: removed"
    assert [user.name for user in read(path)] == ["ben"]


@pytest.mark.parametrize(
    ("arguments", "options", "problem"),
    [
        (("add",), {"sees_all": True}, "which user"),
        (("add", "a\tb"), {"sees_all": True}, "is no name"),
        (("add", "ada"), {}, "which courses"),
        (("add", "ada"), {"courses": "1", "sees_all": True}, "which courses"),
        (("add", "ada"), {"courses": "1;2"}, "list of ids"),
        (("add", "ada"), {"courses": "9" * 20}, "no course can have"),
        (("add", "ada"), {"courses": "1", "typed": "short\n"}, "at least 10 characters"),
        (("add", "ada"), {"courses": "1", "typed": "x" * 1001}, "at most 1000 characters"),
        (("add", "ben"), {"courses": "1"}, "is there already"),
        (("remove", "ada"), {}, "is not in"),
        (("passwd", "ada"), {}, "is not in"),
        (("remove", "ben"), {"sees_all": True}, "belong to"),
        (("passwd", "ben"), {"sso": True}, "belongs to"),
    ],
)
def test_what_the_command_refuses(run, path, arguments, options, problem):
    write(path, [User("ben", None)])
    with pytest.raises(ConfigError, match=problem) as caught:
        run(*arguments, **options)
    assert "\n" not in str(caught.value)
    assert read(path) == [User("ben", None)]


def test_a_damaged_file_is_not_overwritten(run, path):
    put(path, "{")
    with pytest.raises(ConfigError, match="line 1"):
        run("add", "ada", sees_all=True, sso=True)
    assert path.read_text() == "{"


def test_the_command_needs_a_file():
    command = SimpleNamespace(app=SimpleNamespace(settings=Settings()))
    with pytest.raises(ConfigError, match=r"^RISK_PAGE_USERS is empty"):
        page_user.main(command, action="list", user=None, courses=None, sees_all=False, sso=False)
