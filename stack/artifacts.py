"""The servers' files: pinned by checksum, downloaded once per user and verified before use.

artifacts.json in this package lists every file with its SHA-256; `python -m stack lock` writes it.
Layout of the cache:

    repository/      verified files, laid out like a Maven repository
    unpacked/        unpacked archives
    verified.json    path -> [sha256, fingerprint] of verified files, so that an unchanged file is not hashed again
    poms/            POM files that `lock` reads to resolve dependencies
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stack import maven
from stack.errors import StackError
from stack.lockfile import exclusive

LOCK = Path(__file__).with_name("artifacts.json")
#: suffixes of archives, which are unpacked
ARCHIVES = (".tar.gz", ".zip")
#: how long to wait for another process that is filling the cache [s]
CACHE_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class LockedFile:
    """One file of a server with its pinned checksum."""

    coordinate: str
    sha256: str
    size: int  # [bytes]

    @property
    def path(self) -> str:
        """Path of the file, relative to the cache."""
        return f"repository/{maven.layout(self.coordinate)}"

    @property
    def server_path(self) -> str:
        """Path that a server is given, relative to the cache: the file, or the directory of an unpacked archive."""
        suffix = next((suffix for suffix in ARCHIVES if self.path.endswith(suffix)), None)
        if suffix is None:
            return self.path
        return f"unpacked/{Path(self.path).name.removesuffix(suffix)}-{self.sha256[:12]}"


#: path -> [sha256, fingerprint], as in verified.json
Stamps = dict[str, list[str]]


def cache_directory() -> Path:
    """Return RISK_STACK_CACHE, or moodle-risk in the user's cache directory."""
    if configured := os.environ.get("RISK_STACK_CACHE"):
        return Path(configured).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "moodle-risk"


def locked_files(name: str, roots: Sequence[str], lock: Path = LOCK) -> list[LockedFile]:
    """Return the files of server `name`. Raises StackError if the lock file was made for other roots."""
    if not roots:
        return []
    try:
        entry = json.loads(lock.read_text(encoding="utf-8"))[name]
    except (FileNotFoundError, KeyError):
        entry = {"roots": None}
    if entry["roots"] != list(roots):
        raise StackError(f"{lock} does not match the coordinates of {name}: run python -m stack lock")
    fields = ((coordinate, *value.split()) for coordinate, value in entry["files"].items())
    return [LockedFile(coordinate, sha256, int(size)) for coordinate, sha256, size in fields]


def fetch(wanted: Mapping[str, Sequence[str]], lock: Path = LOCK) -> dict[str, list[Path]]:
    """Return the verified files by server name, for roots by server name; download those that are not cached.

    Raises StackError if a file does not match the lock file, Unavailable if one cannot be downloaded.
    """
    by_server = {name: locked_files(name, roots, lock) for name, roots in wanted.items()}
    files = list({file.path: file for server_files in by_server.values() for file in server_files}.values())
    cache = cache_directory()
    if not all_verified(files, cache):
        with exclusive(cache / "lock", CACHE_TIMEOUT_S):
            fill_cache(files, cache)
    return {name: [cache / file.server_path for file in server_files] for name, server_files in by_server.items()}


def all_verified(files: Iterable[LockedFile], cache: Path) -> bool:
    """Return whether every file is unchanged since its checksum was verified."""
    stamps = read_stamps(cache)
    paths = ((path, file.sha256) for file in files for path in {file.path, file.server_path})
    return all(is_verified(path, checksum, stamps, cache) for path, checksum in paths)


def fill_cache(files: Sequence[LockedFile], cache: Path) -> None:
    """Verify cached files, download missing ones and unpack archives; record the progress even on failure."""
    stamps = read_stamps(cache)
    try:
        for file in files:
            if (cache / file.path).exists() and not is_verified(file.path, file.sha256, stamps, cache):
                verify(file, cache / file.path)
                stamps[file.path] = [file.sha256, fingerprint(cache / file.path)]
        missing = [file for file in files if not (cache / file.path).exists()]
        if missing:
            download(missing, cache, stamps)
        for file in files:
            if file.server_path != file.path and not is_verified(file.server_path, file.sha256, stamps, cache):
                unpack(cache / file.path, cache / file.server_path)
                stamps[file.server_path] = [file.sha256, fingerprint(cache / file.server_path)]
    finally:
        write_stamps(cache, stamps)


