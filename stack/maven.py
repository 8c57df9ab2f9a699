"""Maven Central without Maven: resolve dependencies (with jgo) and download files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stack.errors import EXTRA, Unavailable

if TYPE_CHECKING:
    import httpx
    from jgo.maven import Artifact

CENTRAL = "https://repo.maven.apache.org/maven2"
#: concurrent downloads
CONCURRENCY = 6
#: attempts per file, and the pause between them [s]
ATTEMPTS, PAUSE_S = 3, 1.0
#: timeout for connecting and for each read [s]
TIMEOUT_S = 15


def split(coordinate: str) -> tuple[str, str, str, str, str]:
    """Split group:artifact:version[:packaging[:classifier]] into its five parts; packaging defaults to jar."""
    group, artifact, version, packaging, classifier = [*coordinate.split(":"), "", ""][:5]
    return group, artifact, version, packaging or "jar", classifier


def layout(coordinate: str) -> PurePosixPath:
    """Return the path of a file in a Maven repository."""
    group, artifact, version, packaging, classifier = split(coordinate)
    name = "-".join(part for part in (artifact, version, classifier) if part)
    return PurePosixPath(*group.split("."), artifact, version, f"{name}.{packaging}")


def resolve(roots: Sequence[str], cache: Path) -> list[str]:
    """Return the sorted coordinates of all files that `roots` need at run time; `cache` keeps the POM files.

    A root that is not a jar (an archive with its own libraries) has no dependencies. Raises Unavailable without jgo.
    """
    archives = [root for root in roots if split(root)[3] != "jar"]
    if len(archives) == len(roots):
        return archives
    try:
        from jgo.maven import MavenContext, PythonResolver  # slow to import, and only `lock` needs it
    except ImportError as error:
        raise Unavailable(f"cannot resolve dependencies ({error}): {EXTRA}") from error
    repository = MavenContext(resolver=PythonResolver(), repo_cache=cache, local_repos=[], timeout=TIMEOUT_S)
    jars = [repository.create_dependency(root) for root in roots if root not in archives]
    for jar in jars:
        jar.scope = "compile"
    inputs, transitive = repository.resolver.resolve(jars)
    needed = [
        dependency.artifact for dependency in (*inputs, *transitive) if dependency.scope in ("compile", "runtime")
    ]
    return sorted({join(artifact) for artifact in needed} | set(archives))


def join(artifact: Artifact) -> str:
    """Return the coordinate of a jgo artifact; the inverse of `split`."""
    kind = [artifact.packaging, artifact.classifier] if artifact.classifier else [artifact.packaging]
    suffix = [] if kind == ["jar"] else kind
    return ":".join((artifact.groupId, artifact.artifactId, artifact.version, *suffix))


class _Cancelled(Exception):
    """The remaining downloads are no longer needed."""


def download(coordinates: Sequence[str], target: Path, advance: Callable[[int], None]) -> Iterator[tuple[str, Path]]:
    """Download files into the empty directory `target`; yield each as it completes, in any order, unverified.

    `advance` is called with the number of received bytes, from several threads. Proxies are taken from the
    environment. Raises Unavailable for the first file that cannot be downloaded.
    """
    import httpx  # slow to import, and not needed when the cache is complete

    cancelled = threading.Event()

    def count(received: int) -> None:
        if cancelled.is_set():
            raise _Cancelled
        advance(received)

    with httpx.Client(base_url=CENTRAL, timeout=TIMEOUT_S, follow_redirects=True) as client:
        pool = ThreadPoolExecutor(CONCURRENCY)
        try:
            running = {
                pool.submit(_download, client, coordinate, target, count, cancelled): coordinate
                for coordinate in coordinates
            }
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
        finally:
            cancelled.set()
            pool.shutdown(cancel_futures=True)


def _download(
    client: httpx.Client, coordinate: str, target: Path, count: Callable[[int], None], cancelled: threading.Event
) -> Path:
    from httpx import HTTPStatusError, TransportError

    path = target / layout(coordinate)
    path.parent.mkdir(parents=True, exist_ok=True)
    failure: HTTPStatusError | TransportError | None = None
    for _ in range(ATTEMPTS):
        try:
            with client.stream("GET", str(layout(coordinate))) as response, path.open("wb") as file:
                response.raise_for_status()
                for block in response.iter_bytes():
                    file.write(block)
                    count(len(block))
            return path
        except HTTPStatusError as error:
            failure = error
            if error.response.status_code == 404:
                raise Unavailable(f"Maven Central has no {coordinate}") from error
        except TransportError as error:
            failure = error
        if cancelled.wait(PAUSE_S):
            break
    raise Unavailable(f"cannot download {coordinate}: {_cause(failure)}") from failure


def _cause(error: BaseException | None) -> str:
    """Describe the innermost cause of an error: httpx wraps httpcore, which wraps the socket's error."""
    while error and (deeper := error.__cause__ or error.__context__):
        error = deeper
    return f"{type(error).__name__}: {error}".partition("\n")[0]
