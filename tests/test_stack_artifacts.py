"""The cache of files: locked, verified, fetched once. Nothing here is downloaded."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import stack
from stack import artifacts, maven
from stack.kafka import KAFKA
from stack.lifecycle import SERVERS
from stack.ports import choose

JAR = "org.example:thing:1.0"
ARCHIVE = "org.example:bundle:2.0:tar.gz:all"
ROOTS = {"thing": [JAR], "bundle": [ARCHIVE]}
Download = Callable[[Sequence[str], Path, Callable[[int], None]], Iterator[tuple[str, Path]]]


def archive(content: bytes) -> bytes:
    """A tar.gz with one file, run.jar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("run.jar")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


CONTENTS = {JAR: b"a jar", ARCHIVE: archive(b"a runner")}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of our own."""
    monkeypatch.setenv("RISK_STACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock for the files of CONTENTS."""
    entries = {
        name: {"roots": roots, "files": {one: locked(CONTENTS[one]) for one in roots}} for name, roots in ROOTS.items()
    }
    (tmp_path / "lock.json").write_text(json.dumps(entries))
    return tmp_path / "lock.json"


def locked(content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()} {len(content)}"


def gives(contents: dict[str, bytes]) -> Download:
    """A repository that has these files."""

    def download(coordinates: Sequence[str], into: Path, advance: Callable[[int], None]) -> Iterator[tuple[str, Path]]:
        for coordinate in coordinates:
            path = into / maven.layout(coordinate)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents[coordinate])
            advance(len(contents[coordinate]))
            yield coordinate, path

    return download


@pytest.fixture
def filled(cache: Path, lock: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Path]]:
    """A cache that has been filled; the repository is out of reach from then on."""
    monkeypatch.setattr(maven, "download", gives(CONTENTS))
    found = artifacts.fetch(ROOTS, lock)
    monkeypatch.setattr(maven, "download", gives({}))
    return found


def test_files_arrive_verified_and_archives_unpacked(filled: dict[str, list[Path]], cache: Path) -> None:
    assert filled["thing"] == [cache / "repository/org/example/thing/1.0/thing-1.0.jar"]
    assert filled["thing"][0].read_bytes() == b"a jar"
    assert (filled["bundle"][0] / "run.jar").read_bytes() == b"a runner"
    assert not (cache / "arriving").exists()


def test_a_warm_cache_is_not_read_again(
    filled: dict[str, list[Path]], lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(artifacts, "sha256")
    assert artifacts.fetch(ROOTS, lock) == filled


def test_a_file_that_was_only_touched_is_verified_and_used(filled: dict[str, list[Path]], lock: Path) -> None:
    os.utime(filled["thing"][0], (0, 0))
    assert artifacts.fetch(ROOTS, lock) == filled


def test_a_tampered_file_is_refused(filled: dict[str, list[Path]], lock: Path) -> None:
    """Same length, other content."""
    filled["thing"][0].write_bytes(b"a rat")
    with pytest.raises(stack.StackError, match=r"checksum mismatch: .*thing-1\.0\.jar has SHA-256") as refused:
        artifacts.fetch(ROOTS, lock)
    assert "\n" not in str(refused.value)


def test_a_tampered_archive_directory_is_unpacked_again(filled: dict[str, list[Path]], lock: Path) -> None:
    (filled["bundle"][0] / "run.jar").write_bytes(b"a ruiner")
    (again,) = artifacts.fetch(ROOTS, lock)["bundle"]
    assert (again / "run.jar").read_bytes() == b"a runner"


def test_a_wrong_download_never_reaches_its_place(cache: Path, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maven, "download", gives({**CONTENTS, JAR: b"a trap"}))
    with pytest.raises(stack.StackError, match="checksum mismatch"):
        artifacts.fetch(ROOTS, lock)
    assert not (cache / "repository/org/example/thing").exists()


def test_what_arrived_before_an_error_is_not_fetched_again(
    cache: Path, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The jar arrives, the archive does not; the next time only the archive is asked for."""
    monkeypatch.setattr(maven, "download", gives({JAR: CONTENTS[JAR]}))
    with pytest.raises(KeyError):
        artifacts.fetch(ROOTS, lock)
    monkeypatch.setattr(maven, "download", gives({ARCHIVE: CONTENTS[ARCHIVE]}))
    artifacts.fetch(ROOTS, lock)


def test_a_lock_for_other_coordinates_is_refused(cache: Path, lock: Path) -> None:
    with pytest.raises(stack.StackError, match=r"does not fit thing's coordinates: run python -m stack lock"):
        artifacts.fetch({"thing": ["org.example:thing:1.1"]}, lock)


def test_the_lock_fits_every_server() -> None:
    for server in SERVERS.values():
        files = artifacts.locked(server.name, server.roots)
        assert all(len(one.sha256) == 64 and one.size > 0 for one in files)
        assert {maven.split(root)[:3] for root in server.roots} <= {maven.split(one.coordinate)[:3] for one in files}


def test_relocking_measures_only_what_is_new(cache: Path, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1.0 makes way for 1.1; the archive keeps the checksum it was locked with, unasked."""
    newer = "org.example:thing:1.1"
    monkeypatch.setattr(maven, "resolve", lambda roots, cache: list(roots))
    monkeypatch.setattr(maven, "download", gives({newer: b"a new jar"}))
    before = json.loads(lock.read_text())
    assert artifacts.relock({"thing": [newer], "bundle": [ARCHIVE]}, lock) == ([newer], [JAR])
    after = json.loads(lock.read_text())
    assert after["bundle"] == before["bundle"]
    assert after["thing"]["files"] == {newer: locked(b"a new jar")}


def test_up_refuses_a_tampered_jar_before_anything_starts(cache: Path, tmp_path: Path) -> None:
    """The real lock, a jar of the real name, and no need of the network to see that it is wrong."""
    jar = cache / artifacts.locked(KAFKA.name, KAFKA.roots)[0].path
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"tampered")
    with pytest.raises(stack.StackError, match="checksum mismatch"):
        stack.up(tmp_path / "servers")
    assert stack.status(tmp_path / "servers") == []
    assert not (tmp_path / "servers" / "run").exists()


def test_no_network_is_one_clear_line(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """jgo's real client, sent to a proxy that is not there."""
    nowhere = f"http://127.0.0.1:{choose(('proxy',), None, {})['proxy']}"
    monkeypatch.setenv("HTTPS_PROXY", nowhere)
    monkeypatch.setenv("https_proxy", nowhere)
    monkeypatch.setattr(maven, "PAUSE_S", 0.0)
    with pytest.raises(stack.Unavailable, match=r"cannot download .*refused") as unavailable:
        stack.up(tmp_path / "servers")
    assert "\n" not in str(unavailable.value)


@pytest.mark.parametrize(
    ("coordinate", "path"),
    [
        (JAR, "org/example/thing/1.0/thing-1.0.jar"),
        (ARCHIVE, "org/example/bundle/2.0/bundle-2.0-all.tar.gz"),
        ("g:a:1:pom", "g/a/1/a-1.pom"),
    ],
)
def test_layout_of_a_repository(coordinate: str, path: str) -> None:
    assert str(maven.layout(coordinate)) == path
