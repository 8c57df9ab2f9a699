"""Kibana as far as the dashboard uses it: from kibana/moodle-risk.ndjson to searches, and from responses to rows.

It reads only the built file, as Kibana does. A layer of a Lens panel becomes one search body: time range, queries and
the student filter as filters; bucketed columns as nested aggregations, in the layer's order; the other columns as
metrics below the innermost. Anything unknown is an error: a panel that is queried differently here than in Kibana
would prove nothing.

Two differences from Kibana remain. Runtime fields, which have scripts, are sent as OpenSearch's `derived` fields, which
take the same script: the tests' Elasticsearch has no script language. And date math is evaluated here, at a time that
the caller chooses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "kibana" / "moodle-risk.ndjson"

Json = dict[str, Any]
#: column id -> value
Row = dict[str, Any]

LAYER_REFERENCE = "indexpattern-datasource-layer-"
METRICS = {"sum": "sum", "average": "avg", "min": "min", "max": "max", "unique_count": "cardinality"}
#: metrics computed from others
COMPUTED = {"formula", "math"}
UNITS = {"d": "days", "h": "hours", "m": "minutes", "w": "weeks"}


@dataclass(frozen=True)
class View:
    """A data view."""

    id: str
    index: str
    time: str
    runtime: Mapping[str, Json]

    @classmethod
    def of(cls, saved: Json) -> View:
        attributes = saved["attributes"]
        runtime = json.loads(attributes["runtimeFieldMap"])
        return cls(saved["id"], attributes["title"], attributes.get("timeFieldName", ""), runtime)


@dataclass(frozen=True)
class Layer:
    """One layer of a Lens panel."""

    panel: str
    name: str
    view: View
    #: column id -> column, in order
    columns: Mapping[str, Json]
    query: str
    #: the panel's own time range, or the dashboard's
    range: Mapping[str, str]

    @property
    def buckets(self) -> list[str]:
        return [id for id, column in self.columns.items() if column["isBucketed"]]

    @property
    def metrics(self) -> list[str]:
        return [id for id, column in self.columns.items() if not column["isBucketed"]]

    @property
    def scripts(self) -> dict[str, Json]:
        """The runtime fields that the columns use."""
        used = {column.get("sourceField") for column in self.columns.values()}
        return {name: dict(field) for name, field in self.view.runtime.items() if name in used}

    @property
    def has_query(self) -> bool:
        """Whether the layer needs a search: a static line in a chart does not."""
        return any(column["operationType"] != "static_value" for column in self.columns.values())


@dataclass(frozen=True)
class Dashboard:
    """The saved objects in the file."""

    objects: tuple[Json, ...]

    @classmethod
    def read(cls, path: Path = FILE) -> Dashboard:
        return cls(tuple(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()))

    @property
    def saved(self) -> Json:
        """The saved object of the dashboard."""
        (saved,) = (saved for saved in self.objects if saved["type"] == "dashboard")
        return saved

    @property
    def views(self) -> dict[str, View]:
        return {saved["id"]: View.of(saved) for saved in self.objects if saved["type"] == "index-pattern"}

    @property
    def panels(self) -> dict[str, Json]:
        return {panel["panelIndex"]: panel for panel in json.loads(self.saved["attributes"]["panelsJSON"])}

    @property
    def controls(self) -> dict[str, Json]:
        return dict(json.loads(self.saved["attributes"]["controlGroupInput"]["panelsJSON"]))

    def layers(self) -> Iterator[Layer]:
        """All layers of all Lens panels; their data views are resolved by the dashboard's references, as in Kibana."""
        references = {reference["name"]: reference["id"] for reference in self.saved["references"]}
        attributes, views = self.saved["attributes"], self.views
        always = {"from": attributes["timeFrom"], "to": attributes["timeTo"]}
        for id, panel in self.panels.items():
            config = panel["embeddableConfig"]
            if panel["type"] != "lens":
                continue
            state = config["attributes"]["state"]
            assert state["query"]["language"] == "kuery"
            assert not state["filters"]
            for name, layer in state["datasourceStates"]["formBased"]["layers"].items():
                view = views[references[f"{id}:{LAYER_REFERENCE}{name}"]]
                columns = {name: layer["columns"][name] for name in layer["columnOrder"]}
                assert columns.keys() == layer["columns"].keys()
                yield Layer(id, name, view, columns, state["query"]["query"], config.get("timeRange", always))


def instant(text: str, now: datetime) -> datetime:
    """Evaluate an ISO time, or Elasticsearch's date math: now, now-7d, now-1y/d."""
    if not text.startswith("now"):
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    match = re.fullmatch(r"now(?:([+-])(\d+)([ydhmw]))?(/d)?", text)
    assert match, text
    sign, count, unit, rounded = match.groups()
    if sign:
        steps = int(sign + count)
        now = now.replace(year=now.year + steps) if unit == "y" else now + timedelta(**{UNITS[unit]: steps})
    return now.replace(hour=0, minute=0, second=0, microsecond=0) if rounded else now


def millis(at: datetime) -> int:
    return round(at.timestamp() * 1000)


# --- searches ---


def body(layer: Layer, now: datetime, student: str | None = None) -> Json:
    """The search body of a layer at a time, restricted to one student if the control is set."""
    filters = [] if not layer.query else [matching(layer.query, now)]
    if layer.view.time:
        low, high = (millis(instant(layer.range[end], now)) for end in ("from", "to"))
        filters.append({"range": {layer.view.time: {"gte": low, "lte": high, "format": "epoch_millis"}}})
    if student is not None:
        filters.append({"term": {"USERID": student}})
    return {
        "size": 0,
        "track_total_hits": True,
        "query": {"bool": {"filter": filters}},
        **({"derived": layer.scripts} if layer.scripts else {}),
        "aggs": _nested(layer, layer.buckets, now),
    }


