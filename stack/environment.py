"""Where the servers of a directory can be reached, as environment variables."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stack.errors import StackError


@dataclass(frozen=True)
class Environment:
    """Environment variables that lead clients to the servers of a directory."""

    directory: Path
    variables: Mapping[str, str]

    @property
    def broker(self) -> str:
        """host:port of Kafka, of each broker with commas between. Raises StackError if it is not running."""
        return self._get("RISK_BROKER", "broker")

    @property
    def registry(self) -> str:
        """Base URL of the Confluent API. Raises StackError if the registry is not running."""
        return self._get("RISK_SCHEMA_REGISTRY", "registry")

    @property
    def settings(self) -> dict[str, str]:
        """The worker's settings for Kafka and the registry. Raises StackError if one of them is not running."""
        login = {name: value for name, value in self.variables.items() if name.startswith("RISK_KAFKA_")}
        return {"RISK_BROKER": self.broker, "RISK_SCHEMA_REGISTRY": self.registry, **login}

    @property
    def mariadb(self) -> str:
        """host:port of MariaDB. Raises StackError if it is not running."""
        return self._get("RISK_MARIADB", "MariaDB")

    @property
    def connect(self) -> str:
        """Base URL of Kafka Connect. Raises StackError if it is not running."""
        return self._get("RISK_CONNECT", "Kafka Connect")

    @property
    def search(self) -> str:
        """Base URL of Elasticsearch. Raises StackError if it is not running."""
        return self._get("RISK_SEARCH", "Elasticsearch")

    @property
    def opensearch(self) -> str:
        """Base URL of OpenSearch. Raises StackError if it is not running."""
        return self._get("RISK_OPENSEARCH", "OpenSearch")

    def __str__(self) -> str:
        """Export statements for a shell."""
        pairs = sorted(self.variables.items())
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in pairs)

    def _get(self, variable: str, server: str) -> str:
        if variable not in self.variables:
            raise StackError(f"no {server} is running in {self.directory}")
        return self.variables[variable]
