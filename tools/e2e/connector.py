"""Debezium between a MariaDB and a Kafka started by `stack`, configured by the files shipped in connect/."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import stack
from stack.registry import BASE
from tools.e2e.workers import ROOT, E2EError

#: directory of the connector configurations and of register.py
CONNECT = ROOT / "connect"
#: time a connector has to reach the state RUNNING [s]
START_S = 90.0


def hosts(servers: stack.Environment) -> dict[str, str]:
    """Return the properties of source-mariadb.json that differ from docker compose: only the servers' addresses."""
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
    """Register a connector, named after its file, with Kafka Connect at the URL `connect`, and wait until it runs.

    Raises E2EError with Connect's reason.
    """
    arguments = [f"--set={name}={value}" for name, value in changes.items()]
    done = subprocess.run(
        [sys.executable, str(CONNECT / "register.py"), f"--url={connect}", f"--timeout={START_S}", *arguments, file],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise E2EError(done.stderr.strip() or f"register.py exited with {done.returncode}")
