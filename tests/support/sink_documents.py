"""A model of Confluent's Elasticsearch sink, as far as connect/sink-*.json use it: its requests and their effect.

Follows DataConverter.java and ElasticsearchClient.java of 15.x. test_connect.py checks the resulting documents;
test_search.py sends the requests to a real node and compares the index with the model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, str]
Document = dict[str, Any]
#: leaves out fields of a value, and fails for a value that is no JSON object: a dead letter
REPLACE_FIELD = "org.apache.kafka.connect.transforms.ReplaceField$Value"
#: key and value
Record = tuple[bytes | None, bytes | None]


@dataclass(frozen=True, slots=True)
class Action:
    """One action of a bulk request, with its document."""

    index: str
    id: str
    #: external version; None: the index counts versions itself
    version: int | None
    #: None deletes the document
    document: bytes | None

    def lines(self) -> bytes:
        """Encode the action as lines of a bulk request."""
        target: dict[str, Any] = {"_index": self.index, "_id": self.id}
        if self.version is not None:
            target |= {"version": self.version, "version_type": "external"}
        if self.document is None:
            return json.dumps({"delete": target}).encode() + b"\n"
        return json.dumps({"index": target}).encode() + b"\n" + self.document + b"\n"


def index_of(config: Config) -> str:
    """The index of a sink: the topic's name after the transforms, in lower case, without leading - and _."""
    topic = config["topics"]
    for name in filter(None, config.get("transforms", "").split(",")):
        if config[f"transforms.{name}.type"] == REPLACE_FIELD:
            continue
        assert config[f"transforms.{name}.type"] == "org.apache.kafka.connect.transforms.RegexRouter"
        replacement = re.sub(r"\$(\d)", r"\\\1", config[f"transforms.{name}.replacement"])
        if match := re.fullmatch(config[f"transforms.{name}.regex"], topic):
            topic = match.expand(replacement)
    return topic.lower().lstrip("-_")


def actions(config: Config, records: Iterable[tuple[int, Record]]) -> list[Action]:
    """The sink's actions for records, given with their offsets in partition 0.

    The id is the converted key, or topic+partition+offset; a null value is a delete, or ignored; writes with a key have
    the offset as external version.
    """
    index, result = index_of(config), []
    transformed = REPLACE_FIELD in config.values()
    for offset, (key, value) in records:
        if transformed and value is not None and not isinstance(json.loads(value), dict):
            continue
        if config["key.ignore"] == "true":
            if value is not None:
                result.append(Action(index, f"{config['topics']}+0+{offset}", None, value))
            continue
        assert key is not None
        if value is None and config["behavior.on.null.values"] != "delete":
            continue
        id = key.decode(config.get("key.converter.converter.encoding", "UTF-8"), errors="replace")
        result.append(Action(index, id, offset, value))
    return result


def apply_actions(requests: Iterable[Action]) -> dict[str, Document]:
    """The documents in the index after some actions.

    A version that is not above that of the document, or of its deletion, is a conflict, which the sink ignores.
    """
    index: dict[str, Document] = {}
    versions: dict[str, int] = {}
    for action in requests:
        if action.version is not None:
            if action.version <= versions.get(action.id, -1):
                continue
            versions[action.id] = action.version
        if action.document is None:
            index.pop(action.id, None)
        else:
            index[action.id] = json.loads(action.document)
    return index


def documents(config: Config, records: Iterable[tuple[int, Record]]) -> dict[str, Document]:
    """id -> document, after a sink has processed the records."""
    return apply_actions(actions(config, records))
