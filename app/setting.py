"""One setting: a field of a dataclass with its variable, group and meaning; reading and checking of its text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from app.errors import ConfigError

#: names are taken for misspelt from this similarity on: those that Kubernetes makes of a service are less similar
_SIMILAR = 0.85


def setting(group: str, default: Any, variable: str, text: str, *, secret: bool = False) -> Any:
    """Declare a setting. The value of a `secret` one is not part of the object's repr."""
    return field(default=default, repr=not secret, metadata={"group": group, "variable": variable, "text": text})


def parts(text: str) -> list[str]:
    """Return what stands between the commas of a setting, without spaces around it and without empty parts."""
    return [part for each in text.split(",") if (part := each.strip())]


def without_credentials(url: str) -> str:
    """Return a URL, or what should have been one, without the user and password in it."""
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]


def is_topic_name(name: str) -> bool:
    """Whether `name` is valid for a topic, and short enough for the app's prefixes and suffixes."""
    return 0 < len(name) <= 200 and all(c.isascii() and (c.isalnum() or c in "._-") for c in name)


def parse(variable: str, text: str, default: object) -> Any:
    """Return the value of a variable, of the type that its default has. Raises ConfigError if it is no number."""
    if isinstance(default, (int, float)):
        try:
            return type(default)(text)
        except ValueError:
            kind = "a whole number" if isinstance(default, int) else "a number"
            raise ConfigError(f"{variable}: {text!r} is not {kind}") from None
    return cast(Any, Path(text)) if isinstance(default, Path) else text


def misspelt(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return one line for each RISK_ variable among `names` that is none of the `known` ones, but much like one."""
    known = list(known)
    others = sorted(name for name in set(names).difference(known) if name.startswith("RISK_"))
    found = [(name, get_close_matches(name, known, 1, _SIMILAR)) for name in others]
    return [f"{name} is set, and is no setting: did you mean {meant[0]}?" for name, meant in found if meant]
