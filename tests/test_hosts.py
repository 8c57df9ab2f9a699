"""The web pages answer under names of this machine and by address, on IPv4 and IPv6."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from app.errors import ConfigError
from app.ops.hosts import host_check, is_allowed
from app.ops.web_server import listen
from app.settings import Settings
from app.topology import declare
from tools.e2e.workers import free_port

NAMES = Settings.from_env({"RISK_WEB_BIND": "worker-1", "RISK_WEB_HOSTS": "monitor.lan, .moodle-risk.svc"}).web_names


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:6066", 200),
        ("localhost:6066", 200),
        ("[::1]:6066", 200),
        ("10.2.3.4:6066", 200),  # a probe of Kubernetes, or Prometheus: a browser never sends a foreign name as this
        ("worker-1:6066", 200),
        ("MONITOR.lan", 200),
        ("moodle-risk-0.moodle-risk.svc:6066", 200),
        ("evil.example:6066", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("[::1", 421),
    ],
)
async def test_pages_are_answered_under_known_names_only(host: str, status: int) -> None:
    """A foreign site's name that resolves to this machine (DNS rebinding) is refused in one line."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="{}")

    application = web.Application(middlewares=[host_check(NAMES)])
    application.router.add_get("/stats", page)
    async with TestClient(TestServer(application)) as client:
        response = await client.get("/stats", headers={"Host": host})
        assert response.status == status
        assert ("RISK_WEB_HOSTS" in await response.text()) == (status != 200)


def test_without_names_addresses_and_this_machine_remain() -> None:
    assert is_allowed("localhost", ())
    assert not is_allowed("worker", ())


@pytest.mark.parametrize("bind", ["::1", "[::1]"])
async def test_the_pages_can_be_bound_to_ipv6(bind: str) -> None:
    """The address is valid for Faust, and the check of the port knows it."""
    port = free_port()
    app = declare(Settings.from_env({"RISK_WEB_BIND": bind, "RISK_WEB_PORT": str(port)}))
    assert (app.conf.web_bind, str(app.conf.canonical_url)) == ("::1", f"http://[::1]:{port}")
    with listen(app.settings.web_address, port) as used:
        assert used.getsockname()[:2] == ("::1", port)
        with pytest.raises(ConfigError, match=rf"RISK_WEB_PORT: cannot listen on \[::1\]:{port}: Address.*, or 0 for"):
            listen("::1", port)
    listen("::1", port).close()
