"""The distribution's MariaDB, with a table like Moodle's log and a user for Debezium."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from stack.errors import StackError, Unavailable
from stack.server import HOST, REQUEST_TIMEOUT_S, Instance, Server, write_lines

DATABASE = "demo"
TABLE = "mdl_logstore_standard_log"
#: Debezium's user, which may connect from this machine only
USER, PASSWORD = "debezium", "debezium"
#: Debian packages that contain the commands
PACKAGES = "mariadb-server-core mariadb-client-core"
#: size of the redo log [bytes]
LOG_BYTES = 16 * 1024 * 1024
#: maximum length of a socket's path [bytes]
MAX_SOCKET_PATH = 107
#: timeout of a statement and of creating the system tables [s]
TIMEOUT_S = 60.0

#: the four columns of Moodle's log that the pipeline reads
CREATE = f"""\
CREATE TABLE IF NOT EXISTS {DATABASE}.{TABLE} (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, \
eventname VARCHAR(255) NOT NULL, userid BIGINT NOT NULL, timecreated BIGINT NOT NULL);
"""
#: run at every start before clients are accepted, one statement per line. The table is created in the binlog, since
#: Debezium cannot start from an empty one (its first GtidSet would be null)
INIT = f"""\
CREATE DATABASE IF NOT EXISTS {DATABASE};
{CREATE}\
SET SESSION sql_log_bin = 0;
CREATE USER IF NOT EXISTS '{USER}'@'{HOST}' IDENTIFIED BY '{PASSWORD}';
GRANT RELOAD, SHOW DATABASES, REPLICATION SLAVE, BINLOG MONITOR, SLAVE MONITOR ON *.* TO '{USER}'@'{HOST}';
GRANT SELECT, LOCK TABLES ON {DATABASE}.* TO '{USER}'@'{HOST}';
"""


def find(command: str) -> str:
    """Return the path of a MariaDB command. Raises Unavailable, naming the packages to install."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    if executable := shutil.which(command, path=path):
        return executable
    raise Unavailable(f"{command} not found: apt-get install --no-install-recommends {PACKAGES}")


def require() -> None:
    """Raise Unavailable if one of the commands is missing."""
    for name in ("mariadbd", "mariadb-install-db", "mariadb"):
        find(name)


def socket_of(home: Path) -> Path:
    """Return the path of the administrator's socket. Raises StackError if it is too long for the system."""
    path = home / "socket"
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise StackError(
            f"{path}: longer than a socket's path may be ({MAX_SOCKET_PATH} bytes): use a shorter directory"
        )
    return path


def settings(instance: Instance) -> dict[str, str | int]:
    """Return the contents of my.cnf."""
    home = instance.home
    return {
        "bind-address": HOST,
        "port": instance.ports["sql"],
        "socket": str(socket_of(home)),
        "datadir": str(home / "data"),
        "tmpdir": str(home / "tmp"),
        "pid-file": str(home / "pid"),
        "init-file": str(home / "init.sql"),
        "skip-name-resolve": 1,
        "character-set-server": "utf8mb4",
        # no warnings about aborted connections, which `ready` causes
        "log-warnings": 1,
        # for Debezium: whole rows, and only those that survive a crash
        "server-id": 1,
        "log-bin": "binlog",
        "binlog-format": "ROW",
        "binlog-row-image": "FULL",
        "sync-binlog": 1,
        # small sizes [bytes]
        "innodb-buffer-pool-size": 32 * 1024 * 1024,
        "innodb-log-file-size": LOG_BYTES,
        # run by root, it requires this
        **({"user": "root"} if os.geteuid() == 0 else {}),
    }


def install(home: Path) -> None:
    """Create the system tables; root may connect only by the socket, as the current user. Raises StackError."""
    shutil.rmtree(home / "data", ignore_errors=True)  # left over if an earlier call was killed
    tool = subprocess.run(
        [
            find("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={home / 'data'}",
            f"--user={getpass.getuser()}",
            "--auth-root-authentication-method=socket",
            f"--auth-root-socket-user={getpass.getuser()}",
            f"--innodb-log-file-size={LOG_BYTES}",
            "--skip-name-resolve",
            "--skip-test-db",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if tool.returncode:
        raise StackError(f"cannot create a database in {home}: {' '.join(tool.stdout.split())[-300:]}")
    (home / "installed").touch()  # last: marks that the rest is complete


def command(instance: Instance, files: Sequence[Path]) -> list[str]:
    """Write the configuration, create the system tables if they are new, and return the server's command line."""
    home = instance.home
    write_lines(home / "my.cnf", settings(instance), header="[mariadbd]\n")
    (home / "tmp").mkdir(exist_ok=True)
    (home / "init.sql").write_text(INIT, encoding="utf-8")
    if not (home / "installed").exists():
        install(home)
    return [find("mariadbd"), f"--defaults-file={home / 'my.cnf'}"]


def ready(instance: Instance) -> bool:
    """Return whether this instance greets a client, which it does after it has bound its port and run INIT."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(REQUEST_TIMEOUT_S)
        try:
            connection.connect(str(socket_of(instance.home)))
            greeting = connection.recv(5)
        except OSError:
            return False
    return greeting[4:] == b"\x0a"  # after the 4-byte header: the protocol version, or 255 for an error


def execute(directory: Path, statements: str) -> str:
    """Run SQL as administrator in the demo database of a stack's directory; return tab-separated rows.

    Raises StackError with the server's message if a statement fails.
    """
    arguments = ("--no-defaults", "--batch", "--skip-column-names", f"--user={getpass.getuser()}")
    socket_option = f"--socket={socket_of(directory.absolute() / MARIADB.name)}"
    done = subprocess.run(
        [find("mariadb"), *arguments, socket_option, DATABASE],
        input=statements,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise StackError(f"MariaDB: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


MARIADB = Server(
    name="mariadb",
    roots=(),
    ports=("sql",),
    command=command,
    ready=ready,
    settle=lambda instance: None,
    environment=lambda instance: {"RISK_MARIADB": f"{HOST}:{instance.ports['sql']}"},
    require=require,
)
