"""Tests of `python -m bench.rates`: what a worker costs at several rates."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
from aiokafka.conn import AIOKafkaConnection
from rich.console import Console

from bench import rates, rates_report, request_counts, usage
from bench.environment import WIDTH
from bench.figures import Latency, LiveCost
from bench.usage import Usage


@pytest.mark.broker
@pytest.mark.long
@pytest.mark.timeout(180)
def test_the_cost_of_a_rate_has_the_brokers_cpu_and_the_requests(cluster, tmp_path):
    """A worker and the bare loop under a load, and the worker idle: each flush begins and ends a transaction."""
    plan = rates.Plan([2], [0], [50], seconds=2, warm_up_s=1, idle_s=1, bare_loop=True)
    costs = rates.Measurement(cluster, tmp_path, Console(file=io.StringIO()), plan).run()
    assert [(cost.key, cost.rate, cost.unseen) for cost in costs] == [("app", 0, 0), ("floor", 50, 0), ("app", 50, 0)]
    for cost in costs[1:]:
        assert cost.usage.cpu_share > 0 < cost.usage.broker_share
        assert cost.usage.requests["AddPartitions"] > 1 < cost.usage.requests["EndTxn"]


def test_requests_are_counted_by_api(tmp_path, monkeypatch):
    """They are counted in a file from the start of a meter on; rare ones count together."""
    sent = []
    monkeypatch.setattr(request_counts.AIOKafkaConnection, "send", lambda _, *arguments: sent.append(arguments))
    monkeypatch.setenv(request_counts.VARIABLE, str(tmp_path / "counts"))
    request_counts.create(tmp_path / "counts")
    request_counts.install()
    meter = usage.Meter(os.getpid(), counts=tmp_path / "counts")
    for api in (1, 1, 26, 36, 37):
        AIOKafkaConnection.send(None, SimpleNamespace(API_KEY=api))
    requests = meter.read().requests
    assert len(sent) == 5
    assert requests["Fetch"] == pytest.approx(2 * requests["EndTxn"], rel=0.01)
    assert requests["others"] == pytest.approx(requests["Fetch"], rel=0.01)


def live_costs() -> list[LiveCost]:
    requests = {"Fetch": 2.0, "EndTxn": 1_000.0}
    busy = Usage(0.25, 0.5, 1.0, requests)
    bare = Latency("floor", "bare", 10.0, 100, 0, 3.0, 9.0, 20.0, usage=busy)
    app = replace(bare, key="app", p50_ms=6.0, usage=replace(busy, cpu_share=0.5))
    one = [LiveCost("app", 1, 100, 0, Usage(0.012)), LiveCost.of(bare, 1, None), LiveCost.of(app, 1, 100).above(0.2)]
    return [*one, *(replace(cost, partitions=4) for cost in one)]


def test_the_tables_of_the_rates():
    """Of a worker that takes twice the bare loop's CPU and time."""
    console = Console(file=io.StringIO(), width=WIDTH)
    console.print(*rates_report.tables(live_costs()))
    text = console.file.getvalue()
    assert "…" not in text
    for wanted in ("1 partition:", "4 partitions:", "idle", "1.2%", "30.0%", "1,002", "2.00", "1000.0"):
        assert wanted in text


def test_rates_are_saved_between_the_lines_of_the_document(tmp_path):
    """Twice, and the rest of the document stays."""
    page = tmp_path / "benchmarks.md"
    page.write_text(f"before\n{rates_report.BEGIN}\nold\n{rates_report.END}\nafter\n", encoding="utf-8")
    for _ in range(2):
        rates_report.save(live_costs(), tmp_path)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("| 10 | worker | 100 | 50.0% | 30.0% | 1,002 | 6.0 | 9.0 |") == 2
    costs = json.loads((tmp_path / "rates.json").read_text(encoding="utf-8"))["rates"]
    assert [(cost["rate"], cost.get("p50_ms")) for cost in costs] == [(0, None), (10, 3.0), (10, 6.0)] * 2
    page.write_text("no such lines", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks"):
        rates_report.save(live_costs(), tmp_path)


def test_the_document_has_the_lines_of_the_rates():
    text = (rates.DOCS / "benchmarks.md").read_text(encoding="utf-8")
    assert 0 <= text.find(rates_report.BEGIN) < text.find(rates_report.END)
