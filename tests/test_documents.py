"""The documents say what is so, as far as a program can tell."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from app.ops.failpoints import POINTS
from app.settings import Settings
from models import counting
from tests.support import golden_cases

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
TOPICS = (ROOT / "docs" / "topics.md").read_text()
KSQL = (ROOT / "ksql" / "README.md").read_text()
DOCUMENTS = sorted(
    p for p in ROOT.rglob("*.md") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts[:-1])
)
every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))

SETTINGS = {f.metadata["variable"]: f.default for f in fields(Settings)}
#: variables in the documents that are not settings of the app
OTHER_VARIABLES = {"RISK_CONNECT", "RISK_MARIADB", "RISK_SEARCH"}
#: our commands of `faust -A app`, by name, and those of Faust that the documents name
OURS = {
    p.stem.replace("_", "-"): p
    for folder in ("app", "page", "tools")
    for p in (ROOT / folder / "commands").glob("[a-z]*.py")
    if p.stem != "base"
}
COMMANDS = {*OURS, "worker", "agents", "tables"}
FILE_NAMES = {p.name for top in ROOT.iterdir() if not top.name.startswith(".") for p in (top, *top.rglob("*"))}
#: file names that are checked where a document names them without a folder
CHECKED_SUFFIXES = (".cfg", ".md", ".ndjson", ".py", ".sql", ".yml")
#: modules whose every message an operator may see must be explained in docs/operations.md
EXPLAINED = (
    *("app/ops/preflight.py", "app/ops/watchdog.py", "app/state/partition.py", "app/state/store.py"),
    *("app/kafka/consumer.py", "app/kafka/delivery.py", "app/kafka/ends.py", "app/kafka/topics.py"),
    *("app/kafka/topic_limits.py", "app/kafka/producer.py"),
    *("app/kafka/registry.py", "app/kafka/group_offsets.py", "page/cases/topics.py"),
    *(
        "page/serve.py",
        "page/access/gate.py",
        "page/access/users.py",
        "page/access/secret.py",
        "page/web/middleware.py",
    ),
    *("agents/process.py", "agents/rejects.py", "agents/repartition.py"),
)


# -- links, paths, commands


@every_document
def test_link_targets_exist(path: Path) -> None:
    """Every relative link names a file that exists, and every fragment a heading of it."""
    for target, fragment in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", path.read_text()):
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), target
        assert not fragment or fragment in _anchors(file.read_text()), f"{target}#{fragment}"


@every_document
def test_paths_exist(path: Path) -> None:
    """A path in backticks exists, seen from the project's directory or the document's; so does a file's bare name."""
    top = {p.name for p in ROOT.iterdir() if p.is_dir()}
    for token in re.findall(r"`([\w./-]+)`", path.read_text()):
        if "/" in token and token.split("/")[0] in top:
            assert (ROOT / token).exists() or (path.parent / token).exists(), token
        elif "/" not in token and token.endswith(CHECKED_SUFFIXES):
            assert token in FILE_NAMES, token


@every_document
def test_commands_exist(path: Path) -> None:
    """Make targets, commands of the app with their options, modules and scripts exist."""
    text = path.read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z]+)", text, re.MULTILINE)) <= targets
    for command, arguments in re.findall(r"faust -A app ([a-z-]+)([^`\n#]*)", text):
        assert command in COMMANDS
        if options := set(re.findall(r"--[a-z-]+", arguments)):
            assert options <= _options(command), command
    for module in set(re.findall(r"python3? -m ([\w.]+)", text)) - sys.stdlib_module_names:
        parts = ROOT.joinpath(*module.split("."))
        assert parts.with_suffix(".py").exists() or (parts / "__main__.py").exists(), module
    for script in re.findall(r"python3? ([\w/]+\.py)", text):
        assert (ROOT / script).exists(), script


def _options(command: str) -> set[str]:
    """The options of a command: of its own, and those that `train` and `evaluate` share."""
    source = OURS[command].read_text()
    if "from tools.training.options import" in source:
        source += (ROOT / "tools" / "training" / "options.py").read_text()
    return set(re.findall(r'"(--[a-z-]+)"', source))


def test_every_make_target_is_in_the_help() -> None:
    """`make help` lists what .PHONY lists."""
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert set(phony.split()) == set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))


