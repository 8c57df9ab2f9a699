"""All clients of Kafka are made in app/kafka/clients.py."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CLIENTS = {"AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaAdminClient", "AIOKafkaClient"}
MODULES = sorted(path for layer in ("app", "tools", "bench") for path in (ROOT / layer).rglob("*.py"))


def made_clients(path: Path) -> Iterator[str]:
    """Yield the calls that make a client, and classes derived from one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.func] if isinstance(node, ast.Call) else node.bases if isinstance(node, ast.ClassDef) else []
        for name in names:
            if (last := ast.unparse(name).rpartition(".")[2]) in CLIENTS:
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {last}"


def test_one_place_makes_every_client():
    """A client that is made elsewhere would neither encrypt nor log in."""
    assert [made for path in MODULES if path.name != "clients.py" for made in made_clients(path)] == []
    assert {line.rpartition(" ")[2] for line in made_clients(ROOT / "app" / "kafka" / "clients.py")} == {
        "AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaAdminClient",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["aiokafka.AIOKafkaConsumer()", "AIOKafkaProducer(acks='all')"])
def test_the_search_finds_clients(text, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text(f"async def f():\n    return {text}\n", encoding="utf-8")
    assert len(list(made_clients(path))) == 1
