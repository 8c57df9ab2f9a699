"""Every name that app/upstream and its users take from libraries exists in the pinned versions, as relied upon."""

from __future__ import annotations

import ast
import configparser
import contextlib
import importlib
import importlib.metadata
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from app.faust_app import RiskApp
from app.kafka.consumer import Consumer
from app.kafka.driver import Producer
from app.kafka.queue import ChunkQueue
from app.kafka.thread import Thread
from app.ops.web_server import WebServer
from app.state.store import Options, Store
from app.state.table import StateTable
from app.upstream import install
from app.upstream.aiokafka import EncodedBatchBuilder, RawMemoryRecords, RowBatchBuilder
from app.upstream.faust import FlowControl, RebalanceMonitor
from app.upstream.reaches import REACHES, VERSIONS, Reach

ROOT = Path(__file__).parent.parent
NAMES = [(reach, name) for reach in REACHES for name in reach.names]
ALL_NAMES = {re.split("[.:]", name)[-1] for _, name in NAMES}


def hint(reach: Reach, name: str) -> str:
    """Return what to check when the version of a library changes."""
    version = importlib.metadata.version(reach.library)
    return (
        f"{name} of {reach.library} {version} is not what {reach.file} relies on ({reach.why}): "
        f'see "{reach.section}" in docs/upstream.md, and app/upstream/reaches.py'
    )


@pytest.mark.parametrize("library", VERSIONS)
def test_the_installed_versions_are_the_pinned_ones(library: str) -> None:
    """Another version needs a look at all its names, then VERSIONS and setup.cfg change together."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    pins = re.findall(rf"^{library}(?:\[.*\])?==(\S+)$", config["options"]["install_requires"], re.MULTILINE)
    assert pins == [VERSIONS[library]], f"setup.cfg pins another {library}: see app/upstream/reaches.py"
    assert importlib.metadata.version(library) == VERSIONS[library], f"another {library} is installed than pinned"


@pytest.mark.parametrize(("reach", "name"), NAMES, ids=[name for _, name in NAMES])
def test_the_name_exists_with_the_signature_relied_upon(reach: Reach, name: str) -> None:
    wanted = reach.names[name]
    module, _, path = name.partition(":")
    owner: Any = importlib.import_module(module)
    *classes, last = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    if not hasattr(owner, last):
        assert wanted is None, hint(reach, name)
        assert is_instance_attribute(owner, last), hint(reach, name)
    elif wanted is not None:
        assert parameters(getattr(owner, last)) == wanted, hint(reach, name)


def is_instance_attribute(owner: Any, name: str) -> bool:
    """Whether a method of the class, or of a base class, assigns the attribute."""
    for cls in owner.__mro__:
        with contextlib.suppress(OSError, TypeError):  # compiled, or made by a call
            if re.search(rf"\bself\.{name}\b.*=|\b{name}: ", inspect.getsource(cls)):
                return True
    return False


def parameters(function: Any) -> str:
    """The parameters as in the source, without annotations."""
    signature = inspect.signature(function)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(plain))[1:-1]


@pytest.mark.parametrize("reach", REACHES, ids=[reach.section for reach in REACHES])
def test_every_reach_is_documented(reach: Reach) -> None:
    """Each reach has a section with the upstream change that would replace it."""
    assert (ROOT / reach.file).exists()
    assert reach.library in VERSIONS
    headings = re.findall("^### (.+)$", (ROOT / "docs" / "upstream.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings.count(reach.section) == 1


SUBCLASSES = [
    ChunkQueue, Consumer, EncodedBatchBuilder, FlowControl, Options, Producer, RebalanceMonitor, RiskApp,
    RowBatchBuilder, StateTable, Store, Thread, WebServer,
]  # fmt: skip


@pytest.mark.parametrize("subclass", SUBCLASSES)
def test_every_overridden_private_method_is_listed(subclass: type) -> None:
    overridden = {name for name in vars(subclass) for base in subclass.__mro__[1:] if name in vars(base)}
    assert {name for name in overridden if is_private(name)} - {"_abc_impl"} <= ALL_NAMES


@pytest.mark.parametrize("file", sorted({reach.file for reach in REACHES}))
def test_every_private_name_used_is_listed(file: str) -> None:
    """Private attributes that the file defines itself need not be listed."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    own, used = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            own.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            own.add(node.target.id)
        elif isinstance(node, ast.Attribute):
            stored = isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self"
            (own if stored else used).add(node.attr)
    assert {name for name in used if is_private(name)} - own <= ALL_NAMES


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_importing_assigns_nothing_into_a_library() -> None:
    """Only `install()` assigns; it may run any number of times."""
    assigned = re.compile(r"^(fetcher\.|sender\.|STORES\.|TRANSPORTS\.)\S+.* = ", re.MULTILINE)
    for file in ROOT.glob("app/**/*.py"):
        assert not assigned.search(file.read_text(encoding="utf-8")), file
    install()
    install()
    from aiokafka.consumer import fetcher
    from faust.stores import STORES
    from faust.transport.drivers import TRANSPORTS

    assert fetcher.MemoryRecords is RawMemoryRecords
    assert TRANSPORTS.by_name("chunked").Consumer is Consumer
    assert STORES.by_name("rocksdb") is Store