def download(missing: Sequence[LockedFile], cache: Path, stamps: Stamps) -> None:
    """Download files; move each to its final path only after its checksum was verified."""
    from stack.progress import meter  # rich is slow to import, and not needed when the cache is complete

    incoming = cache / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    by_coordinate = {file.coordinate: file for file in missing}
    with meter("stack: downloading", sum(file.size for file in missing)) as advance:
        for coordinate, path in maven.download(list(by_coordinate), incoming, advance):
            file = by_coordinate[coordinate]
            verify(file, path)
            final = cache / file.path
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, final)
            stamps[file.path] = [file.sha256, fingerprint(final)]
    shutil.rmtree(incoming, ignore_errors=True)


def verify(file: LockedFile, path: Path) -> None:
    """Raise StackError if the SHA-256 of `path` is not the pinned one."""
    actual = sha256(path)
    if actual != file.sha256:
        raise StackError(
            f"checksum mismatch: {path} has SHA-256 {actual}, but {file.coordinate} is pinned to {file.sha256}; "
            "nothing was started. If you trust the source, delete the file and try again"
        )


def sha256(path: Path) -> str:
    """Return the checksum of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def unpack(archive: Path, target: Path) -> None:
    """Unpack a verified archive; `target` appears only when it is complete."""
    draft = target.with_name(target.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(draft)
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(draft, filter="data")
    os.replace(draft, target)


def fingerprint(path: Path) -> str:
    """Summarize a file or a tree without reading contents: names, sizes [bytes] and modification times [ns]."""
    if path.is_file():
        stat = path.stat()
        return f"{stat.st_size}:{stat.st_mtime_ns}"
    lines = sorted(f"{file.relative_to(path)}:{fingerprint(file)}" for file in path.rglob("*") if file.is_file())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def is_verified(path: str, checksum: str, stamps: Stamps, cache: Path) -> bool:
    """Return whether `path` matched `checksum` when it was last hashed and is unchanged since."""
    return (cache / path).exists() and stamps.get(path) == [checksum, fingerprint(cache / path)]


def read_stamps(cache: Path) -> Stamps:
    """Read verified.json; empty if it is missing or damaged, which only costs hashing the files again."""
    try:
        stamps = json.loads((cache / "verified.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def write_stamps(cache: Path, stamps: Stamps) -> None:
    """Replace verified.json atomically."""
    draft = cache / "verified.draft"
    draft.write_text(json.dumps(stamps, indent=0), encoding="utf-8")
    os.replace(draft, cache / "verified.json")


def relock(servers: Mapping[str, Sequence[str]], lock: Path = LOCK) -> tuple[list[str], list[str]]:
    """Write the lock file for roots by server name; return the added and the removed coordinates.

    A coordinate that is already locked keeps its checksum: a released file never changes.
    """
    cache = cache_directory()
    old: dict[str, str] = {}
    if lock.exists():
        for entry in json.loads(lock.read_text(encoding="utf-8")).values():
            old.update(entry["files"])
    by_server = {name: maven.resolve(roots, cache / "poms") for name, roots in servers.items()}
    coordinates = sorted({coordinate for server in by_server.values() for coordinate in server})
    added = [coordinate for coordinate in coordinates if coordinate not in old]
    values = old | measure(added, cache)
    entries = {
        name: {"roots": list(roots), "files": {coordinate: values[coordinate] for coordinate in by_server[name]}}
        for name, roots in servers.items()
    }
    lock.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return added, sorted(set(old) - set(coordinates))


def measure(coordinates: Sequence[str], cache: Path) -> dict[str, str]:
    """Download files and return coordinate -> "SHA-256 size", size in bytes."""
    from stack.progress import meter

    directory = cache / "locking"
    with exclusive(cache / "lock", CACHE_TIMEOUT_S):
        shutil.rmtree(directory, ignore_errors=True)
        with meter("stack: downloading", 0) as advance:
            downloads = maven.download(coordinates, directory, advance)
            values = {coordinate: f"{sha256(path)} {path.stat().st_size}" for coordinate, path in downloads}
        shutil.rmtree(directory, ignore_errors=True)
    return values
