"""HTTP clients of the schema registry: login, certificates and proxies in one place, for the worker and all tools."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import httpx
from schema_registry.client import AsyncSchemaRegistryClient

from app.errors import ConfigError
from app.proxies import Proxy, proxy_for
from app.secrets import secret
from app.setting import without_credentials
from app.settings import Settings

#: timeout of one request [s]
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Login:
    """How to log in to the registry and whom to trust; empty: not, and the usual authorities."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    #: path of a file with certificates of authorities (PEM)
    ca: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Login:
        """Return the login of the settings, with secrets read from their files. Raises ConfigError."""
        name = "RISK_SCHEMA_REGISTRY"
        password = secret(f"{name}_PASSWORD", settings.registry_password, settings.registry_password_file)
        token = secret(f"{name}_TOKEN", settings.registry_token, settings.registry_token_file)
        if password and not settings.registry_user:
            raise ConfigError(f"{name}_PASSWORD is set without {name}_USER: set both")
        if token and settings.registry_user:
            raise ConfigError(f"{name}_TOKEN and {name}_USER are both set: set one of them")
        if not token.isascii() or "\n" in token:
            raise ConfigError(f"{name}_TOKEN is not one line of ASCII")
        return cls(settings.registry_user, password, token, settings.registry_ca)


class RegistryClient:
    """Sends requests to one registry."""

    def __init__(self, url: str, login: Login | None = None) -> None:
        """`url` may hold user and password. Raises ConfigError if the authorities cannot be read."""
        login = login or Login()
        parts = urlsplit(url)
        #: the URL without user and password: httpx logs it with every request
        self.url = without_credentials(url).rstrip("/")
        self.proxy: Proxy | None = proxy_for(self.url)
        user, password = login.user, login.password
        if not (user or login.token) and parts.username is not None:
            user, password = unquote(parts.username), unquote(parts.password or "")
        self._client = AsyncSchemaRegistryClient(
            self.url,
            timeout=httpx.Timeout(TIMEOUT_S),
            # the client's own default would be a login without user and password
            auth=httpx.BasicAuth(user, password) if user else httpx.Auth(),
            extra_headers={"Authorization": f"Bearer {login.token}"} if login.token else None,
        )
        # not httpx's own choice of a proxy, which sends requests to this machine to one
        self._client.client_kwargs.update(trust_env=False, proxy=self.proxy.url if self.proxy else None)
        # read once: every request has an HTTP client of its own. Without TLS there is nothing to verify
        self._client.client_kwargs["verify"] = _trust(login.ca) if parts.scheme == "https" else False

    @property
    def name(self) -> str:
        """The URL for messages, with the proxy if there is one."""
        return f"{self.url} {self.proxy}" if self.proxy else self.url

    async def get(self, path: str) -> httpx.Response:
        """Return the answer to GET. Raises httpx.RequestError if there is none."""
        return await self._client.request(f"{self.url}/{path}")

    async def post(self, path: str, body: dict[str, str]) -> httpx.Response:
        """Return the answer to POST. Raises httpx.RequestError if there is none."""
        return await self._client.request(f"{self.url}/{path}", "POST", body)


def _trust(ca: str) -> ssl.SSLContext:
    if not ca:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        reason = "not certificates in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"RISK_SCHEMA_REGISTRY_CA: cannot read {ca}: {reason}") from None


def reason_of(error: Exception) -> str:
    """Say in one line why there was no answer; of a certificate, what is wrong with it and what to set."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is refused: {cause.verify_message.rstrip('.')}; see RISK_SCHEMA_REGISTRY_CA"
        cause = cause.__cause__ or cause.__context__
    return " ".join(f"{type(error).__name__.lstrip('_')}: {error}".rstrip(": ").split())
