"""The index template and the documents that sinks leave, on a real Elasticsearch node."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import httpx
import pytest

import stack
from connect import rebuild
from models.predictions import MAX_ID_BYTES, is_id
from stack.search import VERSION
from tests.support import golden_cases
from tests.support.connect_stub import SinkStub
from tests.support.search_node import Node
from tests.support.sink_documents import Action, Record, actions, documents, index_of
from tests.support.stub_server import running
from tests.test_connect import NAMES, SINKS, TEMPLATE

pytestmark = pytest.mark.search


@pytest.fixture
def scratch(node: Node) -> Iterator[Callable[[Sequence[Action]], list[Action]]]:
    """Return a function that moves actions to the test's own index, to which the template still applies."""
    suffix = "_scratch"

    def moved(requests: Sequence[Action]) -> list[Action]:
        return [replace(action, index=action.index + suffix) for action in requests]

    yield moved
    node.drop(f"moodle_logs_*{suffix}")


# --- the template ---


@pytest.mark.parametrize("name", SINKS)
def test_the_template_gives_a_sinks_index_its_types(node: Node, name: str) -> None:
    """The node accepts the shipped template, and applies it to the index that the sink writes to."""
    made = node.ask("POST", f"/_index_template/_simulate_index/{index_of(SINKS[name])}")["template"]
    assert made["mappings"]["properties"] == TEMPLATE["template"]["mappings"]["properties"]
    assert made["settings"]["index"]["number_of_replicas"] == "0"


# --- documents ---


def written(case: str, topic: str) -> list[tuple[int, Record]]:
    rows = golden_cases.expected(golden_cases.load(case), topic)
    return [(offset, (row[1], row[2])) for offset, row in enumerate(rows)]


@pytest.mark.parametrize("case", ["p08_bridge_chain", "p32_multi_user"])
@pytest.mark.parametrize(("sink", "topic"), [("sink-sessions", NAMES.sessions), ("sink-agg", NAMES.agg)])
def test_documents_do_not_depend_on_redelivery_or_order(
    node: Node, scratch: Callable[[Sequence[Action]], list[Action]], case: str, sink: str, topic: str
) -> None:
    """A record's offset is its version: an older one, also of a delete, is a conflict without effect."""
    records = written(case, topic)
    requests = scratch(actions(SINKS[sink], records))
    expected = documents(SINKS[sink], records)
    assert expected
    node.send(requests)
    assert node.documents(requests[0].index) == expected
    node.send(requests)
    assert node.documents(requests[0].index) == expected
    for seed in range(2):
        node.drop(requests[0].index)
        shuffled = list(requests)
        random.Random(seed).shuffle(shuffled)
        node.send(shuffled)
        assert node.documents(requests[0].index) == expected


def test_a_deleted_document_does_not_come_back(node: Node, scratch: Callable[[Sequence[Action]], list[Action]]) -> None:
    """Sessions that grew or merged are gone; sending a deleted one again soon has no effect."""
    records = written("p08_bridge_chain", NAMES.sessions)
    requests = scratch(actions(SINKS["sink-sessions"], records))
    assert any(action.document is None for action in requests)
    node.send(requests)
    left = node.documents(requests[0].index)
    assert len(left) == len(documents(SINKS["sink-sessions"], records)) < len({action.id for action in requests})
    first = next(action for action in requests if action.id not in left)
    node.send([first])
    assert node.documents(requests[0].index) == left


def test_ids_of_session_keys_survive_the_node(node: Node, scratch: Callable[[Sequence[Action]], list[Action]]) -> None:
    """Ids are at least 16 raw bytes as ISO-8859-1, control characters and quotes included."""
    keys = [b"12" + bytes(range(i, i + 16)) for i in range(0, 240)]
    records: list[tuple[int, Record]] = [(i, (key, b'{"USERID":%d}' % i)) for i, key in enumerate(keys)]
    requests = scratch(actions(SINKS["sink-sessions"], records))
    node.send(requests)
    assert node.documents(requests[0].index) == {key.decode("latin-1"): {"USERID": i} for i, key in enumerate(keys)}
    node.send([replace(action, version=1_000, document=None) for action in requests])
    assert node.documents(requests[0].index) == {}


# --- versions after a delete is forgotten ---

#: long enough for a delete to be forgotten [s]: Elasticsearch's clock has steps of 0.2 s
FORGOTTEN_S = 1.0


def version_after_a_delete(node: Node, index: str) -> int:
    """Index version 5, delete as 7, wait, and index 5 again as a delayed request would; return the last status."""
    old = Action(index, "student", 5, b'{"USERID":1}')
    node.send([old, Action(index, "student", 7, None)])
    time.sleep(FORGOTTEN_S)
    node.ask("POST", f"/{index}/_refresh")  # what forgets deletes
    (item,) = node.ask("POST", "/_bulk", old.lines())["items"]
    return int(item["index"]["status"])