def test_every_command_is_documented() -> None:
    """docs/operations.md lists every command of the app."""
    assert set(re.findall(r"faust -A app ([a-z-]+)", OPERATIONS)) == COMMANDS


# -- lengths and layout


def test_entry_documents_are_short() -> None:
    """README.md has at most 800 words, ARCHITECTURE.md at most 135 lines."""
    assert len(README.split()) <= 800
    assert len(ARCHITECTURE.splitlines()) <= 135


def test_the_folders_are_those_of_the_tree() -> None:
    """ARCHITECTURE.md names every folder at the top, and names none that does not exist."""
    (block,) = re.findall(r"## Folders\n(.*?)\n## ", ARCHITECTURE, re.DOTALL)
    named, parent = set(), ROOT
    for inner, name in re.findall(r"^    (  )?(\w+)/", block, re.MULTILINE):
        parent = parent if inner else ROOT / name
        assert (parent / name if inner else parent).is_dir(), name
    named = set(re.findall(r"\b(\w+)/", block))
    assert {p.name for p in ROOT.iterdir() if p.is_dir() and any(p.glob("[!.]*.*")) and _is_ours(p)} <= named


def test_every_failpoint_is_in_the_flush() -> None:
    """ARCHITECTURE.md places every failpoint."""
    assert {f"[`{point}`]" for point in POINTS} <= set(re.findall(r"\[`\w+`\]", ARCHITECTURE))


# -- settings, statistics, messages, reasons


@every_document
def test_variables_are_settings(path: Path) -> None:
    """Every RISK_ variable in a document exists."""
    assert set(re.findall(r"\bRISK_[A-Z_]+\b", path.read_text())) <= {*SETTINGS, *OTHER_VARIABLES}


def test_every_setting_is_documented_with_its_default() -> None:
    """docs/operations.md has a row for each."""
    documented = dict(re.findall(r"^\| `(RISK_\w+)` \| (.*?) \|", OPERATIONS, re.MULTILINE))
    expected = {
        variable: "empty" if default == "" else f"{default:g}" if isinstance(default, float) else str(default)
        for variable, default in SETTINGS.items()
    }
    assert {variable: text.strip("`") for variable, text in documented.items()} == expected


def test_settings_are_grouped_as_the_command_prints_them() -> None:
    """docs/operations.md has the groups of `faust -A app settings`, in the same order."""
    (section,) = re.findall(r"^## Settings\n(.*?)^## ", OPERATIONS, re.MULTILINE | re.DOTALL)
    documented = re.findall(r"^(?:(\w[\w' ]*)(?:, see .*)?:$|\| `(RISK_\w+)`)", section, re.MULTILINE)
    expected: list[tuple[str, str]] = []
    for f in Settings.listed():
        heading = (f.metadata["group"], "")
        expected += [*([heading] if heading not in expected else []), ("", f.metadata["variable"])]
    assert documented == expected


def test_every_field_of_stats_is_documented() -> None:
    """docs/operations.md has a row for each field of /stats and each counter."""
    (stats,) = re.findall(r"^def _stats\(.*?(?=^\S|\Z)", (ROOT / "app/ops/web.py").read_text(), re.M | re.DOTALL)
    counters = {
        name
        for folder in ("agents", "app")
        for source in (ROOT / folder).rglob("*.py")
        for name in re.findall(r'\.add\(\s*"(\w+)"', source.read_text())
    }
    assert counters
    rows = set(re.findall(r"^\| `(\w+)` \|", OPERATIONS, re.MULTILINE))
    assert set(re.findall(r'"(\w+)":', stats)) | counters <= rows


def test_messages_are_those_of_the_program() -> None:
    """Every message that docs/operations.md explains can be found in the source."""
    (section,) = re.findall(r"^## Messages\n(.*)", OPERATIONS, re.MULTILINE | re.DOTALL)
    sources = [p for folder in ("app", "agents", "codec", "models", "page") for p in (ROOT / folder).rglob("*.py")]
    known = [text for p in sources for text in _texts(p)]
    explained = [span for row in re.findall(r"^\| (.*?) \|", section, re.MULTILINE) for span in _spans(row)]
    assert len(explained) > 30
    assert [span for span in explained if not any(_same(span, text) for text in known)] == []


