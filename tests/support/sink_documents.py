"""Confluent's Elasticsearch sink, as far as connect/sink-*.json use it: what it asks for, and what that leaves.

The one place where its behaviour is written down (DataConverter.java, ElasticsearchClient.java of 15.x).
test_connect.py holds the outcome against tables; test_search.py sends the requests to a real node, and holds what is
there against the outcome.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, str]
Document = dict[str, Any]
#: key and value
Record = tuple[bytes | None, bytes | None]


@dataclass(frozen=True, slots=True)
class Action:
    """One line of a bulk request, and what follows it."""

    index: str
    id: str
    #: external version; None: the index counts for itself
    version: int | None
    #: None: delete
    document: bytes | None

    def lines(self) -> bytes:
        """As it is sent."""
        where: dict[str, Any] = {"_index": self.index, "_id": self.id}
        if self.version is not None:
            where |= {"version": self.version, "version_type": "external"}
        if self.document is None:
            return json.dumps({"delete": where}).encode() + b"\n"
        return json.dumps({"index": where}).encode() + b"\n" + self.document + b"\n"


def index_of(config: Config) -> str:
    """The index a sink writes to: the topic's name as the transforms leave it, in lower case, without - and _ ahead."""
    topic = config["topics"]
    for name in filter(None, config.get("transforms", "").split(",")):
        assert config[f"transforms.{name}.type"] == "org.apache.kafka.connect.transforms.RegexRouter"
        replacement = re.sub(r"\$(\d)", r"\\\1", config[f"transforms.{name}.replacement"])
        if found := re.fullmatch(config[f"transforms.{name}.regex"], topic):
            topic = found.expand(replacement)
    return topic.lower().lstrip("-_")


def actions(config: Config, records: Iterable[tuple[int, Record]]) -> list[Action]:
    """What a sink asks for, of records at their offsets in partition 0.

    The id is the key as converted, or topic+partition+offset; a null is a delete, or is left out; keyed writes carry
    the offset as external version.
    """
    index, found = index_of(config), []
    for offset, (key, value) in records:
        if config["key.ignore"] == "true":
            if value is not None:
                found.append(Action(index, f"{config['topics']}+0+{offset}", None, value))
            continue
        assert key is not None
        if value is None and config["behavior.on.null.values"] != "delete":
            continue
        id = key.decode(config.get("key.converter.converter.encoding", "UTF-8"), errors="replace")
        found.append(Action(index, id, offset, value))
    return found


def left(asked: Iterable[Action]) -> dict[str, Document]:
    """What is in the index after them: a version that is not above the document's, or its grave's, is a conflict.

    The sink takes a conflict for done.
    """
    found: dict[str, Document] = {}
    versions: dict[str, int] = {}
    for one in asked:
        if one.version is not None:
            if one.version <= versions.get(one.id, -1):
                continue
            versions[one.id] = one.version
        if one.document is None:
            found.pop(one.id, None)
        else:
            found[one.id] = json.loads(one.document)
    return found


def documents(config: Config, records: Iterable[tuple[int, Record]]) -> dict[str, Document]:
    """id -> document, after a sink has read the records."""
    return left(actions(config, records))
