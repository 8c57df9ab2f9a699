"""docker-compose.yml and the files it refers to, checked without Docker: versions, ports, health checks, order."""

from __future__ import annotations

import getpass
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.kafka.topics import wanted
from app.settings import Settings
from page.access.passwords import fits
from page.access.users import read
from stack import Environment, mariadb
from stack.connect import SETTINGS as CONNECT_SETTINGS
from stack.registry import BASE, COMPATIBILITY, VERSION
from tests.test_connect import CONFIGS
from tools.demo.sources import CREATE
from tools.replay.log_rows import ALL_COLUMNS

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
#: services that run once and exit; all others keep running
ONCE = {name for name, service in SERVICES.items() if service["restart"] == "no"}
ENV_EXAMPLE = dict(
    line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if line and not line.startswith("#")
)
DOCKERFILES = [ROOT / "Dockerfile", ROOT / "docker/connect/Dockerfile"]
#: name:1.2[.3][…]; no tag that may later name another image
PINNED = re.compile(r"[a-z0-9./-]+:\d+(\.\d+)+([.-][A-Za-z0-9]+)*")
BUILT = {name for name, service in SERVICES.items() if "build" in service}


def interpolated(text: str) -> str:
    """Substitute variables as Compose does, with the values of .env.example."""
    return re.sub(r"\$\{(\w+)(?::[-?][^}]*)?\}", lambda match: ENV_EXAMPLE[match[1]], text)


def dependencies(name: str) -> dict[str, str]:
    """The services that one waits for, each with the condition."""
    return {other: options["condition"] for other, options in SERVICES[name].get("depends_on", {}).items()}


def paths_of(service: dict[str, Any]) -> Iterator[str]:
    """The files and folders of the repository that a service mounts or is built from."""
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            yield source
    if "build" in service:
        yield f"{service['build']['context']}/{service['build'].get('dockerfile', 'Dockerfile')}"


def load_topics() -> Any:
    """Import docker/topics.py, which is in no package: the image runs it as a script."""
    spec = importlib.util.spec_from_file_location("docker_topics", ROOT / "docker/topics.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_ksql_is_started_on_request() -> None:
    assert {name for name, service in SERVICES.items() if service.get("profiles")} == {"ksql", "ksql-cli"}


def test_keys_are_known_to_compose() -> None:
    """Compose refuses a file with a misspelt key."""
    known = {"build", "command", "depends_on", "entrypoint", "environment", "healthcheck", "hostname", "image", "init"}
    known |= {"logging", "mem_limit", "ports", "profiles", "restart", "security_opt", "stdin_open"}
    known |= {"stop_grace_period", "tty", "volumes"}
    assert {key for key in COMPOSE if not key.startswith("x-")} <= {"name", "services", "volumes"}
    for service in SERVICES.values():
        assert set(service) <= known
        assert set(service.get("healthcheck", {})) <= {"test", "interval", "timeout", "retries", "start_period"}
        assert all(isinstance(value, (str, int)) for value in service.get("environment", {}).values())


def duplicate_keys(node: yaml.Node) -> Iterator[str]:
    """The keys that a mapping in this node has more than once, each with its line."""
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value]
        yield from (f"{k.value} in line {k.start_mark.line + 1}" for k, _ in node.value if names.count(k.value) > 1)
        for _, value in node.value:
            yield from duplicate_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from duplicate_keys(value)


def test_no_key_stands_twice() -> None:
    """Compose refuses a file in which a mapping has a key twice; PyYAML silently takes the last one."""
    assert list(duplicate_keys(yaml.compose(TEXT, Loader=yaml.SafeLoader))) == []


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    """A build next year uses the same versions as one today."""
    assert PINNED.fullmatch(interpolated(SERVICES[name]["image"])), SERVICES[name]["image"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_base_images_are_pinned_and_downloads_have_a_checksum(path: Path) -> None:
    text = path.read_text()
    stages = set(re.findall(r"^FROM .* AS (\S+)", text, re.MULTILINE))
    bases = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) - stages
    assert bases
    assert all(PINNED.fullmatch(base) for base in bases)
    for line in re.findall(r"^ADD .*", text, re.MULTILINE):
        assert re.match(r"ADD --checksum=sha256:[0-9a-f]{64} ", line)


