"""Finds out why no broker can be used, after aiokafka has said only that none could."""

from __future__ import annotations

import asyncio
import ssl

from aiokafka.errors import KafkaError

from app.kafka.clients import connection
from app.kafka.refusals import chain, describe
from app.settings import Settings
from app.upstream.connections import addresses, try_broker


async def diagnose(settings: Settings, timeout_s: float) -> str:
    """Return one line on the first broker that answers and yet cannot be used; "" if none answers.

    Takes no longer than `timeout_s`. Raises ConfigError for files that cannot be read.
    """
    arguments = connection(settings)
    try:
        async with asyncio.timeout(timeout_s):
            for host, port in addresses(settings.brokers):
                if reason := await _try(settings, host, port, arguments):
                    return reason
    except TimeoutError:
        pass
    return ""


async def _try(settings: Settings, host: str, port: int, arguments: dict[str, object]) -> str:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        await try_broker(host, port, arguments)
    except (KafkaError, OSError, TimeoutError) as error:
        if reason := describe(error, address, settings):
            return reason
        dropped = any(isinstance(each, (ssl.SSLError, EOFError, ConnectionError)) for each in chain(error))
        return await _wrong_protocol(settings, host, port, address) if dropped else ""
    return ""


async def _wrong_protocol(settings: Settings, host: str, port: int, address: str) -> str:
    """Describe a broker that has dropped the connection: it does so if it is addressed in another protocol."""
    tls = await _speaks_tls(host, port)
    if tls is None:
        return ""
    if tls and not settings.encrypts:
        return f"{address} wants TLS: set RISK_KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL"
    if not tls and settings.encrypts:
        return f"{address} does not speak TLS: set RISK_KAFKA_SECURITY_PROTOCOL to PLAINTEXT or SASL_PLAINTEXT"
    if not settings.logs_in:
        wanted = f"SASL_{settings.security_protocol}"
        return f"{address} wants a login: set RISK_KAFKA_SECURITY_PROTOCOL={wanted} and RISK_KAFKA_SASL_MECHANISM"
    return ""


async def _speaks_tls(host: str, port: int) -> bool | None:
    """Whether a server speaks TLS, whatever its certificate; None if nothing listens."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ConnectionRefusedError:
        return None
    except OSError:  # ssl.SSLError is one
        return False
    writer.transport.abort()  # no need to wait for the other side
    return True
