"""The part of Lens that the panels use: columns (fields and aggregations of an index) and charts (how to draw them).

A column is the dict that Lens stores; its id is its key in the layer. Only operations that Elasticsearch and OpenSearch
evaluate alike are used, so that tests can run them on a real OpenSearch node (tests/support/lens.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from views import View

Column = dict[str, Any]

PERCENT = {"id": "percent", "params": {"decimals": 0}}
NUMBER = {"id": "number", "params": {"decimals": 0}}


@dataclass(frozen=True)
class Layer:
    """Columns over one data view: buckets first, from the outermost to the innermost, then metrics."""

    view: View
    columns: Mapping[str, Column]


@dataclass(frozen=True)
class Chart:
    """A visualization and the data it shows."""

    kind: str
    visualization: dict[str, Any]
    layers: Mapping[str, Layer]
    #: KQL filter for all layers
    query: str = ""

    def state(self) -> dict[str, Any]:
        """Return the state in Lens's format; the data views of the layers are stored beside it, as references."""
        layers = {
            name: {"columnOrder": list(layer.columns), "columns": dict(layer.columns), "incompleteColumns": {}}
            for name, layer in self.layers.items()
        }
        return {
            "datasourceStates": {"formBased": {"layers": layers}},
            "visualization": self.visualization,
            "query": kql(self.query),
            "filters": [],
            "internalReferences": [],
            "adHocDataViews": {},
        }


def kql(query: str) -> dict[str, str]:
    """Return a query in KQL."""
    return {"query": query, "language": "kuery"}


# --- columns ---


def _column(operation: str, field: str, label: str, kind: str, bucketed: bool, params: dict[str, Any]) -> Column:
    return {
        "operationType": operation,
        "sourceField": field,
        "label": label,
        "customLabel": True,
        "dataType": kind,
        "isBucketed": bucketed,
        "scale": "ordinal" if bucketed else "ratio",
        "params": params,
    }


def count(label: str, where: str = "") -> Column:
    """Count documents."""
    column = _column("count", "___records___", label, "number", False, {"emptyAsNull": False, "format": NUMBER})
    return column | ({"filter": kql(where)} if where else {})


def distinct(field: str, label: str, where: str = "") -> Column:
    """Count distinct values: exact up to a few thousand, approximate above."""
    column = _column("unique_count", field, label, "number", False, {"emptyAsNull": False, "format": NUMBER})
    return column | ({"filter": kql(where)} if where else {})


def number(operation: str, field: str, label: str, format: dict[str, Any] = NUMBER) -> Column:
    """Aggregate a number: sum, average, median, min or max."""
    return _column(operation, field, label, "number", False, {"format": format})


def time(operation: str, field: str, label: str) -> Column:
    """Aggregate a time: min or max."""
    return _column(operation, field, label, "date", False, {})


def last(field: str, sort: str, label: str) -> Column:
    """All values of a keyword in the document that is latest by the time `sort`; an array's in alphabetical order."""
    params = {"sortField": sort, "showArrayValues": True}
    column = _column("last_value", field, label, "string", False, params)
    return column | {"scale": "ordinal", "filter": kql(f"{field}: *")}


def terms(field: str, label: str, size: int, by: str = "", descending: bool = True) -> Column:
    """One bucket per value, at most `size`, ordered by a metric of the layer, or by the values themselves."""
    order = {"type": "column", "columnId": by} if by else {"type": "alphabetical", "fallback": False}
    params = {
        "size": size,
        "orderBy": order,
        "orderDirection": "desc" if descending else "asc",
        "otherBucket": False,
        "missingBucket": False,
        "parentFormat": {"id": "terms"},
    }
    return _column("terms", field, label, "string", True, params)


def date_histogram(interval: str, field: str, label: str) -> Column:
    """One bucket per day ("1d") or week ("1w"), empty ones included."""
    params = {"interval": interval, "includeEmptyRows": True, "dropPartials": False}
    return _column("date_histogram", field, label, "date", True, params) | {"scale": "interval"}


def ranges(field: str, label: str, bounds: Sequence[tuple[int, int | None, str]]) -> Column:
    """One bucket per range: from, to (exclusive; None: unbounded), label."""
    params = {
        "type": "range",
        "ranges": [{"from": low, "to": high, "label": name} for low, high, name in bounds],
        "maxBars": "auto",
        "parentFormat": {"id": "range", "params": {"template": "arrow_right", "replaceInfinity": True}},
    }
    return _column("range", field, label, "string", True, params)


def static_value(value: float, label: str) -> Column:
    """A constant, for a reference line in a chart."""
    column = _column("static_value", "", label, "number", False, {"value": f"{value:g}", "format": PERCENT})
    del column["sourceField"]
    return column | {"isStaticValue": True, "references": []}


