"""docs/outcomes.sql on Moodle's tables: in SQLite here, in MariaDB in tests/test_stack_cdc.py."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from tests.support.moodle_tables import HEADER, LINES, QUERY, statements
from tools.training.outcomes_file import read_outcomes


def test_outcomes_are_selected_from_enrolments_completions_grades_and_the_log() -> None:
    """Who was unenrolled is only in the log; who was unenrolled after the end has not withdrawn."""
    with sqlite3.connect(":memory:") as database:
        database.create_function("UNIX_TIMESTAMP", 0, lambda: datetime(2026, 1, 1, tzinfo=UTC).timestamp())
        database.create_function("FROM_UNIXTIME", 2, formatted)
        for statement in statements():
            database.execute(statement)
        cursor = database.execute(QUERY)
        assert tuple(column[0] for column in cursor.description) == HEADER
        assert [tuple(map(str, row)) for row in cursor.fetchall()] == LINES
    database.close()


def test_what_is_selected_can_be_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_text("".join(f"{','.join(line)}\n" for line in [HEADER, *LINES]), encoding="utf-8")
    outcomes, refused = read_outcomes(path, courses=True)
    assert refused == []
    assert len(outcomes.student) == len(LINES)


def formatted(at: float | None, pattern: str) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime(pattern)
