"""The web server of a worker, on a socket that is open before the worker starts."""

from __future__ import annotations

import errno
import socket
from typing import Any

from aiohttp.web import BaseSite, SockSite
from faust.web.drivers import aiohttp

from app.errors import ConfigError


class WebServer(aiohttp.Web):
    """Faust's web server, on the socket `listener` of the app if it has one."""

    def _new_transport_tcp(self) -> BaseSite:
        app: Any = self.app
        return super()._new_transport_tcp() if app.listener is None else SockSite(self._runner, app.listener)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a port of this address, on any free one if it is 0.

    Who connects waits until the server accepts. Raises ConfigError if nothing can listen there: the port is in use, or
    the address is not one of this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family)
        try:
            # a port can be used right after its last user has ended
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # as asyncio does: `::` leaves 0.0.0.0 to others
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen()
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        shown = f"[{host}]" if ":" in host else host
        if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
            raise ConfigError(f"RISK_WEB_BIND: {host} is not an address of this machine; set another") from error
        raise ConfigError(
            f"RISK_WEB_PORT: cannot listen on {shown}:{port}: {error.strerror}; set another, or 0 for any that is free"
        ) from error
    return listener


def port_of(listener: socket.socket) -> int:
    """Return the port on which a socket listens."""
    return int(listener.getsockname()[1])
