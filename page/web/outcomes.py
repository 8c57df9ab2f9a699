"""What has become of the students: for demonstrations with students of the past, whose outcome is known."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache

from app.errors import ConfigError
from page.store.layout import SITE


@cache
def read_outcomes(path: str) -> Mapping[tuple[int, int], str]:
    """Read a CSV with the columns student, course and outcome, once; a course that is empty is the whole site.

    An empty path is none. Raises ConfigError for a file that cannot be read.
    """
    if not path:
        return {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            return {(int(row["student"]), int(row["course"] or SITE)): row["outcome"] for row in rows}
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"RISK_PAGE_OUTCOMES: {path}: no CSV of student,course,outcome: {error}") from None
