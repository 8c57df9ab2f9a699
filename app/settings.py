"""All settings with units and defaults: the only module that reads RISK_ variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal
from urllib.parse import urlsplit

from app.errors import ConfigError
from app.kafka import security
from app.page_settings import GROUP as _PAGE
from app.page_settings import PageSettings
from app.risk_settings import GROUP as _RISK
from app.setting import is_topic_name, misspelt, parse, parts, without_credentials
from app.setting import setting as _setting
from models.topic_names import TopicNames

Emit = Literal["batch", "changes"]
TimeUnit = Literal["ms", "s"]
Deduplicate = Literal["off", "log-id"]
LogFormat = Literal["text", "json"]
#: column of `Settings.describe` at which meanings begin
_INDENT = 25


#: headings of `Settings.describe`
_SERVERS, _INPUT, _OUTPUT, _WORKER = "Servers", "Input", "Output and scoring", "Worker"
_GROUPS = (_SERVERS, security.GROUP, _INPUT, _OUTPUT, _RISK, _WORKER, _PAGE)


@dataclass(frozen=True, slots=True)
class Settings(PageSettings):
    """The settings. `Settings.from_env` reads and checks them; `Settings.describe` lists them."""

    broker: str = _setting(
        _SERVERS, "127.0.0.1:9092", "RISK_BROKER", "Kafka's bootstrap servers, host:port[,host:port…]"
    )
    schema_registry: str = _setting(
        _SERVERS, "http://127.0.0.1:8081", "RISK_SCHEMA_REGISTRY", "URL of the schema registry (Confluent's API)"
    )
    registry_user: str = _setting(
        _SERVERS, "", "RISK_SCHEMA_REGISTRY_USER", "user of the registry, if its URL has none"
    )
    registry_password: str = _setting(
        _SERVERS, "", "RISK_SCHEMA_REGISTRY_PASSWORD", "that user's password", secret=True
    )
    registry_password_file: str = _setting(
        _SERVERS, "", "RISK_SCHEMA_REGISTRY_PASSWORD_FILE", "path of a file with the password instead"
    )
    registry_token: str = _setting(
        _SERVERS, "", "RISK_SCHEMA_REGISTRY_TOKEN", "bearer token for the registry, instead of a user", secret=True
    )
    registry_token_file: str = _setting(
        _SERVERS, "", "RISK_SCHEMA_REGISTRY_TOKEN_FILE", "path of a file with the token instead"
    )
    registry_ca: str = _setting(
        _SERVERS,
        "",
        "RISK_SCHEMA_REGISTRY_CA",
        "path of the certificates (PEM) of the authorities that may vouch for the registry; empty: the usual ones",
    )
    registry_patience_s: float = _setting(
        _SERVERS,
        10.0,
        "RISK_REGISTRY_PATIENCE",
        "how long a schema id that the registry does not know is requested before its records are given up [s]",
    )
    source_topic: str = _setting(
        _INPUT,
        "demo.demo.mdl_logstore_standard_log",
        "RISK_SOURCE_TOPIC",
        "topic of Moodle's log: Avro, written by Debezium and unwrapped",
    )
    schema_subject: str = _setting(
        _INPUT,
        "",
        "RISK_SCHEMA_SUBJECT",
        "subject of the log's schema; empty: named by the topic (…-value), else the schema of its latest record",
    )
    time_unit: TimeUnit = _setting(
        _INPUT, "ms", "RISK_TIME_UNIT", "unit of timecreated: ms, or s, which Moodle itself writes"
    )
    deduplicate: Deduplicate = _setting(
        _INPUT,
        "off",
        "RISK_DEDUPLICATE",
        "off: each row counts, as in KSQL; log-id: a row whose id has been applied is dropped and counted",
    )
    max_ahead_s: float = _setting(
        _INPUT,
        0.0,
        "RISK_MAX_AHEAD",
        "events further ahead of the clock become dead letters [s]; 0: none, as in KSQL; see docs/operations.md",
    )
    ignore_headers: str = _setting(
        _INPUT,
        "__debezium.*",
        "RISK_IGNORE_HEADERS",
        "record headers that are not forwarded to the output, name[,name…]; a * at the end stands for anything",
    )
    topic_prefix: str = _setting(
        _OUTPUT, "", "RISK_TOPIC_PREFIX", "prefix of the output topics, so that the app can run beside KSQL"
    )
    emit: Emit = _setting(
        _OUTPUT, "batch", "RISK_EMIT", "batch: one row for each key and flush; changes: every revision, as KSQL"
    )
    model: str = _setting(
        _OUTPUT,
        "",
        "RISK_MODEL",
        "risk model: v2s, v2, v1 or a path; none switches scoring off; empty: v2s, or v2 for a log without eventname",
    )
    replication: int = _setting(
        _OUTPUT, -1, "RISK_REPLICATION", "replication factor of the topics the app creates; -1: the brokers' default"
    )
    app_id: str = _setting(
        _WORKER,
        "moodle-risk",
        "RISK_APP_ID",
        "consumer group; prefix of internal topics and transactional ids; workers of one app share it",
    )
    datadir: Path = _setting(
        _WORKER,
        Path("moodle-risk-data"),
        "RISK_DATADIR",
        "directory of the local state (RocksDB); the workers of one machine share it, each in a numbered place",
    )
    store: str = _setting(_WORKER, "rocksdb://", "RISK_STORE", "rocksdb://, or memory:// for tests")
    linger_ms: int = _setting(
        _WORKER,
        100,
        "RISK_LINGER_MS",
        "how long an event may wait for others, so that they share a transaction [ms]; 0: not at all",
    )
    batch_rows: int = _setting(
        _WORKER, 40_000, "RISK_BATCH_ROWS", "most visits in one flush, a third of it with RISK_EMIT=changes"
    )
    max_batch_bytes: int = _setting(
        _WORKER, 1 << 28, "RISK_MAX_BATCH_BYTES", "largest record batch that is read, unpacked [bytes]"
    )
    standbys: int = _setting(
        _WORKER,
        0,
        "RISK_STANDBYS",
        "number of other workers that keep a copy of each partition's state; 0: who takes over reads the changelog",
    )
    session_timeout_s: float = _setting(
        _WORKER,
        6.0,
        "RISK_SESSION_TIMEOUT",
        "time without a heartbeat after which the group gives a worker's partitions to others [s]",
    )
    stall_timeout_s: float = _setting(
        _WORKER,
        60.0,
        "RISK_STALL_TIMEOUT",
        "a worker that makes no progress for this long although there is work ends with exit code 1 [s]",
    )
    log_format: LogFormat = _setting(
        _WORKER, "text", "RISK_LOG_FORMAT", "text: lines for people; json: one JSON object for each event"
    )
    web_bind: str = _setting(
        _WORKER, "127.0.0.1", "RISK_WEB_BIND", "address of /health, /stats and /metrics, IPv4 or IPv6"
    )
    web_port: int = _setting(_WORKER, 6066, "RISK_WEB_PORT", "port of these pages; 0: any that is free")
    web_hosts: str = _setting(
        _WORKER, "", "RISK_WEB_HOSTS", "further host names, separated by commas, by which these pages may be requested"
    )

    @property
    def unit_ms(self) -> int:
        """Milliseconds in one unit of timecreated."""
        return 1000 if self.time_unit == "s" else 1

    @property
    def max_ahead_ms(self) -> int:
        """How far ahead of the clock an event may be [ms], 0 for any."""
        return round(1000 * self.max_ahead_s)

    @property
    def ignored_headers(self) -> list[str]:
        """The names of headers that are not forwarded, some with * at the end."""
        return parts(self.ignore_headers)

    @property
    def emit_every_change(self) -> bool:
        """Whether every revision is written, as KSQL does with its cache off."""
        return self.emit == "changes"

    @property
    def deduplicates(self) -> bool:
        """Whether rows whose log id has been applied are dropped."""
        return self.deduplicate == "log-id"

    @property
    def topic_names(self) -> TopicNames:
        """The names of all topics the app reads or writes."""
        return TopicNames.of(source=self.source_topic, prefix=self.topic_prefix, app_id=self.app_id)

    @property
    def web_address(self) -> str:
        """The address of the web pages; of IPv6 without brackets."""
        return self.web_bind.strip("[]")

    @property
    def web_names(self) -> list[str]:
        """The host names by which the web pages may be requested, besides this machine's and addresses."""
        return [self.web_address, *self.web_hosts.split(",")]

    @property
    def brokers(self) -> list[str]:
        """The bootstrap servers as a list."""
        return [b.strip() for b in self.broker.split(",")]

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read the RISK_ variables. Raises ConfigError with one line naming the variable."""
        values: dict[str, Any] = {}
        for f in fields(cls):
            variable = f.metadata["variable"]
            if variable in environ:
                values[f.name] = parse(variable, environ[variable], f.default)
        settings = cls(**values)
        settings._check()
        return settings

    @classmethod
    def for_refusal(cls, environ: Mapping[str, str]) -> Settings:
        """Return settings for saying that the others in `environ` are wrong: how to log, and as which app."""
        names = {"app_id": "RISK_APP_ID", "log_format": "RISK_LOG_FORMAT"}
        values: dict[str, Any] = {name: environ[v] for name, v in names.items() if v in environ}
        return cls(**values)

    def _check(self) -> None:
        for server in self.brokers:
            host, _, port = server.rpartition(":")
            if not host or "/" in host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ConfigError(f"RISK_BROKER: {server!r} is not host:port, e.g. 127.0.0.1:9092")
        self.check_security()
        self.check_risk()
        self.check_page()
        self._check_registry()
        for variable, value, allowed in (
            ("RISK_EMIT", self.emit, ("batch", "changes")),
            ("RISK_TIME_UNIT", self.time_unit, ("ms", "s")),
            ("RISK_DEDUPLICATE", self.deduplicate, ("off", "log-id")),
            ("RISK_STORE", self.store, ("rocksdb://", "memory://")),
            ("RISK_LOG_FORMAT", self.log_format, ("text", "json")),
        ):
            if value not in allowed:
                raise ConfigError(f"{variable}: {value!r} is none of {', '.join(allowed)}")
        for variable, name in (("RISK_SOURCE_TOPIC", self.source_topic), ("RISK_APP_ID", self.app_id)):
            if not is_topic_name(name):
                raise ConfigError(
                    f"{variable}: {name!r} is not a topic name (1 to 200 letters, digits, '.', '_' or '-')"
                )
        if self.topic_prefix and not is_topic_name(self.topic_prefix):
            raise ConfigError(
                f"RISK_TOPIC_PREFIX: {self.topic_prefix!r} may contain only letters, digits, '.', '_' and '-'"
            )
        self._check_numbers()

    def _check_registry(self) -> None:
        url, shown = urlsplit(self.schema_registry), without_credentials(self.schema_registry)
        if url.scheme not in ("http", "https") or not url.netloc:
            raise ConfigError(f"RISK_SCHEMA_REGISTRY: {shown!r} is not an http:// or https:// URL")
        try:
            _ = url.port
        except ValueError:
            raise ConfigError(f"RISK_SCHEMA_REGISTRY: {shown!r} has no port from 1 to 65535") from None

    def _check_numbers(self) -> None:
        for variable, seconds, low, high in (
            ("RISK_SESSION_TIMEOUT", self.session_timeout_s, 1, 300),
            ("RISK_REGISTRY_PATIENCE", self.registry_patience_s, 0, 3600),
            ("RISK_STALL_TIMEOUT", self.stall_timeout_s, 5, 3600),
            ("RISK_MAX_AHEAD", self.max_ahead_s, 0, 315_360_000),
        ):
            if not low <= seconds <= high:
                raise ConfigError(f"{variable}: {seconds:g} s is not within {low} to {high}")
        for variable, number, low, high in (
            ("RISK_LINGER_MS", self.linger_ms, 0, 10_000),
            ("RISK_BATCH_ROWS", self.batch_rows, 1, 1_000_000),
            ("RISK_STANDBYS", self.standbys, 0, 10),
        ):
            if not low <= number <= high:
                raise ConfigError(f"{variable}: {number} is not within {low} to {high}")
        if not 0 <= self.web_port < 65536:
            raise ConfigError(f"RISK_WEB_PORT: {self.web_port} is not a port (1 to 65535), nor 0 for any that is free")
        if self.max_batch_bytes < 1 << 20:
            raise ConfigError(f"RISK_MAX_BATCH_BYTES: {self.max_batch_bytes} is not at least {1 << 20}")
        if self.replication != -1 and self.replication < 1:
            raise ConfigError(f"RISK_REPLICATION: {self.replication} is neither at least 1 nor -1")

    @classmethod
    def misspelt(cls, environ: Mapping[str, str]) -> list[str]:
        """Return one line for each variable that is no setting, but whose name is nearly that of one."""
        return misspelt(environ, [f.metadata["variable"] for f in fields(cls)])

    @classmethod
    def listed(cls) -> list[Field[Any]]:
        """Return the settings by group."""
        return sorted(fields(cls), key=lambda f: _GROUPS.index(f.metadata["group"]))

    @classmethod
    def describe(cls, width: int = 100) -> str:
        """List the settings by group, in lines of `width` characters: variable, default, meaning."""
        lines: list[str] = []
        group = ""
        for f in cls.listed():
            if f.metadata["group"] != group:
                group = f.metadata["group"]
                lines += ["", group]
            default = f"default: {f.default}" if str(f.default) else "default: empty"
            meaning = wrap(f"{f.metadata['text']} ({default})", max(40, width - _INDENT))
            variable = f"  {f.metadata['variable']}"
            if len(variable) < _INDENT:
                variable = variable.ljust(_INDENT) + meaning.pop(0)
            lines += [variable, *(" " * _INDENT + line for line in meaning)]
        return "\n".join(lines[1:])
