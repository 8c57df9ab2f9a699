"""Tokens for SASL/OAUTHBEARER, from a token endpoint with client credentials (RFC 6749, section 4.4)."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from functools import lru_cache

import httpx
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError

from app.errors import ConfigError
from app.kafka.security import SecuritySettings
from app.proxies import proxy_for

log = logging.getLogger(__name__)

#: how long the token endpoint may take to answer [s]
REQUEST_S = 5.0
#: share of a token's life after which it is replaced
_RENEW_AFTER = 0.8
#: life of a token whose answer does not say [s]
_LIFE_S = 300.0


class TokenRefused(AuthenticationFailedError):  # type: ignore[misc]
    """The token endpoint answered, and gave no token: another attempt would end in the same way."""


class TokenUnavailable(KafkaConnectionError):  # type: ignore[misc]
    """The token endpoint did not answer, or is in trouble: aiokafka tries again, as for a broker that is away."""


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """Returns a token that is still valid. Mutable, thread-safe: all clients of a process share one token."""

    def __init__(self, settings: SecuritySettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._token, self._renew_at = "", 0.0

    async def token(self) -> str:
        """Return a token. Raises TokenRefused or TokenUnavailable."""
        if time.monotonic() < self._renew_at:
            return self._token
        return await asyncio.to_thread(self._renewed)  # clients live in event loops of several threads

    def _renewed(self) -> str:
        with self._lock:
            if time.monotonic() >= self._renew_at:
                asked = time.monotonic()
                self._token, life_s = _request(self._settings)
                self._renew_at = asked + life_s * _RENEW_AFTER
                log.info("new token from %s, valid for %.0f s", self._settings.oauth_url, life_s)
            return self._token


@lru_cache(maxsize=1)
def token_provider(settings: SecuritySettings) -> TokenProvider:
    """Return the provider of these settings."""
    return TokenProvider(settings)


def _request(settings: SecuritySettings) -> tuple[str, float]:
    """Return a new token and how long it is valid [s]. No message has the secret, a token or the answer's text."""
    form = {"grant_type": "client_credentials"}
    if settings.oauth_scope:
        form["scope"] = settings.oauth_scope
    try:
        login = httpx.BasicAuth(settings.oauth_client_id, settings.secret("oauth_client_secret"))
        verify = ssl.create_default_context(cafile=settings.oauth_ca) if settings.oauth_ca else True
        proxy = proxy_for(settings.oauth_url)
        # not httpx's own choice of a proxy, which sends requests to this machine to one
        with httpx.Client(verify=verify, trust_env=False, proxy=proxy.url if proxy else None) as client:
            answer = client.post(settings.oauth_url, data=form, auth=login, timeout=REQUEST_S)
    except ConfigError as error:
        raise TokenRefused(str(error)) from None
    except OSError as error:
        raise TokenRefused(f"RISK_KAFKA_OAUTH_CA: cannot read {settings.oauth_ca}: {error.strerror or error}") from None
    except httpx.HTTPError as error:
        where = f"{settings.oauth_url} {proxy}" if proxy else settings.oauth_url
        raise TokenUnavailable(f"no token from {where}: {str(error) or type(error).__name__}") from None
    where = f"{settings.oauth_url} (RISK_KAFKA_OAUTH_URL)"
    if answer.status_code in (400, 401, 403):
        raise TokenRefused(
            f"{where} gives no token to client {settings.oauth_client_id}: HTTP {answer.status_code}; check "
            "RISK_KAFKA_OAUTH_CLIENT_ID, RISK_KAFKA_OAUTH_CLIENT_SECRET and RISK_KAFKA_OAUTH_SCOPE"
        )
    if not answer.is_success:
        raise TokenUnavailable(f"no token from {where}: HTTP {answer.status_code}")
    try:
        body = answer.json()
        token, life_s = body["access_token"], float(body.get("expires_in", _LIFE_S))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TokenUnavailable(f"the answer of {where} has no token") from None
    if not isinstance(token, str) or not token:
        raise TokenUnavailable(f"the answer of {where} has no token")
    return token, life_s