def matching(query: str, now: datetime) -> Json:
    """Translate KQL joined by `and`: a field compared with a number or a time, equal to a word, or with any value."""
    operators = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
    filters: list[Json] = []
    for part in query.split(" and "):
        match = re.fullmatch(r"([\w.]+) ?(:|[<>]=?) (\S+)", part)
        assert match, f"unsupported: {part}"
        field, operator, value = match.groups()
        if value == "*":
            filters.append({"exists": {"field": field}})
        elif operator == ":":
            filters.append({"match": {field: value}})
        else:
            bound = millis(instant(value, now)) if value.startswith("now") else float(value)
            filters.append({"range": {field: {operators[operator]: bound}}})
    return {"bool": {"filter": filters}}


def _nested(layer: Layer, buckets: Sequence[str], now: datetime) -> Json:
    """Aggregations of the remaining buckets, with the metrics below the innermost."""
    if not buckets:
        aggregations = {id: _metric(layer.columns[id], now) for id in layer.metrics}
        return {id: aggregation for id, aggregation in aggregations.items() if aggregation is not None}
    id, *rest = buckets
    # a metric by which buckets are ordered is repeated on their own level
    by = layer.columns[id].get("params", {}).get("orderBy", {}).get("columnId") if rest else None
    order = None if by is None else _metric(layer.columns[by], now)
    below = _nested(layer, rest, now)
    return {id: {**_bucket(layer, layer.columns[id], now), "aggs": below if order is None else {by: order, **below}}}


def _bucket(layer: Layer, column: Json, now: datetime) -> Json:
    params, field = column["params"], column["sourceField"]
    match column["operationType"]:
        case "terms":
            assert not params["otherBucket"]
            assert not params["missingBucket"]
            by = params["orderBy"]
            key = by["columnId"] if by["type"] == "column" else "_key"
            assert by["type"] in ("column", "alphabetical")
            if by["type"] == "column" and layer.columns[key]["operationType"] == "count":
                assert "filter" not in layer.columns[key]
                key = "_count"
            return {"terms": {"field": field, "size": params["size"], "order": {key: params["orderDirection"]}}}
        case "date_histogram":
            assert params["includeEmptyRows"]
            low, high = (millis(instant(layer.range[end], now)) for end in ("from", "to"))
            bounds = {"min": low, "max": high}
            how = {"calendar_interval": params["interval"], "time_zone": "UTC", "min_doc_count": 0}
            return {"date_histogram": {"field": field, **how, "extended_bounds": bounds}}
        case "range":
            assert params["type"] == "range"
            ranges = [
                {"key": limits["label"], **{end: limits[end] for end in ("from", "to") if limits[end] is not None}}
                for limits in params["ranges"]
            ]
            return {"range": {"field": field, "ranges": ranges}}
    raise AssertionError(f"unsupported: {column['operationType']}")


def _metric(column: Json, now: datetime) -> Json | None:
    """The aggregation of a metric; None for the number of documents, and for computed columns."""
    operation = column["operationType"]
    if operation in COMPUTED | {"static_value"}:
        return None
    if operation == "count":
        assert column["sourceField"] == "___records___"
        aggregation: Json | None = None
    elif operation == "last_value":
        # as Kibana asks for all values of an array; the keyword's stored values are in alphabetical order
        assert column["params"]["showArrayValues"]
        field = column["sourceField"]
        sort = [{column["params"]["sortField"]: {"order": "desc"}}]
        aggregation = {"top_hits": {"size": 1, "sort": sort, "docvalue_fields": [{"field": field}], "_source": field}}
    elif operation == "median":
        aggregation = {"percentiles": {"field": column["sourceField"], "percents": [50]}}
    else:
        aggregation = {METRICS[operation]: {"field": column["sourceField"]}}
    if where := column.get("filter", {}).get("query"):
        return {"filter": matching(where, now), **({"aggs": {"of": aggregation}} if aggregation else {})}
    return aggregation


# --- results ---


def rows(layer: Layer, answer: Json) -> list[Row]:
    """The rows of a table for a layer's search response; times are epoch ms, a metric of nothing is None."""
    whole = {**answer.get("aggregations", {}), "doc_count": answer["hits"]["total"]["value"]}
    return list(_rows(layer, layer.buckets, whole))


def _rows(layer: Layer, buckets: Sequence[str], aggregations: Json) -> Iterator[Row]:
    if not buckets:
        yield {id: _value(layer, id, aggregations) for id in layer.metrics if not _is_part(layer, id)}
        return
    id, *rest = buckets
    for bucket in aggregations[id]["buckets"]:
        for row in _rows(layer, rest, bucket):
            yield {id: bucket["key"], **row}


def _is_part(layer: Layer, id: str) -> bool:
    """Whether a column is only an operand of a computed one."""
    return any(id in column.get("references", []) for column in layer.columns.values())


def _value(layer: Layer, id: str, aggregations: Json) -> Any:
    column = layer.columns[id]
    match column["operationType"]:
        case "count":
            return aggregations[id]["doc_count"] if "filter" in column else aggregations["doc_count"]
        case "last_value":
            values = [v for hit in aggregations[id]["of"]["hits"]["hits"] for v in hit["fields"][column["sourceField"]]]
            return values[0] if len(values) == 1 else values or None
        case "formula":
            (only,) = column["references"]
            return _value(layer, only, aggregations)
        case "math":
            ast = column["params"]["tinymathAst"]
            assert ast["name"] == "subtract"
            first, second = (_value(layer, part, aggregations) for part in ast["args"])
            return first - second
        case operation:
            metric = aggregations[id].get("of", aggregations[id])
            return metric["values"]["50.0"] if operation == "median" else metric["value"]
