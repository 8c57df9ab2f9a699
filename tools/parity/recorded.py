"""Run recorded KSQL cases through the whole pipeline and report every difference.

`changes` mode must write what KSQL wrote with its cache off: every key, value, timestamp and number of
headers, in order, and caused by the same input. `batch` mode must write the same compacted tables; the
in-risk topic is not a table, so there too it is compared row by row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import ConfigError
from app.settings import Emit, Settings
from codec.moodle_log import LogDecoder
from tools.parity.cases import Case, InputRecord, OutputRow
from tools.test_driver import KnownSchemas, TopologyTestDriver

#: the runs of each case: emit mode, and number of inputs per fetch (0: all in one)
RUNS: tuple[tuple[Emit, int], ...] = (("changes", 1), ("changes", 0), ("batch", 7), ("batch", 0))
#: inputs for which the app differs from KSQL on purpose: (case, topic, index of the input)
KnownDifferences = frozenset[tuple[str, str, int]]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The result of one case."""

    name: str
    #: number of rows KSQL wrote
    rows: int
    differences: list[str]


def load_known_differences(path: Path) -> KnownDifferences:
    """Read a file of known differences. Raises ConfigError if it is not one."""
    try:
        return frozenset((d["case"], d["topic"], d["input"]) for d in json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a file of known differences: {type(error).__name__}: {error}") from error


async def compare(case: Case, known: KnownDifferences = frozenset()) -> CaseResult:
    """Run a case with each of `RUNS` and compare the output with the recording."""
    rows = sum(map(len, case.expected.values()))
    if case.foreign_sessions:
        return CaseResult(case.name, rows, ["rows were written directly to the sessions topic; the app ignores them"])
    try:
        case.declared()
    except ConfigError as error:
        return CaseResult(case.name, rows, [f"the app refuses this schema: {error}"])
    differences: list[str] = []
    expected = _without_known(case, known, case.expected)
    for emit, fetch_size in RUNS:
        actual = _without_known(case, known, await run(case, emit, fetch_size, known))
        label = f"{emit}, " + (f"{fetch_size} at a time" if fetch_size else "all at once")
        for topic in sorted(expected | actual):
            pair = expected.get(topic, []), actual.get(topic, [])
            if emit == "batch" and not topic.endswith("_IN_RISK"):
                lines = _compare_tables(topic, *pair)
            else:
                lines = _compare_rows(topic, *pair, by_source=fetch_size == 1)
            differences += [f"[{label}] {line}" for line in lines]
    return CaseResult(case.name, rows, differences)


async def run(
    case: Case, emit: Emit, fetch_size: int, known: KnownDifferences = frozenset()
) -> dict[str, list[OutputRow]]:
    """Return the rows the pipeline writes, by topic, with `fetch_size` inputs per fetch (0: all) and scoring off.

    An input with a known difference is fetched alone, so that its rows can be distinguished from those of others.
    """
    settings = Settings(source_topic=case.topic, emit=emit, model="none", app_id="parity")
    decoder = LogDecoder(KnownSchemas(case.schemas), case.declared())
    async with TopologyTestDriver(settings, decoder) as driver:
        names = driver.names
        for topic, inputs, outputs in (
            (case.topic, case.source, (names.sessions, names.agg)),
            (names.prediction, case.predictions, (names.in_risk,)),
        ):
            alone = {i for name, output, i in known if name == case.name and output in outputs}
            for first, records in _fetches(inputs, fetch_size, alone):
                headers = [r.headers for r in records] if any(r.headers for r in records) else None
                await driver.feed(topic, [r.key for r in records], [r.value for r in records], headers, source=first)
    return {
        topic: [OutputRow(w.key, w.value, w.at or 0, len(w.headers), w.source) for w in driver.topics.get(topic, [])]
        for topic in (names.sessions, names.agg, names.in_risk)
    }


def _fetches(
    inputs: Sequence[InputRecord], fetch_size: int, alone: set[int]
) -> Iterable[tuple[int, Sequence[InputRecord]]]:
    first = 0
    for i in range(1, len(inputs) + 1):
        if i == len(inputs) or i - first == fetch_size or i in alone or i - 1 in alone:
            yield first, inputs[first:i]
            first = i


def _without_known(case: Case, known: KnownDifferences, rows: dict[str, list[OutputRow]]) -> dict[str, list[OutputRow]]:
    return {t: [r for r in of_topic if (case.name, t, r.source) not in known] for t, of_topic in rows.items()}


def _compare_rows(topic: str, expected: list[OutputRow], actual: list[OutputRow], *, by_source: bool) -> list[str]:
    if not by_source:  # the driver knows the fetch that caused a row, not the input
        expected = [replace(r, source=-1) for r in expected]
        actual = [replace(r, source=-1) for r in actual]
    if expected == actual:
        return []
    for i, (a, b) in enumerate(zip(expected, actual, strict=False)):
        if a != b:
            return [f"{topic} row {i}:\n    KSQL {_format(a)}\n    app  {_format(b)}"]
    longer, writer = (expected, "KSQL") if len(expected) > len(actual) else (actual, "the app")
    i = min(len(expected), len(actual))
    return [
        f"{topic}: KSQL wrote {len(expected)} rows, the app {len(actual)}; only {writer} wrote row {i}: "
        f"{_format(longer[i])}"
    ]


def _compare_tables(topic: str, expected: list[OutputRow], actual: list[OutputRow]) -> list[str]:
    by_ksql, by_app = _compacted(expected), _compacted(actual)
    lines = []
    for key in sorted(by_ksql.keys() | by_app.keys()):
        a, b = by_ksql.get(key), by_app.get(key)
        if a != b:
            lines.append(f"{topic} key {key!r}:\n    KSQL {_format(a)}\n    app  {_format(b)}")
    return lines


def _compacted(rows: list[OutputRow]) -> dict[bytes, OutputRow]:
    """Return the last row of each key without deleted keys, regardless of the input that caused it."""
    last = {row.key or b"": replace(row, source=-1) for row in rows}
    return {key: row for key, row in last.items() if row.value is not None}


def _format(row: OutputRow | None) -> str:
    if row is None:
        return "nothing"
    value = "tombstone" if row.value is None else row.value.decode("utf-8", "replace")
    source = f", input {row.source}" if row.source >= 0 else ""
    return f"{value} (key {row.key!r}, time {row.timestamp}, {row.header_count} headers{source})"
