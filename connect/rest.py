"""Requests to Kafka Connect, Elasticsearch and Kibana, with a login and TLS. Needs only Python.

Whom to ask comes from a command's --url, the login from the environment. For a server SERVER (CONNECT, ELASTICSEARCH,
KIBANA):

    SERVER_USER, SERVER_PASSWORD    a login
    SERVER_API_KEY                  instead of a login: an API key of Elasticsearch, encoded
    SERVER_CA                       path of a file of CA certificates in PEM, for https
    SERVER_PASSWORD_FILE, SERVER_API_KEY_FILE    paths of files with the secret, which has to be on one line

User and password in the URL are taken as well. Nothing secret is printed. http_proxy, https_proxy and no_proxy count
for other machines; this one is never asked through a proxy.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import (
    BaseHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
    getproxies,
    proxy_bypass,
)

#: timeout of one request [s]; Connect validates a configuration against the database or the index
REQUEST_S = 90.0
#: how much of a response that is not JSON is quoted [characters]
QUOTED = 200


class RestError(Exception):
    """A failure, described on one line."""


class _NoRedirects(HTTPRedirectHandler):
    """A redirect becomes an answer with its status: urllib would send a login to any host."""

    def redirect_request(self, *_: Any) -> None:
        """Return None: do not follow it."""


@dataclass(frozen=True)
class Server:
    """A server and how to log in."""

    #: without user and password
    url: str
    #: headers of every request
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    opener: OpenerDirector = field(default_factory=lambda: build_opener(_NoRedirects, ProxyHandler({})), repr=False)
    #: host of the proxy on the way, "" without one
    proxy: str = ""

    @classmethod
    def at(cls, url: str, name: str, environment: Mapping[str, str] = os.environ) -> Server:
        """Return the server at `url`; `name` begins the names of its variables. Raises RestError if one is wrong."""
        try:
            parts = urlsplit(url)
            address = f"{parts.hostname}" if ":" not in (parts.hostname or "") else f"[{parts.hostname}]"
            netloc = address + (f":{parts.port}" if parts.port is not None else "")
        except ValueError as error:
            raise RestError(f"the URL is wrong: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RestError("the URL is wrong: it has to begin with http:// or https:// and a host")
        plain = urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))
        user = unquote(parts.username) if parts.username is not None else environment.get(f"{name}_USER", "")
        password = unquote(parts.password) if parts.password else secret(f"{name}_PASSWORD", environment)
        key = secret(f"{name}_API_KEY", environment)
        headers = {}
        if key:
            headers["Authorization"] = f"ApiKey {key}"
        elif user:
            if not password:
                raise RestError(f"user {user} has no password: set {name}_PASSWORD or {name}_PASSWORD_FILE")
            headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        elif password:
            raise RestError(f"{name}_PASSWORD without a user: set {name}_USER")
        handlers: list[BaseHandler] = []
        if parts.scheme == "https":
            try:
                context = ssl.create_default_context(cafile=environment.get(f"{name}_CA") or None)
            except OSError as error:
                raise RestError(f"{name}_CA: {environment[f'{name}_CA']}: {error}") from error
            handlers.append(HTTPSHandler(context=context))
        proxy = proxy_for(parts.scheme, parts.hostname, netloc)
        proxies = {parts.scheme: proxy} if proxy else {}
        opener = build_opener(_NoRedirects, ProxyHandler(proxies), *handlers)
        return cls(plain, headers, opener, (urlsplit(proxy).hostname or proxy) if proxy else "")

    def request(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Send a request with a body of JSON or bytes; return the status and the JSON object of the response.

        A list is returned as `items`. A response that is neither has its beginning as `message`. Without a response,
        the status is 0 and `message` the reason.
        """
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        all_headers = {"Content-Type": "application/json", **self.headers, **(headers or {})}
        request = Request(self.url + path, data, all_headers, method=method)
        try:
            with self.opener.open(request, timeout=REQUEST_S) as response:
                status, text = response.status, response.read()
        except HTTPError as error:
            status, text = error.code, error.read()
        except (OSError, HTTPException) as error:
            why = getattr(error, "reason", error)
            return 0, {"message": (str(why) or repr(why)) + self._way}
        try:
            content = json.loads(text)
        except ValueError:
            content = None
        if isinstance(content, list):
            return status, {"items": content}
        if isinstance(content, dict):
            return status, content
        quoted = one_line(text[: 4 * QUOTED].decode("utf-8", "replace"))[:QUOTED]
        return status, {"message": f"HTTP {status}{': ' * bool(quoted)}{quoted}{self._way}"}

    @property
    def _way(self) -> str:
        return f" (through the proxy {self.proxy}; NO_PROXY lists hosts that need none)" if self.proxy else ""


def proxy_for(scheme: str, host: str, netloc: str) -> str:
    """Return the URL of the proxy that the environment sets for a host; "" for this machine and for NO_PROXY."""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost" or host.endswith(".localhost")
    return "" if local or proxy_bypass(netloc) else getproxies().get(scheme, "")


def secret(variable: str, environment: Mapping[str, str]) -> str:
    """Return the variable's value, or the line in the file that VARIABLE_FILE names. Raises RestError, without it."""
    if value := environment.get(variable, ""):
        return value
    if not (path := environment.get(f"{variable}_FILE", "")):
        return ""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RestError(f"{variable}_FILE: {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error
    if len(lines) != 1 or not lines[0]:
        raise RestError(f"{variable}_FILE: {path} has {len(lines)} lines instead of one")
    return lines[0]


def pause(deadline: float, problem: str, poll_s: float) -> None:
    """Sleep until the next poll. Raises RestError with the problem once the deadline has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise RestError(f"{one_line(problem)} (timed out)")
    time.sleep(min(poll_s, left))


def one_line(text: str) -> str:
    """Return the text with all whitespace as single spaces."""
    return " ".join(text.split())
