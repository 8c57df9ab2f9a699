"""Web proxies from the environment (http_proxy, https_proxy, all_proxy, no_proxy; also in upper case)."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from app.errors import ConfigError
from app.setting import without_credentials


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the variable that names it."""

    #: may contain user and password
    url: str
    variable: str

    def __str__(self) -> str:
        return f"through the proxy {without_credentials(self.url)} ({self.variable})"


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy for requests to `url`; None for a direct connection, always to addresses of this machine.

    Raises ConfigError if the proxy is none for HTTP.
    """
    target = urlsplit(url)
    host = target.hostname or ""
    proxies = getproxies()
    proxy = proxies.get(target.scheme) or proxies.get("all")
    if not proxy or is_local(host) or proxy_bypass(target.netloc.rpartition("@")[2]):
        return None
    names = [f"{scheme}_proxy" for scheme in (target.scheme, "all")]
    variable = next((n for name in names for n in (name, name.upper()) if os.environ.get(n) == proxy), names[0])
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if urlsplit(proxy).scheme not in ("http", "https"):
        shown = without_credentials(proxy)
        raise ConfigError(f"{variable}: {shown} is no http:// or https:// proxy; set another, or NO_PROXY={host}")
    return Proxy(proxy, variable)


def is_local(host: str) -> bool:
    """Whether a host name or address is this machine's own by definition: localhost, or a loopback address."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
