"""The files that servers are made of: locked by checksum, fetched once per user, verified before use.

artifacts.json in this package names every file with its SHA-256; `python -m stack lock` writes it.
The cache holds

    repository/      files whose checksum was right when they arrived, laid out as in any Maven repository
    unpacked/        archives, unpacked
    verified.json    path -> [sha256, fingerprint] of what was verified; what still looks so is not read again
    poms/            what `lock` read to find out which files there are
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stack import maven
from stack.errors import StackError
from stack.lockfile import alone

LOCK = Path(__file__).with_name("artifacts.json")
ARCHIVE = ".tar.gz"
#: how long to wait for another process that is filling the cache [s]
PATIENCE_S = 900.0


@dataclass(frozen=True)
class Locked:
    """One file, and what it must be."""

    coordinate: str
    sha256: str
    size: int  # [bytes]

    @property
    def path(self) -> str:
        """Where it lies in the cache."""
        return f"repository/{maven.layout(self.coordinate)}"

    @property
    def usable(self) -> str:
        """What a server is given: the file, or the directory an archive was unpacked into."""
        if not self.path.endswith(ARCHIVE):
            return self.path
        return f"unpacked/{Path(self.path).name.removesuffix(ARCHIVE)}-{self.sha256[:12]}"


Stamps = dict[str, list[str]]


def cache_directory() -> Path:
    """RISK_STACK_CACHE, or moodle-risk in the user's cache directory."""
    if chosen := os.environ.get("RISK_STACK_CACHE"):
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "moodle-risk"


def locked(name: str, roots: Sequence[str], lock: Path = LOCK) -> list[Locked]:
    """The files of server `name`. Raises StackError if the lock was not made for these roots."""
    if not roots:
        return []
    try:
        entry = json.loads(lock.read_text(encoding="utf-8"))[name]
    except (FileNotFoundError, KeyError):
        entry = {"roots": None}
    if entry["roots"] != list(roots):
        raise StackError(f"{lock} does not fit {name}'s coordinates: run python -m stack lock")
    pairs = ((coordinate, *what.split()) for coordinate, what in entry["files"].items())
    return [Locked(coordinate, sha256, int(size)) for coordinate, sha256, size in pairs]


def fetch(wanted: Mapping[str, Sequence[str]], lock: Path = LOCK) -> dict[str, list[Path]]:
    """server name -> its verified files, for server name -> roots; what is not in the cache is downloaded.

    Raises StackError if a file is not what the lock says, Unavailable if one cannot be had.
    """
    files = {name: locked(name, roots, lock) for name, roots in wanted.items()}
    every = list({one.path: one for some in files.values() for one in some}.values())
    cache = cache_directory()
    if not all_verified(every, cache):
        with alone(cache / "lock", PATIENCE_S):
            complete(every, cache)
    return {name: [cache / one.usable for one in some] for name, some in files.items()}


def all_verified(files: Iterable[Locked], cache: Path) -> bool:
    """Whether every file still looks as it did when its checksum was found right."""
    stamps = read_stamps(cache)
    paths = ((path, one.sha256) for one in files for path in {one.path, one.usable})
    return all(looks_verified(path, checksum, stamps, cache) for path, checksum in paths)


def complete(files: Sequence[Locked], cache: Path) -> None:
    """Verify what is there, download what is not, unpack the archives; stamp each step as it is done."""
    stamps = read_stamps(cache)
    try:
        for one in files:
            if (cache / one.path).exists() and not looks_verified(one.path, one.sha256, stamps, cache):
                verify(one, cache / one.path)
                stamps[one.path] = [one.sha256, fingerprint(cache / one.path)]
        missing = [one for one in files if not (cache / one.path).exists()]
        if missing:
            download(missing, cache, stamps)
        for one in files:
            if one.usable != one.path and not looks_verified(one.usable, one.sha256, stamps, cache):
                unpack(cache / one.path, cache / one.usable)
                stamps[one.usable] = [one.sha256, fingerprint(cache / one.usable)]
    finally:
        write_stamps(cache, stamps)


