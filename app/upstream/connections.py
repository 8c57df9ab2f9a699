"""Connections to brokers, from aiokafka 0.14.0 beyond its documented API: why one is refused; what is not logged."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiokafka.conn import AIOKafkaConnection, collect_hosts, create_conn
from aiokafka.errors import IllegalSaslStateError, SaslAuthenticationFailed
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.protocol.metadata import MetadataRequest

#: Kafka's number of the request that has a password or a token
_SASL_AUTHENTICATE = 36


def reporting_create_conn(
    report: Callable[[str, BaseException | None], object],
) -> Callable[..., Awaitable[AIOKafkaConnection]]:
    """Return aiokafka's `create_conn` with a call of `report` for each attempt: address, and error or None.

    Clients catch the error, log it and try again for ever, also if the broker refuses their login. Upstream change: a
    callback `on_connection_failed` of all clients.
    """

    async def reporting(host: str, port: int, **options: Any) -> AIOKafkaConnection:
        address = f"{host}:{port}"
        try:
            connection = await connect(host, port, **options)
        except BaseException as error:
            report(address, error)
            raise
        report(address, None)
        return connection

    return reporting


async def connect(host: str, port: int, **options: Any) -> AIOKafkaConnection:
    """Connect and log in as aiokafka's `create_conn`. Raises SaslAuthenticationFailed for a token that is refused too.

    A broker that refuses a token answers with the reason, and answers the next request with the error that the login is
    not complete. aiokafka ignores the reason. Upstream change: `OAuthAuthenticator.step` raises if there is one.
    """
    connection = await create_conn(host, port, **options)
    if options.get("sasl_mechanism") == "OAUTHBEARER" and options["security_protocol"].startswith("SASL_"):
        try:
            answer = await connection.send(ApiVersionRequest())
            if answer.error_code == IllegalSaslStateError.errno:
                raise SaslAuthenticationFailed("the broker refuses the token")
        except BaseException:
            connection.close()
            raise
    return connection


def addresses(brokers: list[str]) -> list[tuple[str, int]]:
    """Return host and port of each of the bootstrap servers, in their order."""
    return [(host, port) for host, port, _ in collect_hosts(brokers, randomize=False)]


async def try_broker(host: str, port: int, arguments: Mapping[str, Any]) -> None:
    """Connect to a broker, log in and ask it for metadata, as clients do when they start.

    Raises KafkaError, OSError (ssl.SSLError is one) or TimeoutError. Upstream change: `bootstrap()` raises with the
    errors of all brokers as its cause.
    """
    connection = await connect(host, port, **arguments)
    try:
        await connection.send(MetadataRequest([]))
    finally:
        connection.close()


def hide_logins() -> None:
    """Keep the messages of a login out of the debug log: they have the password, or the token, in clear.

    Upstream change: no such log of SaslAuthenticateRequest.
    """
    logging.getLogger("aiokafka.conn").addFilter(_is_no_login)


def _is_no_login(record: logging.LogRecord) -> bool:
    values = record.args if isinstance(record.args, tuple) else ()
    return not any(getattr(value, "API_KEY", None) == _SASL_AUTHENTICATE for value in values)
