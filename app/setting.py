"""One setting: a field of a dataclass with its variable, group and meaning."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def setting(group: str, default: Any, variable: str, text: str, *, secret: bool = False) -> Any:
    """Declare a setting. The value of a `secret` one is not part of the object's repr."""
    return field(default=default, repr=not secret, metadata={"group": group, "variable": variable, "text": text})


def parts(text: str) -> list[str]:
    """Return what stands between the commas of a setting, without spaces around it and without empty parts."""
    return [part for each in text.split(",") if (part := each.strip())]