def test_versions_fit_the_tests_and_each_other() -> None:
    versions = {name: service["image"].rpartition(":")[2] for name, service in SERVICES.items()}
    assert versions["registry"] == VERSION
    # Kibana starts only with its own version of Elasticsearch, and the dashboard is in the format of 8.19
    assert versions["elasticsearch"] == versions["kibana"]
    assert versions["kibana"].startswith("8.19.")
    # Kafka 4 refuses the requests of KSQL's clients
    assert versions["kafka"].startswith("3.9.")
    (own,) = re.findall(r"^version = (\S+)", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    assert {versions[name] for name in BUILT} == {own}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_limited_and_private(name: str) -> None:
    """Memory and logs have limits, processes gain no privileges, and ports are published on localhost only."""
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["logging"]["options"]["max-size"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    for port in service.get("ports", []):
        # a variable of .env, since another program on the machine may have the port
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z]+_PORT:-\d+\}:\d+", port)
    assert not {"privileged", "network_mode", "cap_add", "pid"} & set(service)


def test_published_ports_are_unique() -> None:
    published = [interpolated(port) for service in SERVICES.values() for port in service.get("ports", [])]
    ports = [port.split(":")[1] for port in published]
    assert len(ports) == len(set(ports)) == len([name for name in ENV_EXAMPLE if name.endswith("_PORT")]) == 9


def test_there_may_be_several_workers() -> None:
    """`docker compose up --scale worker=3`: nothing of the service is there once only."""
    worker = SERVICES["worker"]
    assert not {"container_name", "hostname"} & set(worker)
    (port,) = worker["ports"]
    assert interpolated(port) == f"127.0.0.1:0:{Settings().web_port}"  # any port of the machine that is free
    # within a container no other worker has the port, so that it is known to the health check
    assert "RISK_WEB_PORT" not in worker["environment"]
    assert f"http://127.0.0.1:{Settings().web_port}/health" in worker["healthcheck"]["test"][-1]
    assert not [name for name, service in SERVICES.items() if "worker" in service.get("depends_on", {})]


def test_a_port_that_was_changed_is_the_one_that_clients_are_told() -> None:
    """Kafka's clients connect to the address it advertises, and Kibana's links begin with its own."""
    kafka, kibana = SERVICES["kafka"]["environment"], SERVICES["kibana"]["environment"]
    for text, variable in (
        (kafka["KAFKA_ADVERTISED_LISTENERS"], "KAFKA_PORT"),
        (kibana["SERVER_PUBLICBASEURL"], "KIBANA_PORT"),
    ):
        assert f"localhost:${{{variable}:-{ENV_EXAMPLE[variable]}}}" in text


def test_services_reach_one_another_without_a_proxy() -> None:
    """Docker passes the client's HTTP_PROXY to every container. Java ignores it; curl and Python do not."""
    users = {name for name, service in SERVICES.items() if re.search("curl|moodle-risk(-page)?:", service["image"])} - {
        "page-user"
    }
    assert users == {"topics", "registry-init", "index-template", "connectors", "dashboard", "worker", "page"}
    for name in users:
        environment = SERVICES[name]["environment"]
        assert environment["NO_PROXY"] == environment["no_proxy"]
        assert SERVICES.keys() - ONCE - {"ksql-cli"} <= set(environment["NO_PROXY"].split(","))


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONCE))
def test_a_service_that_keeps_running_has_a_health_check(name: str) -> None:
    health = SERVICES[name]["healthcheck"]
    assert health["test"][0] in ("CMD", "CMD-SHELL")
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_conditions_of_dependencies_can_become_true(name: str) -> None:
    """A service that runs once completes and never becomes healthy; the others become healthy and never complete."""
    for other, condition in dependencies(name).items():
        assert condition == ("service_completed_successfully" if other in ONCE else "service_healthy")
        # a service without a profile cannot wait for one that is started only on request
        assert SERVICES[name].get("profiles") or not SERVICES[other].get("profiles")