def download(missing: Sequence[Locked], cache: Path, stamps: Stamps) -> None:
    """Bring files in: they reach their place in the cache only when their checksum is right."""
    from stack.progress import meter  # rich takes a while, and a warm cache needs none of it

    arriving = cache / "arriving"
    shutil.rmtree(arriving, ignore_errors=True)
    by_coordinate = {one.coordinate: one for one in missing}
    with meter("stack: downloading", sum(one.size for one in missing)) as advance:
        for coordinate, path in maven.download(list(by_coordinate), arriving, advance):
            one = by_coordinate[coordinate]
            verify(one, path)
            settled = cache / one.path
            settled.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, settled)
            stamps[one.path] = [one.sha256, fingerprint(settled)]
    shutil.rmtree(arriving, ignore_errors=True)


def verify(one: Locked, path: Path) -> None:
    """Raises StackError if the file's SHA-256 is not the locked one."""
    found = sha256(path)
    if found != one.sha256:
        raise StackError(
            f"checksum mismatch: {path} has SHA-256 {found}, but {one.coordinate} is locked to {one.sha256}; "
            "nothing was started. If you trust the source, delete the file and try again"
        )


def sha256(path: Path) -> str:
    """The checksum of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def unpack(archive: Path, into: Path) -> None:
    """Unpack a verified archive; the directory appears whole or not at all."""
    draft = into.with_name(into.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(into, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(draft, filter="data")
    os.replace(draft, into)


def fingerprint(path: Path) -> str:
    """What a file or a tree looks like without reading it: names, sizes [bytes], times of change [ns]."""
    if path.is_file():
        stat = path.stat()
        return f"{stat.st_size}:{stat.st_mtime_ns}"
    looks = sorted(f"{one.relative_to(path)}:{fingerprint(one)}" for one in path.rglob("*") if one.is_file())
    return hashlib.sha256("\n".join(looks).encode()).hexdigest()


def looks_verified(path: str, checksum: str, stamps: Stamps, cache: Path) -> bool:
    """Whether `path` was found right for `checksum` and looks untouched since."""
    return (cache / path).exists() and stamps.get(path) == [checksum, fingerprint(cache / path)]


def read_stamps(cache: Path) -> Stamps:
    """What was verified so far; nothing if the record is missing or spoilt, for it can be made again."""
    try:
        stamps = json.loads((cache / "verified.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def write_stamps(cache: Path, stamps: Stamps) -> None:
    """Replace the record whole."""
    draft = cache / "verified.draft"
    draft.write_text(json.dumps(stamps, indent=0), encoding="utf-8")
    os.replace(draft, cache / "verified.json")


def relock(servers: Mapping[str, Sequence[str]], lock: Path = LOCK) -> tuple[list[str], list[str]]:
    """Write the lock anew for server name -> roots; the coordinates that are new, and those that are gone.

    A coordinate that was locked keeps its checksum: a released file never changes.
    """
    cache = cache_directory()
    old: dict[str, str] = {}
    if lock.exists():
        for entry in json.loads(lock.read_text(encoding="utf-8")).values():
            old.update(entry["files"])
    names = {name: maven.resolve(roots, cache / "poms") for name, roots in servers.items()}
    every = sorted({coordinate for some in names.values() for coordinate in some})
    added = [coordinate for coordinate in every if coordinate not in old]
    known = old | measure(added, cache)
    entries = {
        name: {"roots": list(roots), "files": {one: known[one] for one in names[name]}}
        for name, roots in servers.items()
    }
    lock.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return added, sorted(set(old) - set(every))


def measure(coordinates: Sequence[str], cache: Path) -> dict[str, str]:
    """coordinate -> "SHA-256 bytes" of what the repository gives today."""
    from stack.progress import meter

    fresh = cache / "locking"
    with alone(cache / "lock", PATIENCE_S):
        shutil.rmtree(fresh, ignore_errors=True)
        with meter("stack: downloading", 0) as advance:
            found = maven.download(coordinates, fresh, advance)
            measured = {one: f"{sha256(path)} {path.stat().st_size}" for one, path in found}
        shutil.rmtree(fresh, ignore_errors=True)
    return measured
