"""The TLS context of clients, from certificates in PEM files."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path

from app.errors import ConfigError
from app.kafka.security import SecuritySettings


def ssl_context(settings: SecuritySettings) -> ssl.SSLContext:
    """Return a context that verifies the broker's certificate and host name.

    Files that have not changed are not read again: a rebalance makes many clients. Raises ConfigError.
    """
    changed = tuple(_changed_at(*each) for each in _files(settings))
    return _context(settings.ca, settings.cert, settings.key, settings.secret("key_password"), changed)


def _files(settings: SecuritySettings) -> list[tuple[str, str]]:
    named = (("RISK_KAFKA_CA", settings.ca), ("RISK_KAFKA_CERT", settings.cert), ("RISK_KAFKA_KEY", settings.key))
    return [(variable, path) for variable, path in named if path]


def _changed_at(variable: str, path: str) -> int:
    try:
        with Path(path).open("rb"):
            return Path(path).stat().st_mtime_ns
    except OSError as error:
        raise ConfigError(f"{variable}: cannot read {path}: {error.strerror}") from None


@lru_cache(maxsize=1)
def _context(ca: str, cert: str, key: str, password: str, changed: tuple[int, ...]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except ssl.SSLError:
        raise ConfigError(f"RISK_KAFKA_CA: {ca} has no certificate in PEM format") from None
    if cert:
        try:
            # with a function OpenSSL never asks for a password on the terminal
            context.load_cert_chain(cert, key or None, lambda: password)
        except ssl.SSLError as error:
            raise ConfigError(_unusable(error, cert, key, password)) from None
    return context


def _unusable(error: ssl.SSLError, cert: str, key: str, password: str) -> str:
    """Say why certificate and key cannot be used: OpenSSL's own message is "PEM lib" in most cases."""
    variable, path = ("RISK_KAFKA_KEY", key) if key else ("RISK_KAFKA_CERT", cert)
    text = Path(path).read_bytes()
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{variable}: the key in {path} does not belong to the certificate in {cert} (RISK_KAFKA_CERT)"
    if b"-----BEGIN CERTIFICATE-----" not in Path(cert).read_bytes():
        return f"RISK_KAFKA_CERT: {cert} has no certificate in PEM format"
    if b"ENCRYPTED" in text:
        wrong = "its password is another one" if password else "it is encrypted"
        return f"{variable}: cannot read the key in {path}, {wrong}: set RISK_KAFKA_KEY_PASSWORD(_FILE)"
    return f"{variable}: {path} has no private key in PEM format" + ("" if key else ": set RISK_KAFKA_KEY")
