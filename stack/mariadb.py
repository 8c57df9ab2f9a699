"""MariaDB as the distribution packages it, with a log like Moodle's and a user that may follow it."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from stack.errors import StackError, Unavailable
from stack.server import ASK_S, HOST, Place, Server

DATABASE = "demo"
TABLE = "mdl_logstore_standard_log"
#: who follows the log, from this machine only
USER, PASSWORD = "debezium", "debezium"
#: what to install where the commands are missing
PACKAGES = "mariadb-server-core mariadb-client-core"
#: size of the redo log [bytes]
LOG_BYTES = 16 * 1024 * 1024
#: longest path of a socket [bytes]
LONGEST = 107
#: longest time a statement or the making of the system tables may take [s]
PATIENCE_S = 60.0

#: the four columns of Moodle's log that matter here
CREATE = f"""\
CREATE TABLE IF NOT EXISTS {DATABASE}.{TABLE} (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, \
eventname VARCHAR(255) NOT NULL, userid BIGINT NOT NULL, timecreated BIGINT NOT NULL);
"""
#: run at every start, before anybody is let in: one statement a line. The table goes into the binlog, for Debezium
#: cannot begin where nothing was ever logged (GtidSet is null, it says)
INIT = f"""\
CREATE DATABASE IF NOT EXISTS {DATABASE};
{CREATE}\
SET SESSION sql_log_bin = 0;
CREATE USER IF NOT EXISTS '{USER}'@'{HOST}' IDENTIFIED BY '{PASSWORD}';
GRANT RELOAD, SHOW DATABASES, REPLICATION SLAVE, BINLOG MONITOR, SLAVE MONITOR ON *.* TO '{USER}'@'{HOST}';
GRANT SELECT, LOCK TABLES ON {DATABASE}.* TO '{USER}'@'{HOST}';
"""


def find(command: str) -> str:
    """The path of one of MariaDB's commands. Raises Unavailable, naming the packages to install."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    if found := shutil.which(command, path=path):
        return found
    raise Unavailable(f"no {command} here: apt-get install --no-install-recommends {PACKAGES}")


def require() -> None:
    """Raises Unavailable if one of the commands used here is missing."""
    for one in ("mariadbd", "mariadb-install-db", "mariadb"):
        find(one)


def socket_of(home: Path) -> Path:
    """The socket that leads to the server with all rights. Raises StackError if the system allows no such path."""
    path = home / "socket"
    if len(os.fsencode(path)) > LONGEST:
        raise StackError(f"{path}: longer than a socket's path may be ({LONGEST} bytes): choose a shorter directory")
    return path


def settings(place: Place) -> dict[str, str | int]:
    """The whole my.cnf."""
    home = place.home
    return {
        "bind-address": HOST,
        "port": place.ports["sql"],
        "socket": str(socket_of(home)),
        "datadir": str(home / "data"),
        "tmpdir": str(home / "tmp"),
        "pid-file": str(home / "pid"),
        "init-file": str(home / "init.sql"),
        "skip-name-resolve": 1,
        "character-set-server": "utf8mb4",
        # `ready` hangs up without a word: not worth a line
        "log-warnings": 1,
        # what Debezium follows: whole rows, and never one that a crash could take back
        "server-id": 1,
        "log-bin": "binlog",
        "binlog-format": "ROW",
        "binlog-row-image": "FULL",
        "sync-binlog": 1,
        # small [bytes]
        "innodb-buffer-pool-size": 32 * 1024 * 1024,
        "innodb-log-file-size": LOG_BYTES,
        # as root it starts only if told so
        **({"user": "root"} if os.geteuid() == 0 else {}),
    }


def install(home: Path) -> None:
    """Make the system tables: root comes in by the socket alone, as the user who runs this. Raises StackError."""
    shutil.rmtree(home / "data", ignore_errors=True)  # half made by a command that was killed
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
        timeout=PATIENCE_S,
        check=False,
    )
    if tool.returncode:
        raise StackError(f"cannot make a database in {home}: {' '.join(tool.stdout.split())[-300:]}")
    (home / "installed").touch()  # last: it says that all the rest is there


def command(place: Place, files: Sequence[Path]) -> list[str]:
    """Configure and, the first time, make the system tables; the command line of the server."""
    home = place.home
    lines = [f"{name} = {value}\n" for name, value in settings(place).items()]
    (home / "tmp").mkdir(exist_ok=True)
    (home / "my.cnf").write_text("[mariadbd]\n" + "".join(lines), encoding="utf-8")
    (home / "init.sql").write_text(INIT, encoding="utf-8")
    if not (home / "installed").exists():
        install(home)
    return [find("mariadbd"), f"--defaults-file={home / 'my.cnf'}"]


def ready(place: Place) -> bool:
    """Whether this directory's server greets: it does so once it has its port and has run INIT."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ASK_S)
        try:
            connection.connect(str(socket_of(place.home)))
            greeting = connection.recv(5)
        except OSError:
            return False
    return greeting[4:] == b"\x0a"  # after the header: the version of the protocol, or 255 and an error


def execute(directory: Path, statements: str) -> str:
    """Run SQL with all rights in the demo's database of a stack's directory; rows as lines, cells parted by tabs.

    Raises StackError with the server's words if it refuses.
    """
    arguments = ("--no-defaults", "--batch", "--skip-column-names", f"--user={getpass.getuser()}")
    where = f"--socket={socket_of(directory.absolute() / MARIADB.name)}"
    done = subprocess.run(
        [find("mariadb"), *arguments, where, DATABASE],
        input=statements,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
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
    settle=lambda place: None,
    environment=lambda place: {"RISK_MARIADB": f"{HOST}:{place.ports['sql']}"},
    require=require,
)
