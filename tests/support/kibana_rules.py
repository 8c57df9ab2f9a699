"""Rules for a file of saved objects that Kibana 8.19 must import and draw without errors.

Kibana reports little itself: an unknown field makes an empty panel, a dangling reference an error in the panel, a wrong
version a refused file. kibana/README.md has the sources of the rules.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

from tests.support.lens import LAYER_REFERENCE, instant

Json = dict[str, Any]

#: model version of each type in 8.19, which refuses later ones and migrates older ones
VERSIONS = {"index-pattern": "8.0.0", "dashboard": "10.2.0"}
ENVELOPE = {
    *("type", "id", "attributes", "references"),
    *("coreMigrationVersion", "typeMigrationVersion", "managed"),
}
#: attributes that a dashboard may have; Kibana refuses others
DASHBOARD = {
    *("title", "description", "kibanaSavedObjectMeta", "timeRestore", "timeFrom", "timeTo", "refreshInterval"),
    *("controlGroupInput", "panelsJSON", "optionsJSON", "hits", "version"),
}
WIDTH = 48
NUMBERS = {"long", "double"}
#: operation -> types of the fields it can be applied to
TYPES = {
    "terms": {"keyword"},
    "unique_count": {"keyword", "date", *NUMBERS},
    "date_histogram": {"date"},
    "min": {"date", *NUMBERS},
    "max": {"date", *NUMBERS},
    "last_value": {"keyword"},
    **dict.fromkeys(("sum", "average", "median", "range"), NUMBERS),
}
#: operations that take no field
FREE = {"static_value", "math", "formula"}
#: type of a field in Elasticsearch -> in Lens
KINDS = {"keyword": "string", "date": "date", "long": "number", "double": "number"}
#: keys under which a chart names columns
ACCESSORS = re.compile(r"\w*[aA]ccessors?|columnId")


def problems(objects: list[Json], fields: Mapping[str, Mapping[str, str]]) -> list[str]:
    """All violations, one line each. fields: index -> field -> type, for every index that a sink writes to."""
    return list(_problems(objects, fields))


def _problems(objects: list[Json], fields: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    ids = [(saved["type"], saved["id"]) for saved in objects]
    yield from (f"{kind} {id}: twice" for (kind, id), n in Counter(ids).items() if n > 1)
    known: dict[str, dict[str, str]] = {}
    for saved in objects:
        yield from _envelope(saved, ids)
        if saved["type"] == "index-pattern":
            violations, types = _view(saved, fields)
            yield from violations
            known[saved["id"]] = types
    dashboards = [saved for saved in objects if saved["type"] == "dashboard"]
    if len(dashboards) != 1:
        yield f"{len(dashboards)} dashboards"
    for saved in dashboards:
        yield from (f"dashboard: {problem}" for problem in _dashboard(saved, known))


def _envelope(saved: Json, ids: list[tuple[str, str]]) -> Iterator[str]:
    name = f"{saved['type']} {saved['id']}"
    if saved.keys() != ENVELOPE:
        yield f"{name}: keys {sorted(saved.keys() ^ ENVELOPE)}"
    if saved.get("coreMigrationVersion") != "8.8.0" or saved.get("typeMigrationVersion") != VERSIONS.get(saved["type"]):
        yield f"{name}: version {saved.get('typeMigrationVersion')}, {saved.get('coreMigrationVersion')}"
    names = [reference["name"] for reference in saved["references"]]
    yield from (f"{name}: reference {again} twice" for again, n in Counter(names).items() if n > 1)
    for reference in saved["references"]:
        if (reference["type"], reference["id"]) not in ids:
            yield f"{name}: reference {reference['name']} leads nowhere"


def _view(saved: Json, fields: Mapping[str, Mapping[str, str]]) -> tuple[list[str], dict[str, str]]:
    """Violations of a data view, and the types of its fields."""
    attributes, name = saved["attributes"], f"view {saved['id']}"
    if attributes["title"] not in fields:
        return [f"{name}: no sink writes to {attributes['title']}"], {}
    runtime = json.loads(attributes["runtimeFieldMap"])
    types = {**fields[attributes["title"]], **{field: what["type"] for field, what in runtime.items()}}
    violations = [
        f"{name}: runtime field {field} hides a real one" for field in runtime if field in fields[attributes["title"]]
    ]
    for field, what in runtime.items():
        read = set(re.findall(r"doc\['(\w+)'\]", what["script"]["source"]))
        violations += [f"{name}: {field} reads {other}, which is not there" for other in sorted(read - types.keys())]
    time = attributes.get("timeFieldName")
    if time is not None and types.get(time) != "date":
        violations.append(f"{name}: time field {time} is {types.get(time, 'not there')}")
    if time is None and "date" in types.values():
        violations.append(f"{name}: has times, but no time field")
    for what in ("fieldAttrs", "fieldFormatMap"):
        violations += [f"{name}: {what} of {field}" for field in json.loads(attributes[what]) if field not in types]
    return violations, types


def _dashboard(saved: Json, views: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    attributes = saved["attributes"]
    yield from (f"Kibana forbids {name}" for name in sorted(attributes.keys() - DASHBOARD))
    if attributes.get("timeRestore") is not True:
        yield "without timeRestore its time range is ignored"
    yield from _range(attributes["timeFrom"], attributes["timeTo"])
    panels = json.loads(attributes["panelsJSON"])
    yield from _positions(panels)
    references = {reference["name"]: reference["id"] for reference in saved["references"]}
    used: set[str] = set()
    for panel in panels:
        yield from (f"panel {panel['panelIndex']}: {problem}" for problem in _panel(panel, references, views, used))
    yield from _controls(attributes["controlGroupInput"], references, views, used)
    yield from (f"reference {name} is not used" for name in sorted(references.keys() - used))


def _range(low: str, high: str) -> Iterator[str]:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    if instant(low, now) >= instant(high, now):
        yield f"time range from {low} to {high}"


def _positions(panels: list[Json]) -> Iterator[str]:
    """Panels are inside the grid, have unique ids, and do not overlap."""
    yield from (f"panel {id}: twice" for id, n in Counter(panel["panelIndex"] for panel in panels).items() if n > 1)
    for panel in panels:
        at, id = panel["gridData"], panel["panelIndex"]
        if at["i"] != id:
            yield f"panel {id}: is {at['i']} in the grid"
        if ":" in id:
            yield f"panel {id}: a colon separates parts of reference names"
        if not (at["x"] >= 0 <= at["y"] and at["w"] > 0 < at["h"] and at["x"] + at["w"] <= WIDTH):
            yield f"panel {id}: outside of the grid"
    for first, second in combinations(panels, 2):
        a, b = first["gridData"], second["gridData"]
        if all(a[x] < b[x] + b[w] and b[x] < a[x] + a[w] for x, w in (("x", "w"), ("y", "h"))):
            yield f"panels {first['panelIndex']} and {second['panelIndex']} overlap"


def _panel(
    panel: Json, references: Mapping[str, str], views: Mapping[str, Mapping[str, str]], used: set[str]
) -> Iterator[str]:
    config = panel["embeddableConfig"]
    if not panel.get("title", "").strip():
        yield "no title"
    if not panel["version"].startswith("8."):
        yield f"version {panel['version']}"
    if own := config.get("timeRange"):
        yield from _range(own["from"], own["to"])
    if panel["type"] == "visualization":
        if config["savedVis"]["type"] != "markdown" or not config["savedVis"]["params"]["markdown"].strip():
            yield "no text"
        return
    if panel["type"] != "lens":
        yield f"type {panel['type']}"
        return
    attributes = config["attributes"]
    state = attributes["state"]
    layers = state["datasourceStates"]["formBased"]["layers"]
    inner = {reference["name"]: reference["id"] for reference in attributes["references"]}
    if inner.keys() != {LAYER_REFERENCE + name for name in layers}:
        yield "references inside are not those of its layers"
    fields: set[str] = set()
    for name, layer in layers.items():
        outer = f"{panel['panelIndex']}:{LAYER_REFERENCE}{name}"
        used.add(outer)
        view = references.get(outer)
        if view is None or view != inner.get(LAYER_REFERENCE + name):
            yield f"layer {name}: data view {view} outside, {inner.get(LAYER_REFERENCE + name)} inside"
            continue
        types = views.get(view, {})
        fields |= types.keys()
        for id, column in layer["columns"].items():
            yield from (f"column {id}: {problem}" for problem in _column(column, types, layer["columns"]))
        if layer["columnOrder"] != list(layer["columns"]):
            yield f"layer {name}: columnOrder is not that of its columns"
    yield from _query(state["query"], fields)
    yield from _drawn(attributes["visualizationType"], state["visualization"], layers)


def _column(column: Json, types: Mapping[str, str], columns: Mapping[str, Json]) -> Iterator[str]:
    operation, field = column["operationType"], column.get("sourceField")
    yield from (f"refers to {id}" for id in column.get("references", []) if id not in columns)
    if not column["label"].strip():
        yield "no label"
    if operation == "count":
        if field != "___records___":
            yield f"count of {field}"
    elif operation not in FREE:
        kind = types.get(field or "")
        if operation not in TYPES:
            yield f"operation {operation} is not known"
        elif kind is None:
            yield f"field {field} is in neither the index nor the data view"
        elif kind not in TYPES[operation]:
            yield f"{operation} of {field}, which is {kind}"
        elif operation != "unique_count":
            yield from _kind(column, KINDS[kind])
    if operation == "last_value" and types.get(column["params"]["sortField"]) != "date":
        yield f"the last by {column['params']['sortField']}, which is no time"
    by = column.get("params", {}).get("orderBy", {})
    if by.get("type") == "column" and by["columnId"] not in columns:
        yield f"ordered by {by['columnId']}"
    if "filter" in column:
        yield from _query(column["filter"], types)


def _kind(column: Json, kind: str) -> Iterator[str]:
    """The data type of a column is that of its field, and string for named ranges."""
    wanted = "string" if column["operationType"] == "range" else kind
    if column["dataType"] != wanted:
        yield f"dataType {column['dataType']}, not {wanted}"


def _query(query: Json, fields: Iterable[str]) -> Iterator[str]:
    """Check KQL of the supported form: comparisons, equalities and `FIELD: *`, joined by `and`."""
    if query["language"] != "kuery":
        yield f"query in {query['language']}"
    for part in filter(None, query["query"].split(" and ")):
        field = part.split(" ")[0].removesuffix(":")
        if field not in fields:
            yield f"query asks for {field}"


def _drawn(kind: str, visualization: Json, layers: Mapping[str, Json]) -> Iterator[str]:
    """The chart refers to existing layers and columns, and its axes have titles."""
    for key, name in _named(visualization):
        if key == "layerId" and name not in layers:
            yield f"draws layer {name}"
        if ACCESSORS.fullmatch(key) and not any(name in layer["columns"] for layer in layers.values()):
            yield f"draws column {name}"
    if kind == "lnsXY":
        if not (visualization["xTitle"] and visualization["yTitle"]):
            yield "an axis without a title"
        right = any(y.get("axisMode") == "right" for drawn in visualization["layers"] for y in drawn.get("yConfig", []))
        if right != bool(visualization["yRightTitle"]):
            yield "a right axis without a title, or a title without one"
        if {drawn["layerId"] for drawn in visualization["layers"]} != layers.keys():
            yield "layers that are not drawn"
        series_types = [drawn["seriesType"] for drawn in visualization["layers"] if drawn["layerType"] == "data"]
        if len(set(series_types)) < len(series_types):
            yield "two series that differ in nothing but colour"
    if kind == "lnsHeatmap" and not visualization["gridConfig"]["isCellLabelVisible"]:
        yield "cells with nothing but a colour"


def _named(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """All strings in a nested value, each with the key of itself or of its list."""
    if isinstance(value, str):
        yield key, value
    for name, inner in value.items() if isinstance(value, dict) else ():
        yield from _named(inner, name)
    for inner in value if isinstance(value, list) else ():
        yield from _named(inner, key)


def _controls(
    controls: Json, references: Mapping[str, str], views: Mapping[str, Mapping[str, str]], used: set[str]
) -> Iterator[str]:
    """The field of a control exists in every data view, since it filters every panel."""
    panels = json.loads(controls["panelsJSON"])
    json.loads(controls["ignoreParentSettingsJSON"])
    if not panels:
        yield "no student filter"
    for id, control in panels.items():
        name = f"controlGroup_{id}:optionsListDataView"
        used.add(name)
        field = control["explicitInput"]["fieldName"]
        if control["explicitInput"]["id"] != id or control["type"] != "optionsListControl":
            yield f"control {id}: {control['type']} {control['explicitInput']['id']}"
        if name not in references:
            yield f"control {id}: no data view"
        for view, types in views.items():
            if types.get(field) != "keyword":
                yield f"control {id}: {field} is {types.get(field, 'not there')} in {view}"
