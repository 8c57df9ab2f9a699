"""The whole job on a broker with TLS, logins and an authorizer, with the least rights; and every wrong login."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

import stack.security
from app.errors import ConfigError
from app.kafka import topics
from app.ops.preflight import PATIENCE_S, connect, preflight
from app.settings import Settings
from page.access.visitor import Visitor
from page.cases.audit import Look
from page.cases.desk import Done
from page.cases.topics import prepare
from stack.security import USER
from tests.support import case_pages, page_rows
from tests.support.cluster import TIMEOUT_S, Deployment, months_of_rows, replay_rows, run_async, until
from tests.support.secured import Secured, as_worker, grant, grants, page_grants, started, unsecured_token
from tests.support.stub_server import StubServer, running
from tests.test_preflight import refused
from tools.e2e.workers import E2EError, Worker
from tools.replay.log_rows import LogRows

pytestmark = [
    pytest.mark.broker,
    # asyncio may not have closed the socket of a failed handshake when the event loop ends; a worker then ends too
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PARTITIONS = 2
#: time after which a broker with this setting ends a connection whose client has not logged in again [ms]
REAUTH_MS = 2_000
CLIENT, SECRET = "moodle-risk-client", "c1ient-secret-of-the-stub"


@pytest.fixture(scope="module")
def secured(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One broker for all tests of this file; logins with SCRAM-SHA-256 end after REAUTH_MS."""
    own = {"listener.name.sasl.scram-sha-256.connections.max.reauth.ms": REAUTH_MS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack.security, "SETTINGS", {**stack.security.SETTINGS, **own})
        yield from started(tmp_path_factory.mktemp("secured"))


@pytest.fixture(scope="module")
def rows() -> LogRows:
    """A small log."""
    return months_of_rows(students=40, days=20, sessions=150)


class TokenServer(StubServer):
    """A token endpoint for one client. Its tokens have no signature, and the broker accepts them."""

    lifetime_s = 60
    #: status of all answers; None: as asked
    status: int | None = None
    asked = 0
    #: age of the tokens [s]
    age_s = 0

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        """Return a token for client credentials."""
        self.asked += 1
        if self.status is not None:
            return self.status, {"error": "unavailable"}
        assert parse_qs(body.decode()) == {"grant_type": ["client_credentials"], "scope": ["kafka"]}
        if headers["authorization"] != "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode():
            return 401, {"error": "invalid_client"}
        token = unsecured_token(USER, self.lifetime_s, time.time() - self.age_s)
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime_s}


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with running(TokenServer()) as server:
        yield server


@pytest.fixture
def login(request: pytest.FixtureRequest, secured: Secured, tokens: TokenServer, tmp_path: Path) -> dict[str, str]:
    """The variables of the way to connect that the test's parameter names."""
    if request.param == "mutual TLS":
        return secured.certificate()
    if request.param == "OAUTHBEARER":
        secret = tmp_path / "client-secret"
        secret.write_text(f"{SECRET}\n", encoding="utf-8")
        return secured.token_login(f"{tokens.url}/token", CLIENT, secret) | {"RISK_KAFKA_OAUTH_SCOPE": "kafka"}
    return secured.login(request.param)


@pytest.mark.parametrize(
    "login",
    [
        "SCRAM-SHA-512",
        "mutual TLS",
        pytest.param("PLAIN", marks=pytest.mark.long),
        pytest.param("OAUTHBEARER", marks=pytest.mark.long),
    ],
    indirect=True,
)
def test_the_whole_job_runs_with_the_least_rights(secured, login, rows, tmp_path):
    """Every row is recounted. At level debug neither password nor token is in the log, nor in any other place."""
    administrator = secured.deployment(tmp_path)
    workload = replay_rows(administrator, rows, PARTITIONS)
    deployment = as_worker(administrator, login)
    grant(administrator.settings, grants(deployment.settings, PARTITIONS))
    worker = deployment.worker()
    if login.get("RISK_KAFKA_SASL_MECHANISM") in ("PLAIN", "OAUTHBEARER"):  # those that send a secret
        worker = Worker({**deployment.variables, "RISK_DATADIR": str(deployment.state())}, worker.log, level="debug")
    with worker:
        worker.wait_idle(timeout=TIMEOUT_S, events=len(rows))
        shown = [str(worker.stats()), Path(f"/proc/{worker.process.pid}/cmdline").read_text()]
        assert worker.stop() == 0, worker.tail()
    assert workload.differences(administrator) == []
    shown += [worker.log.read_text("utf-8", "replace"), repr(deployment.settings)]
    for secret in (secured.security.password(USER), SECRET, unsecured_token(USER, 60, 0).partition(".")[0] + "."):
        assert not any(secret in text for text in shown)


