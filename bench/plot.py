"""Plot of the figures: CPU per event on a log scale, and the latency of single events."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: size [inch] and resolution [dots per inch]: 1,500 by 675 pixels
_SIZE, _DPI = (10.0, 4.5), 150
#: colours: this app, reading alone, other implementations
_APP, _READ, _OTHERS = "#1f6f8b", "#9aa5b1", "#d08c60"
#: bars of the left panel from top to bottom: key, label, colour
_BARS = (
    ("read-batches", "reading, through the app's reader", _READ),
    ("read", "reading, aiokafka's getmany", _READ),
    ("job", "the whole job (batch)", _APP),
    ("job-changes", "the whole job (changes)", _APP),
    ("ksql", "KSQL 5.3, default cache *", _OTHERS),
    ("ksql-uncached", "KSQL 5.3, cache off *", _OTHERS),
    ("usual", "plain Faust", _OTHERS),
)
#: percentiles of the right panel: JSON key, label
_TIMES = (("p50_ms", "p50"), ("p99_ms", "p99"), ("max_ms", "max"))
_NAMES = {"app": "the whole job", "floor": "bare transactional loop (aiokafka)"}


def draw(document: Mapping[str, Any], path: Path) -> None:
    """Draw the result of `bench.report.document` as a PNG."""
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
        if document["latency"]:
            left, right = figure.subplots(1, 2, width_ratios=(1.45, 1))
            _latency(right, document["latency"])
        else:
            left = figure.subplots()
        _cpu(left, document)
        figure.supxlabel(_footnote(document), fontsize=7, color="#555555")
        figure.savefig(path)


def _cpu(axes: Axes, document: Mapping[str, Any]) -> None:
    measured = {entry["key"]: entry for entry in reversed(document["measured"])}  # of several logs the first wins
    spans = {key: (entry["cpu_us_per_event"]["best"],) for key, entry in measured.items()}
    spans |= {entry["key"]: tuple(entry["cpu_us_per_event"]) for entry in document["cited"]}
    bars = [bar for bar in _BARS if bar[0] in spans]
    for y, (key, _, colour) in enumerate(bars):
        low, high = spans[key][0], spans[key][-1]
        axes.barh(y, high, color=colour, height=0.66, zorder=2)
        text = f"{_short(low)} to {_short(high)}" if low != high else _short(high)
        axes.text(high * 1.12, y, f"{text} µs", va="center")
    axes.set_xscale("log")
    axes.set_xlim(0.2, max(span[-1] for span in spans.values()) * 6)
    axes.set_yticks(range(len(bars)), [name for _, name, _ in bars])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", zorder=0)
    axes.xaxis.set_major_formatter(_plain)
    axes.set_xlabel("CPU of the whole process per event [µs], log scale")
    axes.set_title("Processing a backlog: CPU per event", loc="left", fontweight="bold")


def _plain(number: float, _: object) -> str:
    """Format a tick's label: 0.1, 1, 1,000."""
    return f"{number:,.0f}" if number >= 1 else f"{number:g}"


def _short(number: float) -> str:
    """Format a bar's value: two decimals below 20, else none."""
    return f"{number:,.0f}" if number >= 20 else f"{number:.2f}"


def _latency(axes: Axes, latencies: list[Mapping[str, Any]]) -> None:
    height = 0.8 / len(latencies)
    for i, latency in enumerate(latencies):
        colour = _APP if latency["key"] == "app" else _READ
        positions = [y + (i - (len(latencies) - 1) / 2) * height for y in range(len(_TIMES))]
        values = [latency[name] for name, _ in _TIMES]
        axes.barh(positions, values, height=height * 0.92, color=colour, zorder=2, label=_NAMES[latency["key"]])
        for y, value in zip(positions, values, strict=True):
            axes.text(value * 1.08, y, f"{value:,.1f} ms" if value < 100 else f"{value:,.0f} ms", va="center")
    axes.set_xscale("log")
    values = [latency[name] for latency in latencies for name, _ in _TIMES]
    axes.set_xlim(min(values) / 4, max(values) * 8)
    axes.set_yticks(range(len(_TIMES)), [label for _, label in _TIMES])
    axes.set_ylim(len(_TIMES) - 0.5, -1.15)  # top to bottom, with room for the legend
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", zorder=0)
    axes.xaxis.set_major_formatter(_plain)
    axes.set_xlabel("from produced to visible for read_committed [ms], log scale")
    axes.set_title(f"Latency at {latencies[0]['rate']:,.0f} single events/s", loc="left", fontweight="bold")
    axes.legend(loc="upper left", frameon=False, fontsize=8)


def _footnote(document: Mapping[str, Any]) -> str:
    where, what = document["machine"], document["versions"]
    students = document["measured"][0]["students"] if document["measured"] else 0
    return (
        f"{document['date']}, {where['cores']} cores ({where['cpu']}), Python {what['python']}, Kafka {what['kafka']} "
        f"on the same machine, {students:,} students, {document['partitions']} partitions; best run, CPU time "
        "of the whole process\n* cited: an earlier measurement of this project, one partition, without scoring; not "
        "measured by this command"
    )
