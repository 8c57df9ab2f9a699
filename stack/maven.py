"""Maven Central through jgo: which files a root needs, and the files themselves. No Maven and no Java."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stack.errors import Unavailable

if TYPE_CHECKING:
    from jgo.maven import Artifact, MavenContext

#: files fetched at a time
AT_ONCE = 6
#: tries per file, and the pause between two [s]
TRIES, PAUSE_S = 3, 1.0
#: longest silence of the repository [s]
SILENCE_S = 15


def split(coordinate: str) -> tuple[str, str, str, str, str]:
    """group:artifact:version[:packaging[:classifier]] -> its five parts; packaging is jar unless said."""
    group, artifact, version, packaging, classifier = [*coordinate.split(":"), "", ""][:5]
    return group, artifact, version, packaging or "jar", classifier


def layout(coordinate: str) -> PurePosixPath:
    """Where a repository keeps the file."""
    group, artifact, version, packaging, classifier = split(coordinate)
    name = "-".join(part for part in (artifact, version, classifier) if part)
    return PurePosixPath(*group.split("."), artifact, version, f"{name}.{packaging}")


def context(cache: Path, advance: Callable[[int], None] | None = None) -> MavenContext:
    """jgo's view of the repository, with `cache` for what it fetches."""
    from jgo.maven import MavenContext, PythonResolver  # half a second, and needed once a machine

    @contextmanager
    def progress(name: str, size: int) -> Iterator[Callable[[int], None]]:
        yield advance or (lambda count: None)

    resolver = PythonResolver(progress_callback=progress)
    return MavenContext(resolver=resolver, repo_cache=cache, local_repos=[], timeout=SILENCE_S)


def resolve(roots: Sequence[str], cache: Path) -> list[str]:
    """Every file that `roots` need at run time, as coordinates, sorted; their POMs go into `cache`.

    A root that is no jar (an archive that brings its own libraries) stands for itself alone.
    """
    repository = context(cache)
    whole = [root for root in roots if split(root)[3] != "jar"]
    jars = [repository.create_dependency(root) for root in roots if root not in whole]
    for jar in jars:
        jar.scope = "compile"
    if not jars:
        return whole
    inputs, others = repository.resolver.resolve(jars)
    needed = [one.artifact for one in (*inputs, *others) if one.scope in ("compile", "runtime")]
    return sorted({spell(artifact) for artifact in needed} | set(whole))


def spell(artifact: Artifact) -> str:
    """Our spelling of a jgo artifact; the inverse of `split`."""
    kind = [artifact.packaging, artifact.classifier] if artifact.classifier else [artifact.packaging]
    tail = [] if kind == ["jar"] else kind
    return ":".join((artifact.groupId, artifact.artifactId, artifact.version, *tail))


class _Stopped(Exception):
    """The rest of the downloads is no longer wanted."""


def download(coordinates: Sequence[str], into: Path, advance: Callable[[int], None]) -> Iterator[tuple[str, Path]]:
    """Fetch files into the empty directory `into`; yield each as it is there, in any order, unverified.

    `advance` is told of bytes as they arrive, from several threads.
    Raises Unavailable on the first that cannot be had.
    """
    stopped = threading.Event()

    def tell(count: int) -> None:
        if stopped.is_set():
            raise _Stopped
        advance(count)

    repository = context(into, tell)
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        running = {pool.submit(_fetch, repository, one, stopped): one for one in coordinates}
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _fetch(repository: MavenContext, coordinate: str, stopped: threading.Event) -> Path:
    group, name, version, packaging, classifier = split(coordinate)
    artifact = repository.project(group, name).at_version(version).artifact(classifier, packaging)
    failure: OSError | None = None
    for _ in range(TRIES):
        try:
            return artifact.resolve()
        except OSError as error:  # requests' errors are OSErrors
            failure = error
            # jgo writes in place: what there is of the file is not the file
            (repository.repo_cache / layout(coordinate)).unlink(missing_ok=True)
        except RuntimeError as error:
            raise Unavailable(f"the repository does not give {coordinate}") from error
        if stopped.wait(PAUSE_S):
            break
    raise Unavailable(f"cannot download {coordinate}: {_cause(failure)}") from failure


def _cause(error: BaseException | None) -> str:
    """The innermost reason, which is the short one: requests wraps urllib3, which wraps the socket's."""
    while error and (deeper := error.__cause__ or error.__context__):
        error = deeper
    return f"{type(error).__name__}: {error}"
