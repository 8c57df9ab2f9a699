"""A worker has its port from the first moment on, and its pages answer there."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest

from app.errors import ConfigError
from app.ops.web_server import listen, port_of
from app.settings import Settings
from app.topology import declare


async def test_pages_answer_on_a_free_port() -> None:
    """Who asks before the server has started waits for it."""
    app = declare(Settings(store="memory://", web_port=0))
    app.occupy(listen("127.0.0.1", 0), None)
    app.finalize()
    async with httpx.AsyncClient(trust_env=False, base_url=str(app.conf.canonical_url)) as client:
        request = asyncio.ensure_future(client.get("/stats"))
        await asyncio.sleep(0.05)
        assert not request.done()
        app.web.init_server()
        await app.web.start_server()
        try:
            stats = (await request).json()
        finally:
            await app.web.stop_server()
    assert stats["web_port"] == httpx.URL(str(app.conf.canonical_url)).port != 0
    assert stats["place"] is None


def test_two_workers_never_both_have_a_port() -> None:
    """Not even before either of them serves pages."""
    with listen("127.0.0.1", 0) as first, listen("127.0.0.1", 0) as second:
        port = port_of(first)
        assert port != port_of(second)
        with pytest.raises(ConfigError, match=rf"RISK_WEB_PORT: cannot listen on 127.0.0.1:{port}: Address already in"):
            listen("127.0.0.1", port)


def test_a_port_can_be_used_right_after_its_last_user() -> None:
    """The connection of a former user is still in TIME_WAIT."""
    with listen("127.0.0.1", 0) as former:
        port = port_of(former)
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = former.accept()
            accepted.close()
            client.recv(1)
    listen("127.0.0.1", port).close()


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_named(host: str) -> None:
    with pytest.raises(ConfigError, match=f"RISK_WEB_BIND: {host} is not an address of this machine; set another"):
        listen(host, 7)
