"""Debezium between a MariaDB and a Kafka that `stack` started, configured by the files that ship in connect/."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import stack
from stack.registry import BASE
from tools.e2e.workers import ROOT, TrialError

#: connectors' configurations, and the command that registers them
CONNECT = ROOT / "connect"
#: how long Connect may take until a connector runs [s]
START_S = 90.0


def hosts(servers: stack.Environment) -> dict[str, str]:
    """What source-mariadb.json says otherwise here than in docker compose: where its servers are, and nothing else."""
    host, port = servers.mariadb.split(":")
    apicurio = f"{servers.registry.removesuffix(BASE)}/apis/registry/v2"
    return {
        "database.hostname": host,
        "database.port": port,
        "schema.history.internal.kafka.bootstrap.servers": servers.broker,
        "key.converter.apicurio.registry.url": apicurio,
        "value.converter.apicurio.registry.url": apicurio,
    }


def register(connect: str, file: Path, changes: Mapping[str, object]) -> None:
    """Give Kafka Connect at `connect` (its URL) a connector, named after its file; it runs when this returns.

    Raises TrialError with Connect's reason.
    """
    arguments = [f"--set={name}={value}" for name, value in changes.items()]
    done = subprocess.run(
        [sys.executable, str(CONNECT / "register.py"), f"--url={connect}", f"--timeout={START_S}", *arguments, file],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise TrialError(done.stderr.strip() or f"register.py ended with {done.returncode}")
