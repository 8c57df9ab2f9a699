"""Parity: recorded KSQL cases through the whole pipeline, and every difference.

`changes` mode must write what KSQL wrote with its cache off: every key, value, timestamp, number of
headers, in order, and caused by the same input. `batch` mode must leave the same compacted tables; the
in-risk topic is no table and is compared row by row there too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import ConfigError
from app.settings import Emit, Settings
from codec.avro_schema import Json
from codec.moodle_log import LogDecoder
from tools.parity.cases import Case, Expected, Input
from tools.test_driver import TopologyTestDriver

#: how each case is run: what is emitted, and how many inputs are fetched at once (0: all)
WAYS: tuple[tuple[Emit, int], ...] = (("changes", 1), ("changes", 0), ("batch", 7), ("batch", 0))
#: inputs where the app does otherwise on purpose: (case, topic, index of the input)
Exceptions = frozenset[tuple[str, str, int]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case."""

    name: str
    rows: int
    differences: list[str]


class _Registry:
    def __init__(self, schemas: dict[int, Json]) -> None:
        self._schemas = schemas

    async def schema(self, schema_id: int) -> Json:
        return self._schemas.get(schema_id)


def load_exceptions(path: Path) -> Exceptions:
    """Read a file of differences. Raises ConfigError with one line."""
    try:
        return frozenset((d["case"], d["topic"], d["input"]) for d in json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no file of differences: {type(error).__name__}: {error}") from error


async def compare(case: Case, exceptions: Exceptions = frozenset()) -> Outcome:
    """Run a case in every way it can be run, and hold each against the recording."""
    rows = sum(map(len, case.expected.values()))
    if case.foreign_sessions:
        return Outcome(case.name, rows, ["rows were put straight into the sessions topic; the app does not read it"])
    try:
        case.declared()
    except ConfigError as error:
        return Outcome(case.name, rows, [f"the app refuses this schema: {error}"])
    found: list[str] = []
    wanted = _without(case, exceptions, case.expected)
    for emit, at_once in WAYS:
        got = _without(case, exceptions, await run(case, emit, at_once, exceptions))
        label = f"{emit}, " + (f"{at_once} at a time" if at_once else "all at once")
        for topic in sorted(wanted | got):
            pair = wanted.get(topic, []), got.get(topic, [])
            if emit == "batch" and not topic.endswith("_IN_RISK"):
                found += [f"[{label}] {line}" for line in _tables(topic, *pair)]
            else:
                found += [f"[{label}] {line}" for line in _sequences(topic, *pair, sources=at_once == 1)]
    return Outcome(case.name, rows, found)


async def run(case: Case, emit: Emit, at_once: int, exceptions: Exceptions = frozenset()) -> dict[str, list[Expected]]:
    """What the pipeline writes for a case, `at_once` inputs a fetch (0: all in one), scoring off.

    An input that is excepted is fetched alone, so that its rows can be told from the others'.
    """
    settings = Settings(source_topic=case.topic, emit=emit, model="none", app_id="parity")
    decoder = LogDecoder(_Registry(case.schemas), case.declared())
    async with TopologyTestDriver(settings, decoder) as memory:
        names = memory.names
        for topic, inputs, into in (
            (case.topic, case.source, (names.sessions, names.agg)),
            (names.prediction, case.predictions, (names.in_risk,)),
        ):
            alone = {i for name, to, i in exceptions if name == case.name and to in into}
            for first, some in _fetches(inputs, at_once, alone):
                headers = [i.headers for i in some] if any(i.headers for i in some) else None
                await memory.feed(topic, [i.key for i in some], [i.value for i in some], headers, source=first)
    return {
        topic: [Expected(w.key, w.value, w.at or 0, len(w.headers), w.source) for w in memory.topics.get(topic, [])]
        for topic in (names.sessions, names.agg, names.in_risk)
    }


def _fetches(inputs: Sequence[Input], at_once: int, alone: set[int]) -> Iterable[tuple[int, Sequence[Input]]]:
    first = 0
    for i in range(1, len(inputs) + 1):
        if i == len(inputs) or i - first == at_once or i in alone or i - 1 in alone:
            yield first, inputs[first:i]
            first = i


def _without(case: Case, exceptions: Exceptions, rows: dict[str, list[Expected]]) -> dict[str, list[Expected]]:
    return {t: [r for r in some if (case.name, t, r.source) not in exceptions] for t, some in rows.items()}


def _sequences(topic: str, wanted: list[Expected], got: list[Expected], *, sources: bool) -> list[str]:
    if not sources:  # fed together, rows cannot be told apart by input
        wanted = [replace(r, source=-1) for r in wanted]
        got = [replace(r, source=-1) for r in got]
    if wanted == got:
        return []
    for i, (a, b) in enumerate(zip(wanted, got, strict=False)):
        if a != b:
            return [f"{topic} row {i}:\n    KSQL {_show(a)}\n    app  {_show(b)}"]
    longer, who = (wanted, "KSQL") if len(wanted) > len(got) else (got, "the app")
    i = min(len(wanted), len(got))
    return [f"{topic}: {len(wanted)} rows of KSQL, {len(got)} of the app; only {who} has row {i}: {_show(longer[i])}"]


def _tables(topic: str, wanted: list[Expected], got: list[Expected]) -> list[str]:
    left, right = _compact(wanted), _compact(got)
    lines = []
    for key in sorted(left.keys() | right.keys()):
        a, b = left.get(key), right.get(key)
        if a != b:
            lines.append(f"{topic} key {key!r}:\n    KSQL {_show(a)}\n    app  {_show(b)}")
    return lines


def _compact(rows: list[Expected]) -> dict[bytes, Expected]:
    """The last row of each key, without those deleted; what caused it does not matter."""
    last = {row.key or b"": replace(row, source=-1) for row in rows}
    return {key: row for key, row in last.items() if row.value is not None}


def _show(row: Expected | None) -> str:
    if row is None:
        return "nothing"
    value = "tombstone" if row.value is None else row.value.decode("utf-8", "replace")
    by = f", input {row.source}" if row.source >= 0 else ""
    return f"{value} (key {row.key!r}, time {row.at}, {row.headers} headers{by})"
