"""Why brokers refuse this worker: one line for each kind of wrong login, certificate or protocol."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from aiokafka.errors import IllegalSaslStateError, SaslAuthenticationFailed, UnsupportedSaslMechanismError

from app.kafka.oauth import TokenRefused, TokenUnavailable
from app.kafka.security import OAUTH, SecuritySettings

#: how long a broker must refuse every attempt before a running worker ends [s], and least number of attempts
LASTING_S, ATTEMPTS = 5.0, 2
#: OpenSSL's results of verifying a certificate: expired; other host name, other IP address
_EXPIRED, _OTHER_HOST = (10,), (62, 64)


@dataclass(frozen=True, slots=True)
class _Refused:
    error: BaseException
    since: float
    attempts: int


class Refusals:
    """The brokers that refuse this process at the moment. Mutable, thread-safe: clients run in several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused: dict[str, _Refused] = {}

    def note(self, address: str, error: BaseException | None) -> None:
        """Note the outcome of an attempt to connect to a broker; error: None if it succeeded."""
        with self._lock:
            if error is None:
                self._refused.pop(address, None)
            elif is_refusal(error):
                before = self._refused.get(address, _Refused(error, time.monotonic(), 0))
                self._refused[address] = replace(before, error=error, attempts=before.attempts + 1)

    def reason(self, settings: SecuritySettings, *, lasting_s: float = 0.0, attempts: int = 1) -> str:
        """Return why a broker refuses this worker, "" if none does, or not for so long and so often."""
        with self._lock:
            refused = dict(self._refused)
        for address, each in refused.items():
            if each.attempts >= attempts and time.monotonic() - each.since >= lasting_s:
                return describe(each.error, address, settings)
        return ""


#: the refusals that clients of this process meet, see app.upstream.install
REFUSALS = Refusals()


class LoginRefused(Exception):
    """A broker no longer accepts this worker's login or certificate."""


def is_refusal(error: BaseException) -> bool:
    """Whether a broker answered that it does not want this client, or this client does not trust the broker."""
    refusals = (SaslAuthenticationFailed, UnsupportedSaslMechanismError, IllegalSaslStateError, TokenRefused)
    return any(isinstance(each, (*refusals, ssl.SSLCertVerificationError)) or _alert(each) for each in chain(error))


def describe(error: BaseException, address: str, settings: SecuritySettings) -> str:
    """Return one line on a refusal by the broker at `address`, with what to set; "" for most other errors."""
    for each in chain(error):
        if isinstance(each, (TokenRefused, TokenUnavailable)):
            return each.args[0]  # type: ignore[no-any-return]
        if isinstance(each, SaslAuthenticationFailed):
            return _login(address, settings)
        if isinstance(each, UnsupportedSaslMechanismError):
            return f"{address} does not offer {settings.sasl_mechanism}: set another RISK_KAFKA_SASL_MECHANISM"
        if isinstance(each, IllegalSaslStateError):
            plain = settings.security_protocol.removeprefix("SASL_")
            return f"{address} wants no login: set RISK_KAFKA_SECURITY_PROTOCOL={plain}"
        if isinstance(each, ssl.SSLCertVerificationError):
            return _certificate(each, address)
        if alert := _alert(each):
            return _own_certificate(alert, address, settings)
    return ""


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes."""
    while error is not None:
        yield error
        error = error.__cause__


def _login(address: str, settings: SecuritySettings) -> str:
    if settings.sasl_mechanism == OAUTH:
        return (
            f"{address} refuses the token of {settings.oauth_client_id} from {settings.oauth_url}: check "
            "RISK_KAFKA_OAUTH_URL, RISK_KAFKA_OAUTH_SCOPE and what the broker accepts"
        )
    return (
        f"{address} refuses the login of user {settings.user} with {settings.sasl_mechanism}: check RISK_KAFKA_USER, "
        "RISK_KAFKA_PASSWORD(_FILE) and RISK_KAFKA_SASL_MECHANISM"
    )


def _certificate(error: ssl.SSLCertVerificationError, address: str) -> str:
    if error.verify_code in _EXPIRED:
        return f"the certificate of {address} has expired: renew it on the broker"
    if error.verify_code in _OTHER_HOST:
        return f"the certificate of {address} is for other names: set RISK_BROKER to one of them, or have it reissued"
    why = error.verify_message
    return f"the certificate of {address} is signed by nobody that this worker trusts ({why}): set RISK_KAFKA_CA"


def _alert(error: BaseException) -> str:
    """Return the name of the TLS alert by which a broker refused this worker's certificate, or the lack of one."""
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    name = reason.partition("_ALERT_")[2]
    return name if "CERTIFICATE" in name or name in ("UNKNOWN_CA", "ACCESS_DENIED") else ""


def _own_certificate(alert: str, address: str, settings: SecuritySettings) -> str:
    if not settings.cert:
        return f"{address} wants a certificate of this worker: set RISK_KAFKA_CERT and RISK_KAFKA_KEY"
    if alert == "CERTIFICATE_EXPIRED":
        return f"{address} refuses the certificate in {settings.cert}, it has expired: renew it (RISK_KAFKA_CERT)"
    what = alert.replace("_", " ").lower()
    return (
        f"{address} refuses the certificate in {settings.cert} ({what}): it has expired, or is signed by an authority "
        "that the broker does not know; set RISK_KAFKA_CERT to another"
    )
