"""From where a request comes: proxies that are believed say it in headers."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app.page_settings import Network

#: further headers that proxies add
_OF_PROXIES = (b"forwarded", b"x-forwarded-host", b"x-real-ip")
Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Origin:
    """From where a request comes."""

    #: of the browser, as far as the proxies that are believed know it; "" if unknown
    address: str
    #: whether the browser uses TLS
    secure: bool
    #: whether it comes through a proxy that is believed
    trusted: bool
    #: whether it names a proxy, believed or not
    forwarded: bool


def origin_of(client: str, scheme: str, headers: Headers, networks: Collection[Network]) -> Origin:
    """Return where a request comes from.

    client: address of the other end of the connection; networks: those of the proxies that are believed.
    """
    chain = [part.strip() for value in values(headers, b"x-forwarded-for") for part in value.split(",")]
    protocols = [part.strip() for value in values(headers, b"x-forwarded-proto") for part in value.split(",")]
    forwarded = bool(chain or protocols or any(values(headers, name) for name in _OF_PROXIES))
    trusted = _within(client, networks)
    if not trusted:
        return Origin(client, scheme == "https", False, forwarded)
    # each proxy appends the address it sees: from the right, the first that is no proxy of ours is the browser's
    address = next((each for each in reversed(chain) if not _within(each, networks)), chain[0] if chain else client)
    secure = protocols[-1].lower() == "https" if protocols else scheme == "https"
    return Origin(_address(address), secure, True, forwarded)


def values(headers: Headers, name: bytes) -> list[str]:
    """Return the values of all headers of a name, which is in lower case. Bytes that are no UTF-8 become U+FFFD."""
    return [value.decode("utf-8", "replace") for each, value in headers if each.lower() == name]


def _within(address: str, networks: Collection[Network]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return any(ip in network for network in networks if network.version == ip.version)


def _address(text: str) -> str:
    """Return an address that a proxy has sent; "" for anything else, so that no log gets what a browser made up."""
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        return ""
