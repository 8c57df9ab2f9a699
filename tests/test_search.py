"""The index template and the documents that sinks leave, on a real OpenSearch node."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from tests.support import golden_cases
from tests.support.opensearch import Node
from tests.support.sink_documents import Action, Record, actions, documents, index_of
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
    """Sessions that grew or merged are gone; sending a deleted one again has no effect."""
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
