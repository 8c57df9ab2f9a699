"""The dashboard: panels, student filter and time range."""

from __future__ import annotations

import json
from typing import Any

from lens import Chart, kql
from objects import reference, saved
from panel import Panel
from panels import PANELS
from views import TOTALS

ID = "moodle-risk"
TITLE = "Students at risk"
#: Kibana version of the panels' format
VERSION = "8.19.0"
#: time picker when the dashboard is opened: long enough for a course
RANGE = {"from": "now-1y/d", "to": "now"}
#: time range of panels that ignore the time picker; one day ahead tolerates clocks that are fast
ALL_TIME = {"from": "1970-01-01T00:00:00.000Z", "to": "now+1d"}
#: refresh interval [ms]
REFRESH_MS = 60_000
CONTROL = "student"


def saved_object() -> dict[str, Any]:
    """Return the dashboard in Kibana's format."""
    panels = [(panel, *_config(panel)) for panel in PANELS]
    references = [reference(f"{panel.id}:{r['name']}", r["id"]) for panel, _, inner in panels for r in inner]
    references.append(reference(f"controlGroup_{CONTROL}:optionsListDataView", TOTALS.id))
    attributes = {
        "title": TITLE,
        "description": "Who may need help, and how students work. Predictions, not facts.",
        "panelsJSON": json.dumps([_panel(panel, config) for panel, config, _ in panels]),
        "controlGroupInput": _controls(),
        "optionsJSON": json.dumps({"useMargins": True, "syncColors": False, "hidePanelTitles": False}),
        "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps({"query": kql(""), "filter": []})},
        # otherwise Kibana opens with the last 15 minutes
        "timeRestore": True,
        "timeFrom": RANGE["from"],
        "timeTo": RANGE["to"],
        "refreshInterval": {"pause": False, "value": REFRESH_MS},
        "version": 1,
    }
    return saved("dashboard", ID, "10.2.0", attributes, references)


def _controls() -> dict[str, Any]:
    """Return the student filter, over the data view of totals because it lists every student."""
    student = {
        "type": "optionsListControl",
        "order": 0,
        "width": "medium",
        "grow": False,
        "explicitInput": {
            "id": CONTROL,
            "title": "Student",
            "fieldName": "USERID",
            "searchTechnique": "prefix",
            "selectedOptions": [],
            "enhancements": {},
        },
    }
    ignored = ("ignoreFilters", "ignoreQuery", "ignoreTimerange", "ignoreValidations")
    return {
        "controlStyle": "oneLine",
        "chainingSystem": "HIERARCHICAL",
        "panelsJSON": json.dumps({CONTROL: student}),
        "ignoreParentSettingsJSON": json.dumps(dict.fromkeys(ignored, False)),
    }


def _panel(panel: Panel, config: dict[str, Any]) -> dict[str, Any]:
    x, y, width, height = panel.position
    return {
        "version": VERSION,
        "type": "lens" if isinstance(panel.content, Chart) else "visualization",
        "panelIndex": panel.id,
        "gridData": {"x": x, "y": y, "w": width, "h": height, "i": panel.id},
        "title": panel.title,
        "embeddableConfig": config,
    }


def _config(panel: Panel) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return a panel's configuration and its references to data views."""
    common = {"title": panel.title, "description": panel.description, "hidePanelTitles": False, "enhancements": {}}
    if panel.all_time:
        common["timeRange"] = ALL_TIME
    if isinstance(panel.content, str):
        return {"savedVis": _markdown(panel.title, panel.content), **common}, []
    references = [
        reference(f"indexpattern-datasource-layer-{name}", layer.view.id)
        for name, layer in panel.content.layers.items()
    ]
    attributes = {
        "title": panel.title,
        "description": panel.description,
        "type": "lens",
        "visualizationType": panel.content.kind,
        "references": references,
        "state": panel.content.state(),
    }
    return {"attributes": attributes, **common}, references


def _markdown(title: str, markdown: str) -> dict[str, Any]:
    return {
        "title": title,
        "description": "",
        "type": "markdown",
        "params": {"markdown": markdown, "fontSize": 12, "openLinksInNewTab": False},
        "uiState": {},
        "data": {"aggs": [], "searchSource": {"query": kql(""), "filter": []}},
    }
