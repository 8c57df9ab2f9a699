"""connect/rebuild.py against stubs; test_search.py runs it on a real Elasticsearch, test_cdc.py on a real Connect."""

from __future__ import annotations

import pytest

from connect import rebuild
from tests.support.connect_stub import IndexStub, SinkStub
from tests.support.sink_documents import index_of
from tests.support.stub_server import running
from tests.test_connect import SINKS, SOURCES


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "POLL_S", 0.005)
    # the scripts import one another by their own names
    monkeypatch.setattr("register.POLL_S", 0.005)
    monkeypatch.setattr("register.SETTLED_S", 0.02)


@pytest.mark.parametrize("name", SINKS)
def test_rebuilding_stops_the_sink_and_reads_its_topic_from_the_beginning(
    quick: None, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It waits until the consumer has left its group. `tests/test_search.py` deletes a real index, and
    `tests/test_cdc.py` sets a real sink back."""
    index = index_of(SINKS[name])
    with running(SinkStub(name, SINKS[name])) as connect, running(IndexStub()) as elasticsearch:
        command = [f"--url={connect.url}", f"--elasticsearch={elasticsearch.url}", "--timeout=20", name]
        assert rebuild.main(command) == 0
        assert connect.seen == ["PUT stop", "DELETE offsets", "PUT resume"]
        assert elasticsearch.seen == ["PUT /_index_template/moodle-risk", f"DELETE /{index}"]
        assert capsys.readouterr().out == f"{name}: {index} is being rebuilt; RUNNING, 1 task\n"


def test_a_sink_is_not_stopped_if_elasticsearch_refuses(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    with running(SinkStub("sink-agg", SINKS["sink-agg"])) as connect, running(IndexStub()) as elasticsearch:
        elasticsearch.status = 401
        command = [f"--url={connect.url}", f"--elasticsearch={elasticsearch.url}", "--timeout=20", "sink-agg"]
        assert rebuild.main(command) == 1
        assert connect.seen == []
        err = capsys.readouterr().err
        assert err.startswith(f"rebuild: PUT {elasticsearch.url}/_index_template/moodle-risk: HTTP 401: ")
        assert err.count("\n") == 1


def test_a_source_and_a_sink_that_would_not_begin_at_the_beginning_are_refused(
    quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """An index would stay empty."""
    key = "consumer.override.auto.offset.reset"
    latest = SINKS["sink-agg"] | {key: "latest"}
    for name, config in (("source-mariadb", SOURCES["source-mariadb"]), ("sink-agg", latest)):
        with running(SinkStub(name, config)) as connect:
            assert rebuild.main([f"--url={connect.url}", "--timeout=20", name]) == 1
            assert connect.seen == []
    assert capsys.readouterr().err == (
        "rebuild: source-mariadb is not a sink: its configuration has no topics\n"
        f"rebuild: sink-agg would not begin at the beginning: {key} is not earliest\n"
    )
