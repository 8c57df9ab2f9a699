"""The table of remedies fits the code as it is; `python -m tests.remedies` takes them out one by one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.remedies import ROOT, taken_out
from tests.remedy_table import FAULTS, REMEDIES, Remedy

ALL = pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: remedy.name)


def test_every_fault_has_a_remedy_and_every_remedy_a_name_of_its_own() -> None:
    assert {fault for remedy in REMEDIES for fault in remedy.faults} == set(FAULTS)
    assert len({remedy.name for remedy in REMEDIES}) == len(REMEDIES)


@ALL
def test_it_stands_there_once_and_without_it_the_file_is_still_python(remedy: Remedy) -> None:
    """A test that fails of a SyntaxError says nothing about the remedy."""
    compile(taken_out(remedy), remedy.file, "exec")


@ALL
def test_its_tests_are_there(remedy: Remedy) -> None:
    assert remedy.tests
    for test in remedy.tests:
        file, _, name = test.partition("::")
        function, _, parameter = name.partition("[")
        functions = functions_of(ROOT / file)
        assert function in functions
        # scenarios are functions of their own, a fault point's is made of its name
        scenario = parameter.rstrip("]")
        assert not scenario or scenario in functions or scenario.startswith("killed_at_")


def functions_of(file: Path) -> set[str]:
    """The names of a file's functions."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