def test_a_deleted_session_comes_back_if_its_delete_is_forgotten(
    node: Node, scratch: Callable[[Sequence[Action]], list[Action]]
) -> None:
    """A sink that repeats an old request after an outage revives a session that was merged away, unless the index
    remembers the delete: for an hour with the template's setting, for a minute by default."""
    index = "moodle_logs_deletes_scratch"
    assert version_after_a_delete(node, index) == 409
    kept = TEMPLATE["template"]["settings"]["gc_deletes"]
    settings = node.ask("GET", f"/{index}/_settings/index.gc_deletes")[index]["settings"]
    assert settings == {"index": {"gc_deletes": kept}} == {"index": {"gc_deletes": "1h"}}
    node.drop(index)
    node.ask("PUT", f"/{index}", {"settings": {"gc_deletes": "100ms"}})
    assert version_after_a_delete(node, index) == 201


# --- keys ---


def test_elasticsearch_refuses_a_whole_request_for_one_key_above_the_limit(
    node: Node, scratch: Callable[[Sequence[Action]], list[Action]]
) -> None:
    """So the sink repeats it for ever; `alert` forwards no such key. A key of the limit is a document."""
    config = SINKS["sink-in-risk"]
    longest, other = b"x" * (MAX_ID_BYTES - 2) + b"\xc3", b"17"
    records: list[tuple[int, Record]] = [(0, (longest, b'{"USERID":1}')), (1, (other, b'{"USERID":17}'))]
    assert is_id(longest)
    assert not is_id(longest + b"x")
    requests = scratch(actions(config, records))
    node.send(requests)
    assert node.documents(requests[0].index) == documents(config, records)
    lines = b"".join(a.lines() for a in scratch(actions(config, [(2, (longest + b"x", b"{}")), (3, (other, b"{}"))])))
    headers = {"Content-Type": "application/x-ndjson"}
    refused = httpx.post(f"{node.url}/_bulk", content=lines, headers=headers, timeout=30)
    assert refused.status_code == 400
    assert f"must be no longer than {MAX_ID_BYTES} bytes but was: {MAX_ID_BYTES + 1}" in refused.text
    assert node.documents(requests[0].index) == documents(config, records)


# --- rebuilding an index ---


def test_documents_of_a_topic_that_was_made_anew_are_ignored_until_the_index_is_rebuilt(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its offsets begin at 0 again, below the versions in the index. `connect/rebuild.py` stops the sink, deletes the
    index, sets the sink back to the beginning of its topic and starts it."""
    config, index = SINKS["sink-agg"], index_of(SINKS["sink-agg"])
    node.drop(f"{index}*")
    node.send(actions(config, [(offset, (b"7", b'{"USERID":7,"ACTIVITIES":%d}' % offset)) for offset in range(5)]))
    anew = actions(config, [(0, (b"7", b'{"USERID":7,"ACTIVITIES":99}'))])
    node.send(anew)
    assert node.documents(index)["7"]["ACTIVITIES"] == 4
    with running(SinkStub("sink-agg", config)) as connect:
        arguments = [f"--url={connect.url}", f"--elasticsearch={node.url}", "--timeout=20", "sink-agg"]
        assert rebuild.main(arguments) == 0
        assert connect.seen == ["PUT stop", "DELETE offsets", "PUT resume"]
        assert rebuild.main(arguments) == 0  # also if there is no index
    assert capsys.readouterr().err == ""
    node.send(anew)
    assert node.documents(index) == {"7": {"USERID": 7, "ACTIVITIES": 99}}
    settings = node.ask("GET", f"/{index}/_settings/index.gc_deletes")[index]["settings"]
    assert settings == {"index": {"gc_deletes": "1h"}}
    node.drop(index)


# --- the node of the tests ---


def test_the_node_has_the_pinned_version_and_its_own_cluster_name(search_node: stack.Environment, node: Node) -> None:
    assert set(search_node.variables) == {"RISK_SEARCH"}
    (local,) = node.ask("GET", "/_nodes/_local")["nodes"].values()
    assert local["version"] == VERSION
    assert node.ask("GET", "/_cluster/health")["cluster_name"].startswith("stack-")
    with pytest.raises(stack.StackError, match="no broker is running"):
        _ = search_node.broker


def test_the_node_listens_on_the_loopback_address_only(search_node: stack.Environment) -> None:
    (status,) = stack.status(search_node.directory)
    assert status.ready
    for port in status.ports.values():
        with socket.socket() as other:  # fails if the wildcard address is in use
            other.bind(("127.0.0.2", port))


def test_only_indices_of_the_pipeline_are_created_automatically(node: Node) -> None:
    answer = httpx.put(f"{node.url}/moodel_logs/_doc/1", json={"USERID": 1}, timeout=30)
    assert answer.status_code == 404


@pytest.mark.long
def test_an_acknowledged_document_survives_kill_9(search_node: stack.Environment, node: Node) -> None:
    """After `restart` the node has the same port and documents."""
    document = f"{node.url}/moodle_logs_survivors/_doc/1"
    assert httpx.put(document, json={"USERID": 17}, timeout=30).status_code == 201
    stack.kill("search", search_node.directory)
    assert not stack.status(search_node.directory)[0].ready
    stack.restart("search", search_node.directory)
    node.ask("GET", "/_cluster/health/moodle_logs_survivors?wait_for_active_shards=1&timeout=20s")
    assert httpx.get(document, timeout=30).json()["_source"] == {"USERID": 17}
    node.drop("moodle_logs_survivors")
