"""How often somebody may try to log in."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

#: the first wait, which doubles with each failure [s]
_FIRST_S = 1.0


@dataclass(frozen=True, slots=True)
class _Rule:
    #: failures that cost no wait
    free: int
    #: the longest wait [s]
    longest_s: float


#: of a name at an address; of an address, behind which there may be many people; of a name, wherever it is tried: not
#: so few that whoever guesses elsewhere keeps its owner out
_BOTH, _ADDRESS, _NAME = _Rule(4, 300.0), _Rule(20, 900.0), _Rule(50, 60.0)
#: time without a try after which failures are forgotten [s]
_FORGET_S = 3600.0
#: most of them that are remembered; what was tried longest ago is forgotten
_MOST = 30_000


@dataclass(slots=True)
class _Failures:
    number: int
    #: of the latest try; monotonic [s]
    at: float


class Throttle:
    """Slows the guessing of passwords, by the name that is tried and by the address from which it is.

    A try counts as failed until it is known to be right, so that many at once are slowed too. Thread-safe. Kept in
    memory only: a restart forgets it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def begin(self, name: str, address: str) -> float:
        """Count a try, and return 0; or return for how long there may be none [s], and count nothing."""
        with self._lock:
            now, keys = self._clock(), _keys(name, address)
            wait = max(self._wait(key, rule, now) for key, rule in keys.items())
            if wait <= 0:
                for key in keys:
                    self._count(key, now)
            return max(0.0, wait)

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of a name, whose owner has logged in, and that this try of the address was one."""
        with self._lock:
            for key, rule in _keys(name, address).items():
                if rule is not _ADDRESS:
                    self._failures.pop(key, None)
                elif found := self._failures.get(key):
                    found.number -= 1

    def _wait(self, key: str, rule: _Rule, now: float) -> float:
        found = self._failures.get(key)
        if found is None or found.number < rule.free:
            return 0
        if now - found.at > _FORGET_S:
            del self._failures[key]
            return 0
        return found.at + min(rule.longest_s, _FIRST_S * 2.0 ** min(30, found.number - rule.free)) - now

    def _count(self, key: str, now: float) -> None:
        found = self._failures.pop(key, None)
        number = 0 if found is None or now - found.at > _FORGET_S else found.number
        self._failures[key] = _Failures(number + 1, now)
        if len(self._failures) > _MOST:
            self._failures.popitem(last=False)


def _keys(name: str, address: str) -> dict[str, _Rule]:
    """Return what is counted."""
    network = _network(address)
    return {f"both {network} {name}": _BOTH, f"address {network}": _ADDRESS, f"name {name}": _NAME}


def _network(address: str) -> str:
    """Return an address; of IPv6 its /64, all of which one customer has."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
