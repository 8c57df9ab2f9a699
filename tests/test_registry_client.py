"""Login, certificates and proxies of the registry: one place for all, and nothing secret in any message."""

from __future__ import annotations

import asyncio
import datetime
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from app.errors import ConfigError
from app.kafka.registry import SchemaRegistry
from app.kafka.registry_client import Login, RegistryClient
from app.proxies import is_local, proxy_for
from app.settings import Settings

ENVIRONMENT = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@asynccontextmanager
async def server(certificate: trustme.LeafCert | None = None) -> AsyncIterator[tuple[str, list[str | None]]]:
    """Yield the URL of a registry that knows every id, and the Authorization headers of the requests to it."""
    logins: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        logins.append(request.headers.get("Authorization"))
        return web.json_response({"schema": '"long"'})

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
    running = TestServer(application, scheme="https" if context else "http")
    await running.start_server(ssl=context)
    try:
        yield str(running.make_url("")).rstrip("/"), logins
    finally:
        await running.close()


def login(**variables: str) -> Login:
    """Return the login of these variables, without RISK_SCHEMA_REGISTRY_ in their names."""
    return Login.of(Settings.from_env({f"RISK_SCHEMA_REGISTRY_{name}": value for name, value in variables.items()}))


async def test_user_and_token_are_sent_and_never_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """From a variable, from a file as secrets are mounted, and from the URL; the variables come first."""
    (tmp_path / "secret").write_text("from-file\n")
    file = str(tmp_path / "secret")
    async with server() as (url, logins):
        with caplog.at_level(logging.DEBUG):
            for own in (
                login(USER="kim", PASSWORD="hush9"),
                login(USER="kim", PASSWORD_FILE=file),
                login(TOKEN="hush9"),
                login(TOKEN_FILE=file),
                login(),
            ):
                assert await SchemaRegistry(url.replace("//", "//me:hush7@"), own).schema(7) == "long"
            assert await SchemaRegistry(url).schema(7) == "long"
    assert logins == [
        "Basic a2ltOmh1c2g5",
        "Basic a2ltOmZyb20tZmlsZQ==",
        "Bearer hush9",
        "Bearer from-file",
        "Basic bWU6aHVzaDc=",
        None,
    ]
    settings = Settings.from_env({"RISK_SCHEMA_REGISTRY_USER": "kim", "RISK_SCHEMA_REGISTRY_PASSWORD": "hush9"})
    for text in (caplog.text, repr(settings), repr(Login.of(settings))):
        for secret in ("hush9", "hush7", "from-file", "a2ltOm", "bWU6"):
            assert secret not in text


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PASSWORD": "x"}, "RISK_SCHEMA_REGISTRY_PASSWORD is set without RISK_SCHEMA_REGISTRY_USER"),
        ({"USER": "me", "TOKEN": "x"}, "set one of them"),
        ({"USER": "me", "PASSWORD": "x", "PASSWORD_FILE": "y"}, "RISK_SCHEMA_REGISTRY_PASSWORD_FILE are both set"),
        ({"TOKEN_FILE": "/nowhere"}, "RISK_SCHEMA_REGISTRY_TOKEN_FILE: cannot read /nowhere"),
        ({"TOKEN": "a\nb"}, "RISK_SCHEMA_REGISTRY_TOKEN is not one line"),
    ],
)
def test_a_login_that_cannot_be_is_one_line(variables: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        login(**variables)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def authority(tmp_path: Path, name: str) -> tuple[trustme.CA, str]:
    """Create an authority and the file with its certificate."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / name)
    return ca, str(tmp_path / name)


async def test_a_registry_with_a_certificate_of_its_own_authority(tmp_path: Path) -> None:
    ca, file = authority(tmp_path, "ca.pem")
    async with server(ca.issue_cert("127.0.0.1")) as (url, _):
        assert await SchemaRegistry(url, Login(ca=file)).schema(7) == "long"


@pytest.mark.parametrize("wrong", ["authority", "expired", "host"])
async def test_a_certificate_that_is_refused_is_one_line(wrong: str, tmp_path: Path) -> None:
    """The start shows `last_error`; a running worker repeats the request, since certificates are renewed."""
    ca, file = authority(tmp_path, "ca.pem")
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificate = ca.issue_cert(
        "other.example" if wrong == "host" else "127.0.0.1", not_after=past if wrong == "expired" else None
    )
    if wrong == "authority":
        _, file = authority(tmp_path, "other.pem")
    async with server(certificate) as (url, _):
        registry = SchemaRegistry(url, Login(ca=file))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(registry.schema(7), 0.5)
    expected = {
        "authority": "unable to get local issuer certificate",
        "expired": "certificate has expired",
        "host": "IP address mismatch",
    }
    assert expected[wrong] in registry.last_error
    assert registry.last_error.startswith("its certificate is refused: ")
    assert registry.last_error.endswith("see RISK_SCHEMA_REGISTRY_CA")
    assert "\n" not in registry.last_error


@pytest.mark.parametrize(("text", "reason"), [(None, "No such file"), ("no certificate", "not certificates in PEM")])
def test_authorities_that_cannot_be_read_are_one_line(text: str | None, reason: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "ca.pem").write_text(text)
    with pytest.raises(ConfigError, match=f"RISK_SCHEMA_REGISTRY_CA: cannot read .*{reason}"):
        RegistryClient("https://registry", Login(ca=str(tmp_path / "ca.pem")))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]", "a.localhost", "LOCALHOST."])
def test_addresses_of_this_machine_need_no_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    assert is_local(host)
    shown = f"[{host}]" if host == "::1" else host
    assert proxy_for(f"http://{shown}:8081") is None
    assert proxy_for("http://registry:8081") is not None


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({"HTTPS_PROXY": "http://me:secret@proxy:3128"}, "https://r:8081", "http://proxy:3128 (HTTPS_PROXY)"),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://r:8081", None),
        ({"http_proxy": "proxy:3128"}, "http://r:8081", "http://proxy:3128 (http_proxy)"),
        ({"ALL_PROXY": "http://proxy:3128"}, "http://r:8081", "http://proxy:3128 (ALL_PROXY)"),
        ({"http_proxy": "http://p:1", "no_proxy": "r"}, "http://r:8081", None),
        ({"http_proxy": "http://p:1", "NO_PROXY": ".lan"}, "http://r.lan:8081", None),
        ({"http_proxy": "http://p:1", "NO_PROXY": "*"}, "http://r:8081", None),
        ({}, "http://r:8081", None),
    ],
)
def test_proxies_of_the_environment(
    variables: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(url)
    assert (None if found is None else str(found)) == (None if proxy is None else f"through the proxy {proxy}")


def test_a_proxy_of_another_kind_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@proxy:1080")
    with pytest.raises(ConfigError, match=r"ALL_PROXY: socks5://proxy:1080 is no http"):
        RegistryClient("http://registry:8081")


async def test_an_error_names_the_proxy_and_a_local_registry_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{unused_port()}")
    async with server() as (url, logins):
        assert await SchemaRegistry(url).schema(7) == "long"
        assert len(logins) == 1
    registry = SchemaRegistry("http://registry.example:8081")
    assert registry.name.startswith("http://registry.example:8081 through the proxy http://127.0.0.1:")
    assert registry.name.endswith("(http_proxy)")
    assert "secret" not in registry.name
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(registry.schema(7), 0.5)
    assert "ConnectError" in registry.last_error
