"""Every setting, its unit and its default, read from the environment at one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from app.errors import ConfigError

Emit = Literal["batch", "changes"]
TimeUnit = Literal["ms", "s"]


def _setting(default: Any, variable: str, text: str) -> Any:
    return field(default=default, metadata={"variable": variable, "text": text})


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says. `Settings.from_env` checks it; `Settings.describe` lists it."""

    broker: str = _setting("127.0.0.1:9092", "RISK_BROKER", "Kafka's bootstrap servers, host:port[,host:port…]")
    schema_registry: str = _setting(
        "http://127.0.0.1:8081", "RISK_SCHEMA_REGISTRY", "URL of the schema registry (Confluent's API)"
    )
    source_topic: str = _setting(
        "demo.demo.mdl_logstore_standard_log", "RISK_SOURCE_TOPIC", "topic of Moodle's log, Debezium unwrapped, Avro"
    )
    topic_prefix: str = _setting("", "RISK_TOPIC_PREFIX", "put before the names of the four MOODLE_LOGS_ topics")
    emit: Emit = _setting("batch", "RISK_EMIT", "batch: a row per touched key per batch; changes: every revision")
    time_unit: TimeUnit = _setting("ms", "RISK_TIME_UNIT", "unit of timecreated: ms, or s as Moodle itself writes it")
    datadir: Path = _setting(Path("moodle-risk-data"), "RISK_DATADIR", "directory of the local state (RocksDB)")
    app_id: str = _setting(
        "moodle-risk", "RISK_APP_ID", "consumer group, and prefix of internal topics and transactions"
    )
    web_port: int = _setting(6066, "RISK_WEB_PORT", "port of /health and /stats")
    web_bind: str = _setting("127.0.0.1", "RISK_WEB_BIND", "address /health and /stats listen on")
    store: str = _setting("rocksdb://", "RISK_STORE", "rocksdb:// or memory:// (tests)")
    model: str = _setting("", "RISK_MODEL", "path of a risk model, none to switch scoring off, empty: the shipped one")
    session_timeout_s: float = _setting(
        6.0, "RISK_SESSION_TIMEOUT", "silence after which the group takes a worker for dead [s]"
    )
    stall_timeout_s: float = _setting(
        60.0, "RISK_STALL_TIMEOUT", "a worker that has something to do and makes no step for so long ends itself [s]"
    )
    batch_rows: int = _setting(40_000, "RISK_BATCH_ROWS", "most visits in one flush or frame")
    replication: int = _setting(1, "RISK_REPLICATION", "replication factor of the topics the app declares")

    @property
    def unit_ms(self) -> int:
        """Milliseconds in one unit of timecreated."""
        return 1000 if self.time_unit == "s" else 1

    @property
    def brokers(self) -> list[str]:
        """The bootstrap servers, one by one."""
        return [b.strip() for b in self.broker.split(",")]

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read the RISK_ variables. Raises ConfigError with one line naming the variable."""
        values: dict[str, Any] = {}
        known = set()
        for f in fields(cls):
            variable = f.metadata["variable"]
            known.add(variable)
            if variable in environ:
                values[f.name] = _parse(variable, environ[variable], f.default)
        settings = cls(**values)
        settings._check()
        return settings

    def _check(self) -> None:
        for server in self.brokers:
            host, _, port = server.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ConfigError(f"RISK_BROKER: {server!r} is not host:port, e.g. 127.0.0.1:9092")
        url = urlsplit(self.schema_registry)
        if url.scheme not in ("http", "https") or not url.netloc:
            raise ConfigError(f"RISK_SCHEMA_REGISTRY: {self.schema_registry!r} is not an http:// or https:// URL")
        try:
            _ = url.port
        except ValueError:
            raise ConfigError(f"RISK_SCHEMA_REGISTRY: {self.schema_registry!r} has no port from 1 to 65535") from None
        for variable, value, allowed in (
            ("RISK_EMIT", self.emit, ("batch", "changes")),
            ("RISK_TIME_UNIT", self.time_unit, ("ms", "s")),
            ("RISK_STORE", self.store, ("rocksdb://", "memory://")),
        ):
            if value not in allowed:
                raise ConfigError(f"RISK_{variable[5:]}: {value!r} is none of {', '.join(allowed)}")
        for variable, name in (("RISK_SOURCE_TOPIC", self.source_topic), ("RISK_APP_ID", self.app_id)):
            if not is_topic_name(name):
                raise ConfigError(f"{variable}: {name!r} is no topic name (1 to 200 letters, digits, '.', '_' or '-')")
        if self.topic_prefix and not is_topic_name(self.topic_prefix):
            raise ConfigError(f"RISK_TOPIC_PREFIX: {self.topic_prefix!r} may hold letters, digits, '.', '_' and '-'")
        if not 0 < self.web_port < 65536:
            raise ConfigError(f"RISK_WEB_PORT: {self.web_port} is no port (1 to 65535)")
        if not 1 <= self.session_timeout_s <= 300:
            raise ConfigError(f"RISK_SESSION_TIMEOUT: {self.session_timeout_s:g} s is not within 1 to 300")
        if not 5 <= self.stall_timeout_s <= 3600:
            raise ConfigError(f"RISK_STALL_TIMEOUT: {self.stall_timeout_s:g} s is not within 5 to 3600")
        if not 1 <= self.batch_rows <= 1_000_000:
            raise ConfigError(f"RISK_BATCH_ROWS: {self.batch_rows} is not within 1 to 1000000")
        if self.replication < 1:
            raise ConfigError(f"RISK_REPLICATION: {self.replication} is not at least 1")

    @classmethod
    def describe(cls) -> str:
        """One line a setting: variable, default, meaning."""
        rows = [(f.metadata["variable"], str(f.default) or '""', f.metadata["text"]) for f in fields(cls)]
        return "\n".join(f"  {v:<22} {d:<38} {t}" for v, d, t in rows)


def is_topic_name(name: str) -> bool:
    """Whether a topic may be called so, with room for what is put around it."""
    return 0 < len(name) <= 200 and all(c.isascii() and (c.isalnum() or c in "._-") for c in name)


def _parse(variable: str, text: str, default: object) -> Any:
    if isinstance(default, (int, float)):
        try:
            return type(default)(text)
        except ValueError:
            raise ConfigError(f"{variable}: {text!r} is not a number") from None
    return cast(Any, Path(text)) if isinstance(default, Path) else text
