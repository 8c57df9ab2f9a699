"""Risk models as JSON: a layout version and the SHA-256 of the canonical form are part of the text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NoReturn


class ModelError(ValueError):
    """A risk model that must not be used; the message says why."""


def read(text: str, version: int) -> dict[str, Any]:
    """The fields of a model that `write` wrote, without version and hash.

    Raises ModelError if the text is no model, has been altered, or has another layout version than `version`.
    """
    fields = _parse(text)
    try:
        claimed, claimed_version = fields.pop("sha256"), fields.pop("version")
    except KeyError as error:
        raise ModelError(f"not a risk model: {error!r}") from error
    if claimed_version != version:
        remedy = "run the version that wrote the model" if _is_newer(claimed_version, version) else "train it again"
        raise ModelError(f"version {claimed_version!r} of the layout; this program reads {version}: {remedy}")
    if claimed != sha256({**fields, "version": version}):
        raise ModelError("the sha256 does not match the content: the file has been altered")
    return fields


def write(fields: Mapping[str, Any]) -> str:
    """The fields, which include the version, and their hash as indented JSON with sorted keys."""
    return json.dumps({**fields, "sha256": sha256(fields)}, indent=1, sort_keys=True) + "\n"


def version_of(text: str) -> object:
    """The layout version that a model claims. Raises ModelError if the text is no JSON object with one."""
    try:
        return _parse(text)["version"]
    except KeyError as error:
        raise ModelError(f"not a risk model: {error!r}") from error


def sha256(fields: Mapping[str, Any]) -> str:
    """Hash of the canonical JSON of `fields`."""
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def frozen(value: Any) -> Any:
    """A list of JSON as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _parse(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ModelError("not a risk model: nested too deep") from None
    except ValueError as error:
        raise ModelError(f"not a risk model: {error!r}") from error
    if not isinstance(fields, dict):
        raise ModelError(f"not a risk model: a JSON {type(fields).__name__}")
    return fields


def _is_newer(version: object, known: int) -> bool:
    return type(version) is int and version > known


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