def test_each_missing_right_is_named_in_one_line(secured, tmp_path):
    """Rights are given one after another; until the last one the start is refused, and says which are missing."""
    administrator = secured.deployment(tmp_path)
    administrator.make_source(PARTITIONS)
    needed = [*topics.wanted(administrator.names, PARTITIONS)]
    deployment = as_worker(administrator, secured.login("SCRAM-SHA-512"))
    line = refused(deployment.variables | {"RISK_DATADIR": str(deployment.state())}, "no right to Describe topic")[0]
    assert administrator.names.source in line
    administrator.declare(*needed)
    unseen = {name for *_, name in grants(deployment.settings, PARTITIONS) if not name.startswith("Create")}
    for given in grants(deployment.settings, PARTITIONS):
        with pytest.raises(ConfigError) as caught:
            run_async(preflight(deployment.settings))
        unseen = {name for name in unseen if name not in str(caught.value)}
        assert "\n" not in str(caught.value)
        grant(administrator.settings, [given])
    until(lambda: starts(deployment))
    assert all("source" in name or name.startswith("Read") or name.startswith("Write") for name in unseen)


def test_the_page_works_with_the_least_rights(secured, tmp_path):
    """Until it has all of them, its start is refused with a line that names one; then it reads, acts and audits."""
    administrator = secured.deployment(tmp_path)
    administrator.declare(*topics.wanted(administrator.names, 1))
    administrator.send(administrator.names.risk, [page_rows.risk_row(1, 10, 0.8, "HIGH")])
    deployment = as_worker(administrator, secured.login("SCRAM-SHA-512"))
    with pytest.raises(ConfigError, match="no right to Describe topic"):
        run_async(prepare(deployment.settings))
    given = page_grants(deployment.settings)
    creates = [each for each in given if each[3].startswith("Create")]
    administrator.declare(*topics.of_page(administrator.names, 365))
    for missing in given:
        if missing not in creates:
            with pytest.raises(ConfigError) as caught:
                run_async(prepare(deployment.settings))
            assert "\n" not in str(caught.value)
            grant(administrator.settings, [missing])
    assert until(lambda: prepared(deployment), lambda lines: lines is not None) == []
    with case_pages.running(deployment.settings, tmp_path / "page") as page:
        page.audit.record("ann", Look.STUDENT, [(1, 10)])
        assert isinstance(page.desk.act(Visitor("ann"), 1, 10, 0, "contact", "action-1"), Done)
    assert len(administrator.read(administrator.names.page_audit)) == 1
    fresh = as_worker(secured.deployment(tmp_path), secured.login("SCRAM-SHA-512"))
    administrator.declare(*topics.wanted(fresh.names, 1))
    grant(administrator.settings, page_grants(fresh.settings))
    assert until(lambda: prepared(fresh), lambda lines: lines is not None) == []


def prepared(deployment: Deployment) -> list[str] | None:
    """The warnings of a page's start; None if it is refused. Brokers learn of rights with a delay."""
    try:
        return run_async(prepare(deployment.settings))
    except ConfigError:
        return None


def starts(deployment: Deployment) -> bool:
    try:
        run_async(preflight(deployment.settings))
    except ConfigError:
        return False
    return True


