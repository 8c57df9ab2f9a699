"""Reads all rows of a query in one step."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import orjson


def fetch_rows(
    connection: sqlite3.Connection, columns: Sequence[str], source: str, values: Sequence[Any] = ()
) -> list[list[Any]]:
    """Return `SELECT columns source` as lists of numbers and texts; source: begins with FROM.

    sqlite3 releases the interpreter's lock for each row that it fetches: a thread that lists fifty rows would wait for
    its turn fifty times while others compute. So SQLite makes one text of them.
    """
    names = ", ".join(f"c{i}" for i in range(len(columns)))
    selected = ", ".join(f"{column} AS c{i}" for i, column in enumerate(columns))
    query = f"SELECT json_group_array(json_array({names})) FROM (SELECT {selected} {source})"
    (text,) = connection.execute(query, values).fetchone()
    rows: list[list[Any]] = orjson.loads(text)
    return rows