@pytest.mark.parametrize("module", EXPLAINED)
def test_every_message_is_explained(module: str) -> None:
    """docs/operations.md explains every error, warning and reason to stop of a module."""
    explained = [span for row in re.findall(r"^\| (.*?) \|", OPERATIONS, re.MULTILINE) for span in _spans(row)]
    assert [text for text in _messages(ROOT / module) if not any(_same(span, text) for span in explained)] == []


def test_reasons_of_dead_letters_are_those_of_the_program() -> None:
    """docs/topics.md has every reason with a hyphen that the code gives, and none that it does not give."""
    sources = [p for folder in ("agents", "codec", "models") for p in (ROOT / folder).rglob("*.py")]
    literals = {text for p in sources for text in _literals(ast.parse(p.read_text()))}
    rows = re.findall(r"^\| (`.*?`) \| [^|]* \| [^|]* \|$", TOPICS.split("## Dead letters")[1], re.MULTILINE)
    documented = {reason for row in rows for reason in re.findall(r"`([^`]+)`", row)}
    assert len(documented) > 10
    assert documented <= literals
    assert {text for text in literals if re.fullmatch(r"[a-z]+(-[a-z]+)+", text)} <= documented | {*counting.REASONS}


# -- the rows of ksql/README.md


@pytest.mark.parametrize("topic", ["MOODLE_LOGS_SESSIONS_PER_15MINS", "MOODLE_LOGS_PREDICTION_AGG"])
def test_rows_of_the_demo_are_those_that_ksql_wrote(topic: str) -> None:
    """ksql/README.md shows the recorded rows of the demo's inserts."""
    case = golden_cases.load("p01_seed_rows")
    rows = [
        f"{_key(topic, k or b'')} → {'null' if value is None else value.decode()}"
        for _, k, value, _ in golden_cases.expected(case, topic)
    ]
    block = re.search(rf"^    {topic}\n((?:    .*\n)+)", KSQL, re.MULTILINE)
    assert block
    assert [line.strip() for line in block[1].splitlines()] == rows


def _key(topic: str, octets: bytes) -> str:
    """A key as ksql/README.md writes it."""
    if not topic.endswith("SESSIONS_PER_15MINS"):
        return octets.decode()
    end, start = (int.from_bytes(part, "big") for part in (octets[-16:-8], octets[-8:]))
    return f"{octets[:-16].decode()} {end} {start}"


# -- helpers


def _anchors(text: str) -> set[str]:
    """The fragments that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _is_ours(folder: Path) -> bool:
    """Whether a folder belongs to the repository: not hidden, not built, not the data of a worker."""
    return (
        not folder.name.startswith(".") and not folder.name.endswith((".egg-info", "-data")) and folder.name != "build"
    )


def _spans(cell: str) -> list[str]:
    """The messages in a table's cell: what is in backticks and has more than one word."""
    return [span for span in re.findall(r"`([^`]+)`", cell) if " " in span]


def _texts(source: Path) -> Iterator[str]:
    """The string literals of a module, with … for what is filled in."""
    yield from _literals(ast.parse(source.read_text()))


def _messages(source: Path) -> list[str]:
    """What a module logs from warnings on or raises as an error for a person, and the reasons it gives to stop."""
    nodes: list[ast.expr] = []
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in (
                "warning",
                "error",
                "critical",
                "ConfigError",
                "MissingRecords",
                "RefusedRows",
                "DamagedDatabase",
                "PartitionsChanged",
            ):
                nodes.append(node.args[0])
        elif isinstance(node, ast.Return) and source.name in ("watchdog.py", "topics.py"):
            nodes += node.value.elts if isinstance(node.value, ast.List) else [node.value] if node.value else []
    texts = [text for node in nodes for text in _literals(node)]
    return [text for text in texts if len(text.strip("… ").split()) > 2]


def _literals(node: ast.AST) -> Iterator[str]:
    """The string literals and f-strings below a node, with … for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield re.sub(r"%(\.\d)?[sdfgr]", "…", node.value)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _literals(child)


def _same(message: str, text: str) -> bool:
    """Whether two messages are the same but for what is filled in."""
    return _fixed(message) == _fixed(text)


def _fixed(message: str) -> list[str]:
    """The parts of a message that are not filled in."""
    return [stripped for part in message.split("…") if (stripped := part.strip(" :;,"))]