def test_services_start_after_what_they_need() -> None:
    """Topics before their writers, the index template before the sinks, and the connectors before the worker."""

    def before(name: str) -> set[str]:
        return set(dependencies(name)).union(*(before(other) for other in dependencies(name)))

    assert {"mariadb", "registry-init", "index-template", "topics", "connect"} <= before("connectors")
    assert {"topics", "registry", "connectors"} <= before("worker")
    assert {"topics", "page-user"} <= before("page")
    assert "topics" in before("connect")
    assert "topics" in before("registry")
    assert "elasticsearch" in before("kibana")
    assert "kibana" in before("dashboard")
    assert {"topics", "connectors"} <= before("ksql")


def test_every_path_is_in_the_repository() -> None:
    paths = {path for service in SERVICES.values() for path in paths_of(service)}
    assert paths
    for path in paths:
        assert (ROOT / path).exists(), path
    for source in re.findall(r"^COPY ((?!--from).*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        for path in source.split():
            assert (ROOT / path).exists(), path
            assert f"!{path}" in (ROOT / ".dockerignore").read_text().splitlines()


def test_what_runs_in_a_container_is_checked_out_with_unix_line_ends() -> None:
    """Git for Windows converts line ends, and a shell in a container fails on them."""
    paths = [str(path.relative_to(ROOT)) for path in (ROOT / "docker").rglob("*") if path.is_file()]
    scripts = [path for path in paths if not path.endswith(".pyc")]
    assert any(path.endswith(".sh") for path in scripts)
    command = ["git", "check-attr", "eol", "--", *scripts, "docker-compose.yml", ".env.example"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert {line.rpartition(": ")[2] for line in process.stdout.splitlines()} == {"lf"}


def test_volumes_are_declared_and_used() -> None:
    used = {v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", []) if v[0] != "."}
    assert used == set(COMPOSE["volumes"])
    assert f"worker:{SERVICES['worker']['environment']['RISK_DATADIR']}" in SERVICES["worker"]["volumes"]


def test_every_variable_is_in_the_example_and_secrets_have_no_default() -> None:
    used = {
        name: rest for name, rest in re.findall(r"\$\{(\w+)(:[-?][^}]*)?\}", re.sub(r"^\s*#.*", "", TEXT, flags=re.M))
    }
    assert set(used) == set(ENV_EXAMPLE)
    for name, rest in used.items():
        if re.search("PASSWORD|KEY$", name):
            assert ENV_EXAMPLE[name] == ""
        assert rest.startswith(":?" if re.search("PASSWORD|KEY$|CDC_USER", name) else ":-"), name
        if rest.startswith(":-"):
            assert rest.removeprefix(":-") == ENV_EXAMPLE[name]


def test_env_is_the_example_with_generated_secrets_and_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    command = [sys.executable, str(ROOT / "docker/env.py")]
    for _ in range(2):
        subprocess.run(command, cwd=tmp_path, check=True, timeout=30, capture_output=True)
        text = (tmp_path / ".env").read_text()
        made = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
        assert made.keys() == ENV_EXAMPLE.keys()
        secret = {name for name, value in ENV_EXAMPLE.items() if value == "" and not name.startswith("RISK_")}
        assert len({made[name] for name in secret}) == len(secret) == 4
        assert all(len(made[name]) >= 32 for name in secret)
        assert {name: made[name] for name in made.keys() - secret} == {
            name: ENV_EXAMPLE[name] for name in made.keys() - secret
        }
        assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
        before = text
    assert (tmp_path / ".env").read_text() == before
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_connect_may_read_only_the_variables_that_its_configurations_use() -> None:
    environment = SERVICES["connect"]["environment"]
    used = {name for config in CONFIGS.values() for v in config.values() for name in re.findall(r"\$\{env:(\w+)}", v)}
    allowed = re.compile(environment["CONNECT_CONFIG_PROVIDERS_ENV_PARAM_ALLOWLIST_PATTERN"])
    assert {name for name in environment if allowed.fullmatch(name)} == used
    assert allowed.fullmatch("ELASTICSEARCH_PASSWORD")
    for what in ("config", "offset", "status"):
        assert environment[f"{what.upper()}_STORAGE_TOPIC"] == CONNECT_SETTINGS[f"{what}.storage.topic"]
    exactly_once = CONNECT_SETTINGS["exactly.once.source.support"]
    assert environment["CONNECT_EXACTLY_ONCE_SOURCE_SUPPORT"] == exactly_once == "enabled"


def test_the_workers_variables_are_settings() -> None:
    known = {f.metadata["variable"] for f in fields(Settings)}
    for name in ("worker", "topics", "page"):
        assert set(SERVICES[name]["environment"]) <= known | {"NO_PROXY", "no_proxy"}
    environment = {name: interpolated(value) for name, value in SERVICES["worker"]["environment"].items()}
    settings = Settings.from_env(environment)
    assert settings.schema_registry.endswith(BASE)
    assert settings.web_bind == "0.0.0.0"
    # .env.example has the app's defaults
    assert (settings.emit, settings.time_unit, settings.topic_prefix) == ("batch", "ms", "")


def test_the_page_asks_for_a_login_and_knows_its_name() -> None:
    """It listens on all interfaces of its container, where it refuses to start without users."""
    environment = {name: interpolated(value) for name, value in SERVICES["page"]["environment"].items()}
    settings = Settings.from_env(environment)
    assert settings.page_bind == "0.0.0.0"
    assert f"page:{settings.page_datadir}" in SERVICES["page"]["volumes"]
    assert str(settings.page_users) == SERVICES["page-user"]["environment"]["RISK_PAGE_USERS"]
    assert "localhost" in settings.page_hosts
    # the worker's days are the page's
    for name in ("RISK_TIMEZONE", "RISK_TOPIC_PREFIX", "RISK_BROKER"):
        assert environment[name] == interpolated(SERVICES["worker"]["environment"][name])


def test_services_ask_each_other_directly() -> None:
    """Docker can set a proxy in every container; it knows none of the services."""
    for name, service in SERVICES.items():
        addresses = {*re.findall(r"https?://([a-z0-9.]+)", json.dumps(service))}
        if "http" in str(service.get("command", "")) or name == "worker":
            for variable in ("NO_PROXY", "no_proxy"):
                assert addresses <= set(service["environment"][variable].split(",")), name


def test_registered_connectors_exist_and_refer_to_services() -> None:
    command = SERVICES["connectors"]["command"]
    assert (ROOT / command[1].lstrip("/")).exists()
    registered = [name for name in command[2:] if not name.startswith("--")]
    assert set(registered) == CONFIGS.keys() - {"source-mysql"}
    for name in registered:
        config = CONFIGS[name]
        for key, service in (
            ("database.hostname", "mariadb"),
            ("connection.url", "elasticsearch"),
            ("schema.history.internal.kafka.bootstrap.servers", "kafka"),
            ("value.converter.apicurio.registry.url", "registry"),
        ):
            assert service in config.get(key, service)


def test_the_registry_checks_compatibility_as_in_the_tests() -> None:
    command = SERVICES["registry-init"]["command"]
    assert json.loads(command[command.index("--data") + 1]) == {"compatibility": COMPATIBILITY}
    assert command[-1].endswith(f"{BASE}/config")


def test_topics_are_the_apps_own_and_dead_letters_are_kept() -> None:
    """With a prefix, the topics without it are still created, for KSQL and the sinks."""
    declared = {
        t.name: t for t in load_topics().all_topics(Settings(topic_prefix="new."), (ROOT / "connect").glob("*.json"))
    }
    for settings in (Settings(), Settings(topic_prefix="new.")):
        for topic in wanted(settings.topic_names, 1):
            assert declared[topic.name] == topic
    assert declared[Settings().source_topic].configs["retention.ms"] == "-1"
    for config in CONFIGS.values():
        for name in (config.get("topics"), config.get("errors.deadletterqueue.topic.name")):
            if name is not None:
                assert name in declared
    assert declared["sink-sessions-dead-letters"].configs["retention.ms"] == "-1"
    # the registry keeps its schemas in a topic: Kafka's default retention would delete them after a week
    assert SERVICES["registry"]["environment"]["APICURIO_STORAGE_KIND"] == "kafkasql"
    assert declared["kafkasql-journal"].configs["retention.ms"] == "-1"
    environment = SERVICES["connect"]["environment"]
    for what in ("CONFIG", "OFFSET", "STATUS"):
        assert declared[environment[f"{what}_STORAGE_TOPIC"]].configs == {"cleanup.policy": "compact"}


@pytest.mark.broker
def test_declaring_topics_is_idempotent(cluster: Environment) -> None:
    """Run as the service runs it; prefix and app id keep its topics apart from those of other tests."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RISK_BROKER": cluster.broker,
        "RISK_TOPIC_PREFIX": "compose.",
        "RISK_APP_ID": "compose",
        "RISK_SOURCE_TOPIC": "compose.log",
    }
    command = [sys.executable, str(ROOT / "docker/topics.py"), str(ROOT / "connect")]
    for _ in range(2):
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(r"\d+ topics\n", done.stdout)


def test_rows_of_a_new_database_are_in_the_configured_unit() -> None:
    rows = re.findall(
        r"\(\d+, '[^']*', \d+, \d+, (\d+), 'web'\)", (ROOT / "docker/mariadb/1_moodle_log.sql").read_text()
    )
    assert rows
    assert ENV_EXAMPLE["RISK_TIME_UNIT"] == "ms"
    assert all(int(timecreated) > 10**12 for timecreated in rows)


def test_a_new_database_has_the_columns_that_the_connectors_capture() -> None:
    """All that counts for the risk, as the demo through the database declares it: the page is not empty of courses."""
    script = (ROOT / "docker/mariadb/1_moodle_log.sql").read_text()

    def columns(statement: str) -> list[str]:
        (body,) = re.findall(r"CREATE TABLE[^(]*\((.*?)\);", statement, re.DOTALL)
        return [" ".join(column.split()) for column in body.split(", " if "\n" not in body else ",\n")]

    assert columns(script) == columns(CREATE)
    for name in ("source-mariadb", "source-mysql"):
        (captured,) = re.findall(r"\((.*)\)", CONFIGS[name]["column.include.list"])
        assert captured.split("|") == [column.split()[0] for column in columns(script)] == list(ALL_COLUMNS)
    inserted = re.findall(r"INSERT INTO \S+ \(([^)]*)\)", script)
    assert {"courseid", "origin"} <= set(inserted[0].split(", "))


def test_the_cdc_user_has_no_right_to_write() -> None:
    script = ROOT / "docker/mariadb/2_cdc_user.sh"
    grants = re.findall(r"^GRANT (.*) ON (\S+)", script.read_text(), re.MULTILINE)
    rights = {right for granted, _ in grants for right in granted.split(", ")}
    assert "SELECT" in rights
    assert rights <= {
        *("SELECT", "LOCK TABLES", "RELOAD", "SHOW DATABASES"),
        *("REPLICATION SLAVE", "BINLOG MONITOR", "SLAVE MONITOR"),
    }
    # rows are readable in the log's database only
    assert [where for granted, where in grants if "SELECT" in granted.split(", ")] == ["demo.*"]
    assert os.access(script, os.X_OK)


def test_the_first_user_of_the_page_is_made_once(tmp_path: Path) -> None:
    """Run as the service runs it; a second start changes nothing, whatever .env says by then."""
    users = tmp_path / "users"
    for password in ("a long first password", "another password"):
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RISK_PAGE_USERS": str(users),
            "PAGE_USER": "adviser",
            "PAGE_PASSWORD": password,
        }
        command = ["sh", str(ROOT / "docker/page-user.sh")]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
    (user,) = read(users)
    assert user.name == "adviser"
    assert user.courses is None
    assert fits("a long first password", user.hash)
    assert not fits("another password", user.hash)


@pytest.mark.cdc
def test_scripts_for_a_new_mariadb_create_the_log_and_a_user_who_can_only_read_it(
    chain: Environment, tmp_path: Path
) -> None:
    """Run both scripts as the image's entrypoint does, in the test's own database; passwords may be any text."""
    database = re.compile(r"\bdemo\b")
    folder = ROOT / "docker/mariadb"
    mariadb.execute(chain.directory, database.sub("composed", (folder / "1_moodle_log.sql").read_text()))
    rows = mariadb.execute(chain.directory, f"SELECT {', '.join(ALL_COLUMNS)} FROM composed.mdl_logstore_standard_log")
    assert [line.split("\t") for line in rows.splitlines()] == [
        [row, r"\\core\\event\\course_viewed", student, "5", "NULL", "0", at, "web", "NULL"]
        for row, student, at in (("1", "2", "1561975200000"), ("2", "3", "1561975200000"), ("3", "3", "1561975300000"))
    ]
    user, password = "o'brien", r"it's \ a $secret"
    (tmp_path / ".my.cnf").write_text(f"[client]\nsocket={mariadb.socket_of(chain.directory / 'mariadb')}\n")
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "MARIADB_ROOT_PASSWORD": "",
        "CDC_USER": user,
        "CDC_PASSWORD": password,
    }
    script = database.sub("composed", (folder / "2_cdc_user.sh").read_text())
    script = script.replace("--user=root", f"--user={getpass.getuser()}")  # the superuser of stack/mariadb.py
    subprocess.run(["bash", "-c", script], env=environment, check=True, timeout=30)

    def query(statement: str) -> str:
        host, port = chain.mariadb.split(":")
        client = [mariadb.find("mariadb"), "--no-defaults", f"--host={host}", f"--port={port}", "-N"]
        client += [f"--user={user}", f"--password={password}", "-e", statement]
        done = subprocess.run(client, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout + done.stderr

    assert query("SELECT COUNT(*) FROM composed.mdl_logstore_standard_log") == "3\n"
    assert "denied" in query("DELETE FROM composed.mdl_logstore_standard_log")
    assert "denied" in query(f"SELECT COUNT(*) FROM {mariadb.DATABASE}.{mariadb.TABLE}")
    mariadb.execute(chain.directory, """DROP DATABASE composed; DROP USER "o'brien"@'%'""")


def test_files_that_run_inside_containers_have_their_line_ends_in_every_checkout() -> None:
    """A clone with Windows line ends would break the database's initialiser: git keeps LF whatever its settings."""
    names = ["docker-compose.yml", *(str(p.relative_to(ROOT)) for p in ROOT.glob("docker/**/*") if p.is_file())]
    done = subprocess.run(
        ["git", "-c", "core.autocrlf=true", "check-attr", "eol", "--", *names],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [line.rpartition(": ")[2] for line in done.stdout.splitlines()] == ["lf"] * len(names)
    assert not any(b"\r\n" in (ROOT / name).read_bytes() for name in names)
