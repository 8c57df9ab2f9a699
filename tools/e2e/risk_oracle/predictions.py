"""Compare MOODLE_LOGS_PREDICTION with the risks in MOODLE_RISK: the highest of each student, when it has changed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from tools.e2e.read_topic import Record

#: number of differences that are told
_TOLD = 5


def prediction_differences(predictions: Sequence[Record], risk: Sequence[Record]) -> list[str]:
    """Return one line for each of the first differences.

    Which of the highest risks that a student has had are written depends on the cuts into batches: the last one always
    is, unless there is no risk any more, and no row repeats the one before it.
    """
    written: defaultdict[bytes, list[Record]] = defaultdict(list)
    for record in predictions:
        written[record.key or b""].append(record)
    lines: list[str] = []
    for student, rows in _by_student(risk).items():
        highest, begins_anew = _highest(rows)
        lines += _compare(student, written.pop(student, []), highest, begins_anew=begins_anew)
    lines += [f"predictions: {key!r} has no risk" for key in written]
    return lines[:_TOLD]


def _by_student(risk: Sequence[Record]) -> Mapping[bytes, Sequence[Record]]:
    by_student: defaultdict[bytes, list[Record]] = defaultdict(list)
    for record in risk:
        by_student[(record.key or b"").split(b"|")[0]].append(record)
    return by_student


def _highest(rows: Sequence[Record]) -> tuple[list[tuple[float, int]], bool]:
    """Return the highest risk over all courses after each row, while there is one, and the row's timestamp.

    Rows of one tick, which have its timestamp, count together. And whether the student was forgotten in all courses:
    what was predicted before is forgotten too.
    """
    risks: dict[bytes, float | None] = {}
    highest, begins_anew = [], False
    for record, following in zip(rows, [*rows[1:], None], strict=True):
        if record.value is None:
            risks.pop(record.key or b"", None)
        else:
            risks[record.key or b""] = json.loads(record.value)["RISK"]
        if following is not None and _of_one_tick(record, following):
            continue
        begins_anew |= not risks
        if known := [risk for risk in risks.values() if risk is not None]:
            highest.append((max(known), record.at))
    return highest, begins_anew


def _of_one_tick(record: Record, following: Record) -> bool:
    return record.at == following.at and all(
        r.value is None or b'"TRIGGER":"tick"' in r.value for r in (record, following)
    )


def _compare(
    student: bytes, written: Sequence[Record], highest: Sequence[tuple[float, int]], *, begins_anew: bool
) -> list[str]:
    values = [json.loads(record.value or b"{}") for record in written]
    found = [value["PREDICTION"] for value in values]
    lines = []
    if any(value["CREATED_DATE"] != record.at for value, record in zip(values, written, strict=True)):
        lines.append(f"predictions: {student!r}: CREATED_DATE is not the timestamp")
    if not begins_anew and any(a == b for a, b in pairwise(found)):
        lines.append(f"predictions: {student!r}: a risk is written again: {found}")
    if found[-1:] != [risk for risk, _ in highest[-1:]]:
        lines.append(f"predictions: {student!r}: the last is {found[-1:]}, the highest risk {highest[-1:]}")
    rest = iter(highest)
    if not all(any(risk == value for value, _ in rest) for risk in found):
        lines.append(f"predictions: {student!r}: {found} are not among {highest} in order")
    return lines
