"""What the documents say, where a program can tell whether it is so."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from app.settings import Settings
from tests.support import golden_cases
from tools import commands

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
KSQL = (ROOT / "ksql" / "README.md").read_text()
DOCUMENTS = sorted(p for p in ROOT.rglob("*.md") if not {".venv", ".git"} & {*p.relative_to(ROOT).parts})


#: variables of the documents that are no settings of the app, and who reads them
OTHERS = {"RISK_CONNECT", "RISK_MARIADB", "RISK_SEARCH"}


def key(topic: str, octets: bytes) -> str:
    """A key as ksql/README.md writes it."""
    if not topic.endswith("SESSIONS_PER_15MINS"):
        return octets.decode()
    end, start = (int.from_bytes(part, "big") for part in (octets[-16:-8], octets[-8:]))
    return f"{octets[:-16].decode()} {end} {start}"


@pytest.mark.parametrize("topic", ["MOODLE_LOGS_SESSIONS_PER_15MINS", "MOODLE_LOGS_PREDICTION_AGG"])
def test_the_rows_of_the_demos_inserts_are_those_ksql_wrote(topic: str) -> None:
    case = golden_cases.load("p01_seed_rows")
    rows = [
        f"{key(topic, k or b'')} → {'null' if value is None else value.decode()}"
        for _, k, value, _ in golden_cases.expected(case, topic)
    ]
    block = re.search(rf"^    {topic}\n((?:    .*\n)+)", KSQL, re.MULTILINE)
    assert block
    assert [line.strip() for line in block[1].splitlines()] == rows


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_is_there(path: Path) -> None:
    """Links lead somewhere; variables, make targets and commands exist."""
    text = path.read_text()
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (path.parent / target).exists(), target
    assert set(re.findall(r"\bRISK_[A-Z_]+\b", text)) <= {f.metadata["variable"] for f in fields(Settings)} | OTHERS
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z]+)", text, re.MULTILINE)) <= targets
    known = {*commands.__all__, "worker"}
    assert set(re.findall(r"faust -A app ([a-z]+)", text)) <= known


def test_every_make_target_and_command_is_in_the_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert set(phony.split()) == set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
