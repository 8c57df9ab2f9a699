"""What advisers did about the students, beside what the model says of them: for the report only.

Nothing is trained on it, and nobody is left out for it. Whoever was contacted may have stayed for that reason, so the
alerts look worse than they were; but these students had the highest risks, and without them a model would learn from
the others that a high risk ends well. An adviser's "flagged wrongly" is a judgement, and no outcome.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from app.errors import ConfigError
from app.kafka import topics
from app.kafka.clients import new_consumer
from app.kafka.ranges import read_ranges
from app.ops.preflight import connect
from app.settings import Settings
from page.cases.actions import Kind, State
from page.cases.fold import fold
from page.cases.history import all_actions
from page.cases.records import UnreadableRecord
from page.store.layout import SITE, TABLES
from page.store.rows import CaseRecord
from tools.training.evaluation import Compared, rounded
from tools.training.markdown import percent, table

#: what is reported of students by what was done about them; None: nothing
_WORDS: dict[State | None, str] = {
    State.CONTACTED: "contacted",
    State.WRONG: "flagged wrongly",
    State.NOT_APPLICABLE: "not applicable",
    State.ACKNOWLEDGED: "acknowledged",
    State.OPEN: "only notes",
    None: "nothing",
}


@dataclass(frozen=True)
class Cases:
    """What became of each case."""

    #: student and course → the last state, but CONTACTED if the student was ever contacted
    states: Mapping[tuple[int, int], State]


def cases_of(actions: Iterable[tuple[int, int, Kind]]) -> Cases:
    """Return the cases that result from actions (student, course, kind), those of a case in their order."""
    states: dict[tuple[int, int], State] = {}
    for student, course, kind in actions:
        state = states.setdefault((student, course), State.OPEN)
        if kind.state is not None and state is not State.CONTACTED:
            states[student, course] = kind.state
    return Cases(states)


async def read_topic(settings: Settings, *, courses: bool) -> Cases:
    """Read the topic of the cases up to its end; courses: whether the log has them. Raises ConfigError."""
    topic = settings.topic_names.cases
    admin = await connect(settings)
    try:
        if topic not in await topics.partitions_of(admin, [topic]):
            raise ConfigError(f"topic {topic} does not exist on {settings.broker}: see RISK_APP_ID, or use --cases")
    finally:
        await admin.close()
    connection = sqlite3.connect(":memory:")
    connection.executescript(TABLES)
    tp = TopicPartition(topic, 0)
    try:
        async with new_consumer(settings) as consumer:
            starts, ends = await consumer.beginning_offsets([tp]), await consumer.end_offsets([tp])
            async for records in read_ranges(consumer, starts, ends):
                for record in records:
                    _apply(connection, CaseRecord(record.offset, record.timestamp, record.key, record.value))
        return cases_of((a.student, of_course(a.course, courses=courses), a.kind) for a in all_actions(connection))
    except KafkaError as error:
        raise ConfigError(f"{settings.broker} (RISK_BROKER) failed: {error!r}") from error
    finally:
        connection.close()


def _apply(connection: sqlite3.Connection, record: CaseRecord) -> None:
    try:
        fold(connection, record)
    except UnreadableRecord:
        return  # the page names it in its log, and does without it too


def of_course(course: int, *, courses: bool) -> int:
    """Return the course of a case as the log counts it: 0 where there is one for all."""
    return course if courses and course != SITE else 0


def figures(compared: Sequence[Compared], cases: Cases) -> dict[str, Any]:
    """Return, by what was done about them, how many students there are, had an alert, and were lost."""
    counts = {state: np.zeros(4, np.int64) for state in _WORDS}
    matched = 0
    for each in compared:
        run, scored = each.scored.run, each.scored
        had = np.zeros(len(run.student), np.bool_)
        had[scored.opened] = True
        states = [cases.states.get((student, run.course)) for student in run.student.tolist()]
        matched += sum(state is not None for state in states)
        for state in _WORDS:
            here = run.known & np.array([other is state for other in states], np.bool_)
            counts[state] += [here.sum(), (here & run.lost).sum(), (here & had).sum(), (here & had & run.lost).sum()]
    others = sum(count for state, count in counts.items() if state is not State.CONTACTED)
    names = ("students", "lost", "with_an_alert", "with_an_alert_lost")
    return {
        "cases": len(cases.states),
        "of_other_students": len(cases.states) - matched,
        "rows": [
            {"done": word, **dict(zip(names, counts[state].tolist(), strict=True))} for state, word in _WORDS.items()
        ],
        "precision_of_those_contacted": _precision(counts[State.CONTACTED]),
        "precision_of_the_others": _precision(others),
    }


def _precision(count: Any) -> float | None:
    """The share of those with an alert who were lost."""
    return rounded(count[3] / count[2]) if count[2] else None


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return the figures in lines to print."""
    parts = [
        f"{row['done']} {row['with_an_alert']} ({row['with_an_alert_lost']} lost)"
        for row in result["rows"]
        if row["with_an_alert"]
    ]
    return [f"  cases: {result['cases']}; students with an alert: {', '.join(parts) or 'none'}"]


def section(result: Mapping[str, Any] | None) -> str:
    """Return the section of the report, empty without cases."""
    if result is None:
        return ""
    rows = [
        [row["done"], *(f"{row[name]:,}" for name in ("students", "lost", "with_an_alert", "with_an_alert_lost"))]
        for row in result["rows"]
        if row["students"]
    ]
    shares = [
        f"{percent(result[name])} of {who} with an alert"
        for name, who in (
            ("precision_of_those_contacted", "those contacted"),
            ("precision_of_the_others", "the others"),
        )
        if result[name] is not None
    ]
    return (
        f"## What advisers did\n\n{result['cases']:,} cases, {result['of_other_students']:,} of them of students who "
        "are not evaluated here. Students with an outcome, by what was done about them, and how many had an alert by "
        "this model:\n\n"
        + table(["done", "students", "lost", "with an alert", "of these lost"], rows)
        + (f"\n\nLost were {' and '.join(shares)}." if shares else "")
        + " Who was contacted may have stayed for that reason. Nothing was trained on this, and nobody was left out."
    )