def difference(id: str, label: str, formula: str, first: Column, second: Column) -> dict[str, Column]:
    """The columns of `first - second`. Lens stores the formula's text together with its parsed form."""
    ids = [f"{id}X{i}" for i in range(3)]
    part = {"label": f"Part of {label}", "customLabel": True}
    ast = {
        "type": "function",
        "name": "subtract",
        "args": ids[:2],
        "location": {"min": 0, "max": len(formula)},
        "text": formula,
    }
    whole = {"dataType": "number", "isBucketed": False, "scale": "ratio"}
    return {
        ids[0]: first | part,
        ids[1]: second | part,
        ids[2]: {"operationType": "math", "params": {"tinymathAst": ast}, "references": ids[:2], **whole, **part},
        id: {
            "operationType": "formula",
            "label": label,
            "customLabel": True,
            "params": {"formula": formula, "isFormulaBroken": False, "format": NUMBER},
            "references": ids[2:],
            **whole,
        },
    }


# --- charts ---


def metric(view: View, columns: Mapping[str, Column], subtitle: str, query: str = "") -> Chart:
    """A single large number: the last column."""
    shown = {"metricAccessor": list(columns)[-1], "subtitle": subtitle, "showBar": False}
    return Chart("lnsMetric", {"layerId": "data", "layerType": "data", **shown}, {"data": Layer(view, columns)}, query)


def table(
    view: View, columns: Mapping[str, Column], by: str, descending: bool = True, query: str = "", whole: bool = False
) -> Chart:
    """A table, sorted by a column; whole: rows are as high as their text."""
    shown = {
        "columns": [
            {"columnId": id, "alignment": "left" if column["isBucketed"] else "right"} for id, column in columns.items()
        ],
        "sorting": {"columnId": by, "direction": "desc" if descending else "asc"},
        "paging": {"enabled": True, "size": 10},
        **({"rowHeight": "auto"} if whole else {}),
    }
    layers = {"data": Layer(view, columns)}
    return Chart("lnsDatatable", {"layerId": "data", "layerType": "data", **shown}, layers, query)


def heatmap(view: View, across: Column, down: Column, value: Column) -> Chart:
    """A heat map with the number in each cell, so that colour is not the only cue."""
    shown = {
        "shape": "heatmap",
        "layerId": "data",
        "layerType": "data",
        "xAccessor": "across",
        "yAccessor": "down",
        "valueAccessor": "value",
        "legend": {"isVisible": True, "position": "right", "type": "heatmap_legend"},
        "gridConfig": {
            "type": "heatmap_grid",
            "isCellLabelVisible": True,
            "isXAxisLabelVisible": True,
            "isYAxisLabelVisible": True,
            "isXAxisTitleVisible": True,
            "isYAxisTitleVisible": True,
        },
    }
    return Chart("lnsHeatmap", shown, {"data": Layer(view, {"down": down, "across": across, "value": value})})


@dataclass(frozen=True)
class Series:
    """One layer of an x-y chart: `shape` is bar, bar_horizontal or line; `axis` is left or right."""

    shape: str
    view: View
    x: Column
    y: Column
    axis: str = "left"


def xy(
    series: Mapping[str, Series], x: str, left: str, right: str = "", limit: tuple[float, str] | None = None
) -> Chart:
    """An x-y chart with axis titles. Series differ in shape and label, so that colour is not the only cue.

    limit: value and label of a dashed horizontal line on the left axis.
    """
    layers = {name: Layer(s.view, {f"{name}-x": s.x, f"{name}-y": s.y}) for name, s in series.items()}
    drawn: list[dict[str, Any]] = [
        {
            "layerId": name,
            "layerType": "data",
            "seriesType": s.shape,
            "xAccessor": f"{name}-x",
            "accessors": [f"{name}-y"],
            "yConfig": [{"forAccessor": f"{name}-y", "axisMode": s.axis}],
        }
        for name, s in series.items()
    ]
    if limit is not None:
        layers["limit"] = Layer(next(iter(series.values())).view, {"limit-y": static_value(*limit)})
        look = {"lineStyle": "dashed", "lineWidth": 2, "textVisibility": True, "axisMode": "left"}
        line = {"layerId": "limit", "layerType": "referenceLine", "accessors": ["limit-y"]}
        drawn.append({**line, "yConfig": [{"forAccessor": "limit-y", **look}]})
    shown = {
        "layers": drawn,
        "preferredSeriesType": drawn[0]["seriesType"],
        "legend": {"isVisible": len(layers) > 1, "position": "bottom"},
        "valueLabels": "show" if len(layers) == 1 else "hide",
        "fittingFunction": "None",
        "xTitle": x,
        "yTitle": left,
        "yRightTitle": right,
        "axisTitlesVisibilitySettings": {"x": True, "yLeft": True, "yRight": bool(right)},
        "yLeftExtent": {"mode": "full"},
        "yRightExtent": {"mode": "full"},
    }
    return Chart("lnsXY", shown, layers)
