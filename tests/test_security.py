"""Settings of encryption and login: what does not belong together, what cannot be read, and what must not be seen."""

from __future__ import annotations

import logging
import ssl
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from aiokafka.errors import KafkaConnectionError, SaslAuthenticationFailed
from aiokafka.protocol.admin import SaslAuthenticateRequest, SaslHandShakeRequest
from cryptography.hazmat.primitives import serialization

from app.errors import ConfigError
from app.kafka.clients import connection
from app.kafka.oauth import TokenProvider, TokenRefused, TokenUnavailable
from app.kafka.refusals import ATTEMPTS, Refusals
from app.kafka.tls import ssl_context
from app.secrets import secret
from app.settings import Settings
from app.upstream.connections import hide_logins
from tests.support.stub_server import StubServer, running

SCRAM = {
    "RISK_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "RISK_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "RISK_KAFKA_USER": "kim",
    "RISK_KAFKA_PASSWORD": "hush-hush",
}
OAUTH = {
    "RISK_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "RISK_KAFKA_SASL_MECHANISM": "OAUTHBEARER",
    "RISK_KAFKA_OAUTH_URL": "https://login.example/token",
    "RISK_KAFKA_OAUTH_CLIENT_ID": "risk",
    "RISK_KAFKA_OAUTH_CLIENT_SECRET": "hush-hush",
}
TLS = {"RISK_KAFKA_SECURITY_PROTOCOL": "SSL"}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RISK_KAFKA_SECURITY_PROTOCOL": "TLS"}, ["RISK_KAFKA_SECURITY_PROTOCOL: 'TLS' is none of PLAINTEXT, SSL"]),
        ({"RISK_KAFKA_PASSWORD": "hush-hush"}, ["RISK_KAFKA_PASSWORD is set", "SASL_SSL"]),
        ({"RISK_KAFKA_CA": "/ca.pem"}, ["RISK_KAFKA_CA is set", "SSL"]),
        (TLS | {"RISK_KAFKA_USER": "kim"}, ["RISK_KAFKA_USER is set"]),
        (TLS | {"RISK_KAFKA_KEY": "/key.pem"}, ["set RISK_KAFKA_CERT too"]),
        (TLS | {"RISK_KAFKA_KEY_PASSWORD": "hush-hush"}, ["RISK_KAFKA_KEY_PASSWORD is set", "RISK_KAFKA_CERT"]),
        ({"RISK_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, ["RISK_KAFKA_SASL_MECHANISM: '' is none of PLAIN,"]),
        (SCRAM | {"RISK_KAFKA_SASL_MECHANISM": "GSSAPI"}, ["'GSSAPI' is none of PLAIN,"]),
        (SCRAM | {"RISK_KAFKA_USER": ""}, ["RISK_KAFKA_USER: set it"]),
        (SCRAM | {"RISK_KAFKA_PASSWORD": ""}, ["RISK_KAFKA_PASSWORD or RISK_KAFKA_PASSWORD_FILE: set it"]),
        (SCRAM | {"RISK_KAFKA_OAUTH_URL": "https://login.example"}, ["RISK_KAFKA_OAUTH_URL is set"]),
        (OAUTH | {"RISK_KAFKA_USER": "kim"}, ["RISK_KAFKA_USER is set", "another RISK_KAFKA_SASL_MECHANISM"]),
        (OAUTH | {"RISK_KAFKA_OAUTH_URL": ""}, ["RISK_KAFKA_OAUTH_URL: set it"]),
        (OAUTH | {"RISK_KAFKA_OAUTH_CLIENT_SECRET": ""}, ["CLIENT_SECRET or RISK_KAFKA_OAUTH_CLIENT_SECRET_FILE"]),
        (OAUTH | {"RISK_KAFKA_OAUTH_URL": "https://kim:hush-hush@login.example"}, ["without user and password"]),
        (OAUTH | {"RISK_KAFKA_OAUTH_URL": "login.example"}, ["http:// or https:// URL"]),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused_in_one_line(
    variables: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_env(variables)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hush-hush" not in str(caught.value)


@pytest.mark.parametrize("variables", [SCRAM, OAUTH, TLS, {}])
def test_settings_that_fit_are_accepted_and_show_no_secret(variables: dict[str, str]) -> None:
    settings = Settings.from_env(variables)
    assert "hush-hush" not in repr(settings)
    assert "hush-hush" not in Settings.describe()


def test_a_secret_comes_from_the_variable_or_from_a_file(tmp_path: Path) -> None:
    """One newline at the end is no part of it; both, or a file that cannot be read, are an error without the secret."""
    file = tmp_path / "secret"
    file.write_bytes(b" hush-hush \r\n")
    assert secret("RISK_X", "", "") == ""
    assert secret("RISK_X", "a", "") == "a"
    assert secret("RISK_X", "", str(file)) == " hush-hush "
    with pytest.raises(ConfigError, match="RISK_X and RISK_X_FILE are both set: set one of them"):
        secret("RISK_X", "hush-hush", str(file))
    with pytest.raises(ConfigError, match=r"RISK_X_FILE: cannot read .*: No such file"):
        secret("RISK_X", "", str(tmp_path / "none"))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not a text file"):
        secret("RISK_X", "", str(file))


def test_a_new_client_uses_the_secret_that_the_file_has_now(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("old\n", encoding="utf-8")
    kept = {name: value for name, value in SCRAM.items() if name != "RISK_KAFKA_PASSWORD"}
    settings = Settings.from_env(kept | {"RISK_KAFKA_PASSWORD_FILE": str(file)})
    assert connection(settings)["sasl_plain_password"] == "old"
    file.write_text("new\n", encoding="utf-8")
    assert connection(settings)["sasl_plain_password"] == "new"


# -- certificates


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a certificate, its key, the key encrypted ("pw"), another key, and a file of something else."""
    directory = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    leaf, other = authority.issue_cert("a.example"), authority.issue_cert("b.example")
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
    leaf.private_key_pem.write_to_path(str(directory / "key.pem"))
    leaf.private_key_and_cert_chain_pem.write_to_path(str(directory / "both.pem"))
    other.private_key_pem.write_to_path(str(directory / "other.pem"))
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"pw"),
    )
    (directory / "encrypted.pem").write_bytes(encrypted)
    (directory / "junk.pem").write_text("junk", encoding="utf-8")
    return directory


def context(pem: Path, **files: str) -> ssl.SSLContext:
    """Return the context for RISK_KAFKA_… variables; values that name a file in `pem` are completed."""
    variables = {
        f"RISK_KAFKA_{name.upper()}": str(pem / value) if value.endswith(".pem") else value
        for name, value in files.items()
    }
    return ssl_context(Settings.from_env(TLS | variables))


def test_certificates_and_keys_are_read(pem: Path) -> None:
    for files in (
        {"ca": "ca.pem"},
        {"cert": "both.pem"},
        {"cert": "cert.pem", "key": "key.pem"},
        {"cert": "cert.pem", "key": "encrypted.pem", "key_password": "pw"},
    ):
        made = context(pem, **files)
        assert made.check_hostname
        assert made.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ca": "none.pem"}, "RISK_KAFKA_CA: cannot read .*none.pem: No such file"),
        ({"ca": "junk.pem"}, "RISK_KAFKA_CA: .*junk.pem has no certificate in PEM format"),
        ({"cert": "none.pem"}, "RISK_KAFKA_CERT: cannot read"),
        ({"cert": "cert.pem"}, "RISK_KAFKA_CERT: .*cert.pem has no private key in PEM format: set RISK_KAFKA_KEY"),
        ({"cert": "junk.pem", "key": "key.pem"}, "RISK_KAFKA_CERT: .*junk.pem has no certificate in PEM format"),
        ({"cert": "cert.pem", "key": "junk.pem"}, "RISK_KAFKA_KEY: .*junk.pem has no private key in PEM format"),
        ({"cert": "cert.pem", "key": "other.pem"}, "RISK_KAFKA_KEY: .* does not belong to the certificate"),
        ({"cert": "cert.pem", "key": "encrypted.pem"}, "RISK_KAFKA_KEY: .* encrypted: set RISK_KAFKA_KEY_PASSWORD"),
        (
            {"cert": "cert.pem", "key": "encrypted.pem", "key_password": "hush-hush"},
            "RISK_KAFKA_KEY: .* another one: set RISK_KAFKA_KEY_PASSWORD",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(pem: Path, files: dict[str, str], message: str) -> None:
    """Without asking for a password on the terminal, as OpenSSL would."""
    with pytest.raises(ConfigError, match=message) as caught:
        context(pem, **files)
    assert "hush-hush" not in str(caught.value)


# -- tokens


class Tokens(StubServer):
    """A token endpoint that counts, and answers as told."""

    response: tuple[int, Any] = (200, {})
    asked = 0

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        """Return the response."""
        self.asked += 1
        status, content = self.response
        return status, {**content, "access_token": f"token-{self.asked}"} if status == 200 and content else content


async def test_a_token_is_shared_and_renewed_before_it_expires() -> None:
    with running(Tokens()) as server:
        settings = Settings.from_env(OAUTH | {"RISK_KAFKA_OAUTH_URL": server.url})
        server.response = 200, {"expires_in": 1000}
        provider = TokenProvider(settings)
        assert [await provider.token() for _ in range(3)] == ["token-1"] * 3
        server.response = 200, {"expires_in": 0.1}
        provider = TokenProvider(settings)
        first = await provider.token()
        time.sleep(0.1)
        assert await provider.token() != first


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        ((401, {"error_description": "hush-hush"}), TokenRefused),
        ((400, {"error": "invalid_scope"}), TokenRefused),
        ((503, b"<html>"), TokenUnavailable),
        ((200, b"<html>"), TokenUnavailable),
        ((200, [1]), TokenUnavailable),
        ((200, {}), TokenUnavailable),
    ],
)
async def test_an_answer_without_a_token_is_an_error_without_the_secret(
    response: tuple[int, Any], kind: type[Exception]
) -> None:
    with running(Tokens()) as server:
        server.response = response
        settings = Settings.from_env(OAUTH | {"RISK_KAFKA_OAUTH_URL": server.url})
        with pytest.raises(kind) as caught:
            await TokenProvider(settings).token()
        assert "hush-hush" not in str(caught.value)
        assert server.url in str(caught.value)


async def test_a_token_endpoint_on_this_machine_is_asked_directly_and_an_error_names_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://me:hush-hush@127.0.0.1:1")
    with running(Tokens()) as server:
        server.response = 200, {"expires_in": 1000}
        settings = Settings.from_env(OAUTH | {"RISK_KAFKA_OAUTH_URL": server.url})
        assert await TokenProvider(settings).token() == "token-1"
    with pytest.raises(TokenUnavailable) as caught:
        await TokenProvider(Settings.from_env(OAUTH)).token()
    assert "login.example/token through the proxy http://127.0.0.1:1 (https_proxy)" in str(caught.value)
    assert "hush-hush" not in str(caught.value)


async def test_an_error_of_the_token_endpoint_without_a_text_is_named_by_its_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def post(*_: Any, **__: Any) -> Any:
        raise httpx.ReadTimeout("")

    monkeypatch.setattr(httpx.Client, "post", post)
    with pytest.raises(TokenUnavailable, match=r"no token from .*: ReadTimeout$"):
        await TokenProvider(Settings.from_env(OAUTH)).token()


# -- refusals, and the debug log


def test_a_worker_is_refused_only_if_every_attempt_is() -> None:
    """One attempt is not enough, a success ends it, and a broker that is away refuses nobody."""
    settings, refusals = Settings.from_env(SCRAM), Refusals()
    refusals.note("a:1", KafkaConnectionError("away"))
    assert refusals.reason(settings) == ""
    refusals.note("a:1", SaslAuthenticationFailed("no"))
    assert "RISK_KAFKA_PASSWORD" in refusals.reason(settings)
    assert refusals.reason(settings, attempts=ATTEMPTS) == ""
    refusals.note("a:1", SaslAuthenticationFailed("no"))
    assert refusals.reason(settings, attempts=ATTEMPTS).startswith("a:1 refuses the login of user kim")
    assert refusals.reason(settings, attempts=ATTEMPTS, lasting_s=60.0) == ""
    refusals.note("a:1", None)
    assert refusals.reason(settings) == ""


def test_the_debug_log_has_no_login(caplog: pytest.LogCaptureFixture) -> None:
    """aiokafka logs each request with its contents; those of a login are the password or the token."""
    hide_logins()
    log = logging.getLogger("aiokafka.conn")
    with caplog.at_level(logging.DEBUG, "aiokafka.conn"):
        for request in (SaslAuthenticateRequest(b"\0kim\0hush-hush"), SaslHandShakeRequest("PLAIN")):
            struct = request.prepare({36: (0, 1), 17: (0, 1)})
            log.debug("Request to %s:%d %d: %s", "a", 1, 2, struct)
    assert "hush-hush" not in caplog.text
    assert "PLAIN" in caplog.text
