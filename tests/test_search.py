"""Against a real OpenSearch node: the index template, and the documents that sinks leave."""

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
    """Moves actions to an index of the test's own, which the template still knows."""
    suffix = "_scratch"

    def moved(asked: Sequence[Action]) -> list[Action]:
        return [replace(one, index=one.index + suffix) for one in asked]

    yield moved
    node.drop(f"moodle_logs_*{suffix}")


# --- the template ---


@pytest.mark.parametrize("name", SINKS)
def test_the_template_gives_a_sinks_index_its_types(node: Node, name: str) -> None:
    """Accepted as it ships, and chosen for the name that the sink writes to."""
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
    """A record's offset is its version: a late one, also a delete or what it deleted, is a conflict and no harm."""
    records = written(case, topic)
    asked = scratch(actions(SINKS[sink], records))
    expected = documents(SINKS[sink], records)
    assert expected
    node.send(asked)
    assert node.documents(asked[0].index) == expected
    node.send(asked)
    assert node.documents(asked[0].index) == expected
    for seed in range(2):
        node.drop(asked[0].index)
        shuffled = list(asked)
        random.Random(seed).shuffle(shuffled)
        node.send(shuffled)
        assert node.documents(asked[0].index) == expected


def test_a_deleted_document_does_not_come_back(node: Node, scratch: Callable[[Sequence[Action]], list[Action]]) -> None:
    """Sessions that grew or merged are gone: without the deletes there would be more of them."""
    records = written("p08_bridge_chain", NAMES.sessions)
    asked = scratch(actions(SINKS["sink-sessions"], records))
    assert any(one.document is None for one in asked)
    node.send(asked)
    left = node.documents(asked[0].index)
    assert len(left) == len(documents(SINKS["sink-sessions"], records)) < len({one.id for one in asked})
    first = next(one for one in asked if one.id not in left)
    node.send([first])
    assert node.documents(asked[0].index) == left


def test_ids_of_session_keys_survive_the_node(node: Node, scratch: Callable[[Sequence[Action]], list[Action]]) -> None:
    """They are 16 raw bytes and more, as ISO-8859-1: control characters, quotes and all."""
    keys = [b"12" + bytes(range(i, i + 16)) for i in range(0, 240)]
    records: list[tuple[int, Record]] = [(i, (key, b'{"USERID":%d}' % i)) for i, key in enumerate(keys)]
    asked = scratch(actions(SINKS["sink-sessions"], records))
    node.send(asked)
    assert node.documents(asked[0].index) == {key.decode("latin-1"): {"USERID": i} for i, key in enumerate(keys)}
    node.send([replace(one, version=1_000, document=None) for one in asked])
    assert node.documents(asked[0].index) == {}