@contextmanager
def tls_server(certificate: Path) -> Iterator[str]:
    """Serve TLS handshakes and nothing more; yield host:port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
                context.wrap_socket(connection, server_side=True).close()
            except ssl.SSLError:
                continue
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def refusal(variables: dict[str, str]) -> str:
    """Return the one line with which a start ends that cannot connect; fail if it takes longer than the broker may."""

    async def try_to_connect() -> None:
        await (await connect(Settings.from_env(variables))).close()

    began = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        run_async(try_to_connect())
    assert time.monotonic() - began < PATIENCE_S
    assert "\n" not in str(caught.value)
    return str(caught.value)


def at(secured: Secured, port: str) -> dict[str, str]:
    return {"RISK_BROKER": f"127.0.0.1:{secured.port(port)}"}


def without(variables: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in variables.items() if key != name}


SCRAM = "SCRAM-SHA-512"
#: what is wrong: the variables, and words that the line must contain
WRONG: dict[str, tuple[Callable[[Secured, Path], dict[str, str]], list[str]]] = {
    "password": (
        lambda s, t: without(s.login(SCRAM), "RISK_KAFKA_PASSWORD_FILE") | {"RISK_KAFKA_PASSWORD": "wrong"},
        ["refuses the login of user risk", "RISK_KAFKA_PASSWORD"],
    ),
    "user": (lambda s, t: s.login(SCRAM) | {"RISK_KAFKA_USER": "nobody"}, ["user nobody", "RISK_KAFKA_USER"]),
    "no CA": (lambda s, t: without(s.login(SCRAM), "RISK_KAFKA_CA"), ["signed by nobody", "RISK_KAFKA_CA"]),
    "another CA": (lambda s, t: s.login(SCRAM) | {"RISK_KAFKA_CA": another_ca(t)}, ["signed by nobody"]),
    "no certificate": (lambda s, t: without(s.certificate(), "RISK_KAFKA_CERT"), ["wants a certificate", "_CERT"]),
    "an expired certificate": (
        lambda s, t: s.certificate() | {"RISK_KAFKA_CERT": str(s.security.issue(USER, "old", expired=True))},
        ["old.pem", "expired", "RISK_KAFKA_CERT"],
    ),
    "plaintext on TLS": (lambda s, t: at(s, "broker"), ["wants TLS", "RISK_KAFKA_SECURITY_PROTOCOL"]),
    "login in the clear on TLS": (
        lambda s, t: s.login("PLAIN", port="sasl_plain") | at(s, "sasl"),
        ["wants TLS", "SASL_SSL"],
    ),
    "TLS on plaintext": (lambda s, t: s.login(SCRAM) | at(s, "sasl_plain"), ["does not speak TLS", "PLAINTEXT"]),
    "no login": (lambda s, t: at(s, "sasl_plain"), ["wants a login", "=SASL_PLAINTEXT"]),
    "no login over TLS": (lambda s, t: s.certificate() | at(s, "sasl"), ["wants a login", "=SASL_SSL"]),
    "a login nobody wants": (
        lambda s, t: s.login(SCRAM) | at(s, "broker") | {"RISK_KAFKA_CERT": s.certificate()["RISK_KAFKA_CERT"]},
        ["wants no login", "=SSL"],
    ),
    "a file that is missing": (
        lambda s, t: s.login(SCRAM) | {"RISK_KAFKA_PASSWORD_FILE": "/no/such"},
        ["RISK_KAFKA_PASSWORD_FILE: cannot read /no/such"],
    ),
}


def another_ca(directory: Path) -> str:
    import trustme

    trustme.CA().cert_pem.write_to_path(str(directory / "other.pem"))
    return str(directory / "other.pem")


@pytest.mark.parametrize("wrong", WRONG)
def test_whatever_is_wrong_with_a_login_is_one_line_that_says_what_to_set(secured, tmp_path, wrong):
    variables, words = WRONG[wrong]
    line = refusal(variables(secured, tmp_path))
    for word in words:
        assert word in line, line


def test_a_brokers_certificate_that_has_expired_or_is_for_another_host_is_refused(secured):
    login = secured.login(SCRAM)
    with tls_server(secured.security.issue("kafka", "expired", expired=True)) as address:
        assert "has expired" in refusal(login | {"RISK_BROKER": address})
    with tls_server(secured.security.issue("kafka", "elsewhere", "other.example")) as address:
        assert "is for other names: set RISK_BROKER" in refusal(login | {"RISK_BROKER": address})


def test_the_command_ends_with_the_line(secured, tmp_path):
    """Exit code 1 and nothing else, for a wrong password and for a broker that wants a login."""
    state = {"RISK_DATADIR": str(tmp_path / "data")}
    variables, words = WRONG["user"]
    refused(variables(secured, tmp_path) | state, *words)
    refused(at(secured, "sasl_plain") | state, *WRONG["no login"][1])


@pytest.mark.parametrize("login", ["OAUTHBEARER"], indirect=True)
def test_a_token_endpoint_that_is_away_or_refuses_is_one_line(secured, login, tokens):
    tokens.status = 503
    assert "no token from" in refusal(login)
    tokens.status = 401
    assert "RISK_KAFKA_OAUTH_CLIENT_SECRET" in (line := refusal(login))
    assert SECRET not in line
    assert "no token from" in refusal(login | {"RISK_KAFKA_OAUTH_URL": "http://127.0.0.1:1/"})


@pytest.mark.parametrize("login", ["OAUTHBEARER"], indirect=True)
def test_a_token_that_the_broker_refuses_is_one_line(secured, login, tokens):
    """An expired one, for instance; aiokafka takes it for accepted."""
    tokens.age_s = 2 * tokens.lifetime_s
    assert f"refuses the token of {CLIENT} from {tokens.url}" in refusal(login)


@pytest.mark.long
def test_a_login_that_ends_is_renewed_and_a_changed_password_ends_the_worker(secured, rows, tmp_path):
    """The broker ends each connection after REAUTH_MS: rows go on. With another password the worker says so."""
    administrator = secured.deployment(tmp_path)
    workload = replay_rows(administrator, rows, PARTITIONS)
    deployment = as_worker(administrator, secured.login("SCRAM-SHA-256"))
    grant(administrator.settings, grants(deployment.settings, PARTITIONS))
    with deployment.worker() as worker:
        worker.wait_idle(timeout=TIMEOUT_S, events=len(rows))
        time.sleep(1.5 * REAUTH_MS / 1000)
        worker.wait_idle(timeout=TIMEOUT_S, events=len(rows))
        secured.security.set_passwords(secured.port("broker"), {USER: "another"})
        try:
            with pytest.raises(E2EError, match="exited with 1"):
                worker.wait(lambda stats: False, timeout=TIMEOUT_S)
        finally:
            secured.security.create_users(secured.port("broker"))
        assert "gave up: LoginRefused" in worker.tail(3), worker.tail()
        assert "RISK_KAFKA_PASSWORD" in worker.tail(3)
    assert workload.differences(administrator) == []
