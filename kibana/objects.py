"""What a saved object looks like on a line of the file: the shape that Kibana 8.8 and later export."""

from __future__ import annotations

from typing import Any


def saved(kind: str, id: str, version: str, attributes: dict[str, Any], references: list[dict[str, str]]) -> Any:
    """One line. version: of the kind's shape; without one Kibana would run every migration it ever had on it."""
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
    """That `name` stands for a data view."""
    return {"type": "index-pattern", "id": view, "name": name}
