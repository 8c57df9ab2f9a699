"""Every mutation of the table of remedies applies to the code; `python -m tests.remedies` runs the tests without."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.remedies import ROOT, without
from tests.remedy_table import FAULTS, REMEDIES, Remedy

ALL = pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: remedy.name)


def test_every_fault_has_a_remedy_and_names_are_unique() -> None:
    assert {fault for remedy in REMEDIES for fault in remedy.faults} == set(FAULTS)
    assert len({remedy.name for remedy in REMEDIES}) == len(REMEDIES)


@ALL
def test_mutation_applies_once_and_leaves_valid_python(remedy: Remedy) -> None:
    """A test that fails with a SyntaxError proves nothing about the remedy."""
    compile(without(remedy), remedy.file, "exec")


@ALL
def test_listed_tests_exist(remedy: Remedy) -> None:
    assert remedy.tests
    for test in remedy.tests:
        file, _, name = test.partition("::")
        function, _, parameter = name.partition("[")
        functions = functions_of(ROOT / file)
        assert function in functions
        # a scenario is a function of the same file; those of fail points are generated from their names
        scenario = parameter.rstrip("]")
        assert not scenario or scenario in functions or scenario.startswith("killed_at_")


@cache
def functions_of(file: Path) -> set[str]:
    """The names of a file's top-level functions."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
