"""Saved objects in the format that Kibana 8.8 and later export."""

from __future__ import annotations

from typing import Any


def saved(kind: str, id: str, version: str, attributes: dict[str, Any], references: list[dict[str, str]]) -> Any:
    """Return a saved object.

    version: format version of its type; without it, Kibana would run every migration of that type.
    """
    return {
        "type": kind,
        "id": id,
        "attributes": attributes,
        "references": references,
        "coreMigrationVersion": "8.8.0",
        "typeMigrationVersion": version,
        "managed": False,
    }


def reference(name: str, view: str) -> dict[str, str]:
    """Return the reference that resolves `name` to the data view with the id `view`."""
    return {"type": "index-pattern", "id": view, "name": name}
