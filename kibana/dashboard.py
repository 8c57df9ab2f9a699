"""The dashboard: its panels, the student filter, its time range."""

from __future__ import annotations

import json
from typing import Any

from lens import Chart, kql
from objects import reference, saved
from panels import PANELS, Panel
from views import TOTALS

ID = "moodle-risk"
TITLE = "Students at risk"
#: the Kibana whose shapes these are
VERSION = "8.19.0"
#: of the time picker when the dashboard is opened: a course and what came before it
RANGE = {"from": "now-1y/d", "to": "now"}
#: the time range of what is so now; a clock that is a little ahead hides nobody
ALL_TIME = {"from": "1970-01-01T00:00:00.000Z", "to": "now+1d"}
#: between two looks [ms]
REFRESH_MS = 60_000
CONTROL = "student"


def saved_object() -> dict[str, Any]:
    """As Kibana stores it."""
    drawn = [(panel, *_configured(panel)) for panel in PANELS]
    references = [reference(f"{panel.id}:{one['name']}", one["id"]) for panel, _, needs in drawn for one in needs]
    references.append(reference(f"controlGroup_{CONTROL}:optionsListDataView", TOTALS.id))
    attributes = {
        "title": TITLE,
        "description": "Who may need help, and how students work. Predictions, not facts.",
        "panelsJSON": json.dumps([_placed(panel, config) for panel, config, _ in drawn]),
        "controlGroupInput": _controls(),
        "optionsJSON": json.dumps({"useMargins": True, "syncColors": False, "hidePanelTitles": False}),
        "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps({"query": kql(""), "filter": []})},
        # without it Kibana opens the last 15 minutes
        "timeRestore": True,
        "timeFrom": RANGE["from"],
        "timeTo": RANGE["to"],
        "refreshInterval": {"pause": False, "value": REFRESH_MS},
        "version": 1,
    }
    return saved("dashboard", ID, "10.2.0", attributes, references)


def _controls() -> dict[str, Any]:
    """One filter, over the students of the totals: those are all there are."""
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


def _placed(panel: Panel, config: dict[str, Any]) -> dict[str, Any]:
    x, y, width, height = panel.at
    return {
        "version": VERSION,
        "type": "lens" if isinstance(panel.shows, Chart) else "visualization",
        "panelIndex": panel.id,
        "gridData": {"x": x, "y": y, "w": width, "h": height, "i": panel.id},
        "title": panel.title,
        "embeddableConfig": config,
    }


def _configured(panel: Panel) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """A panel's own configuration, and the data views it needs."""
    shown = {"title": panel.title, "description": panel.about, "hidePanelTitles": False, "enhancements": {}}
    if panel.always:
        shown["timeRange"] = ALL_TIME
    if isinstance(panel.shows, str):
        return {"savedVis": _text(panel.title, panel.shows), **shown}, []
    needs = [
        reference(f"indexpattern-datasource-layer-{name}", one.view.id) for name, one in panel.shows.layers.items()
    ]
    attributes = {
        "title": panel.title,
        "description": panel.about,
        "type": "lens",
        "visualizationType": panel.shows.kind,
        "references": needs,
        "state": panel.shows.state(),
    }
    return {"attributes": attributes, **shown}, needs


def _text(title: str, markdown: str) -> dict[str, Any]:
    return {
        "title": title,
        "description": "",
        "type": "markdown",
        "params": {"markdown": markdown, "fontSize": 12, "openLinksInNewTab": False},
        "uiState": {},
        "data": {"aggs": [], "searchSource": {"query": kql(""), "filter": []}},
    }
