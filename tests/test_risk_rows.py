"""Rows of MOODLE_RISK and MOODLE_RISK_ALERTS, against JSON made one row at a time."""

from __future__ import annotations

import json
import math
import random
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec import risk_rows
from codec.record_batch import OutputColumns, batches
from codec.risk_rows import Keys
from models.activity import NO_DAY, NONE
from models.alerts import Why
from models.assessment import Assessment, Band, Code, Figure, explain, sentence, unassessed
from models.cohorts import Peers
from models.days import LocalDays
from models.figures import Figures
from tests.support.effort import examples
from tests.support.standing import standing_model

MODEL = standing_model()
HEADERS = [("model", MODEL.id.encode())]


def sample(rng: random.Random, n: int) -> Assessment:
    """Assessments of any kind."""

    def column(low: int, high: int) -> np.ndarray:
        return np.array([rng.randint(low, high) for _ in range(n)], np.int64)

    band = column(0, 4)
    risk = np.where(band < Band.GONE, column(0, 10_000) / 10_000, np.nan)
    days = [column(0, 2**60 - 1).view(np.uint64) for _ in range(2)]
    figures = Figures(column(0, 3) / 1, column(0, 60), column(0, 40), column(0, 14), column(0, 28), band >= 0, *days)
    peers = Peers(
        column(0, 500), *(column(0, 3) / 1 for _ in range(3)),
        *(column(0, high) for high in (60, 14, 28, 32)),
    )  # fmt: skip
    return Assessment(risk, band, column(-100, 300) / 99, column(-100, 300) / 99, figures, peers)


class Rows:
    """Random arguments of the functions that make rows."""

    def __init__(self, seed: int, n: int, site: bool) -> None:
        rng = random.Random(seed)
        self.n, self.site = n, site
        self.student = np.array([rng.choice([1, 17, 10**12]) for _ in range(n)], np.int64)
        self.course = np.array([rng.choice([0, 5, 2**40]) for _ in range(n)], np.int64)
        self.at = np.array([rng.choice([0, 10**12 + 7]) for _ in range(n)], np.int64)
        self.flag = np.array([rng.random() < 0.5 for _ in range(n)], np.bool_)
        self.day = np.array([rng.choice([0, 15_999, 16_034]) for _ in range(n)], np.int64)
        self.opened = np.array([rng.choice([NO_DAY, 16_000]) for _ in range(n)], np.int64)
        self.why = np.array([rng.choice(list(Why)) for _ in range(n)], np.int64)
        self.assessment = sample(rng, n)
        self.keys = Keys(self.student, self.course, site)

    def key(self, i: int) -> bytes:
        return b"%d" % self.student[i] if self.site else b"%d|%d" % (self.student[i], self.course[i])

    def ids(self, i: int) -> dict[str, Any]:
        return {"USERID": int(self.student[i]), "COURSEID": None if self.site else int(self.course[i])}

    def risk(self, i: int) -> float | None:
        risk = float(self.assessment.risk[i])
        return None if math.isnan(risk) else risk

    def reasons(self, i: int) -> list[dict[str, Any]]:
        reasons, found = explain(MODEL, self.assessment), []
        for slot in range(2):
            code, figure, own, median = (
                int(c[i, slot]) for c in (reasons.code, reasons.figure, reasons.own, reasons.median)
            )
            weight = float(reasons.weight[i, slot])
            if code != NONE:
                found.append({
                    "CODE": Code(code).name,
                    "FIGURE": Figure(figure).name.lower(),
                    "OWN": own,
                    "MEDIAN": median,
                    "WEIGHT": None if math.isnan(weight) else round(weight, 2),
                    "TEXT": sentence(code, figure, own, median),
                })  # fmt: skip
        return found


def date(day: int) -> str | None:
    return None if day == NO_DAY else LocalDays.date(int(day))


rows = st.builds(Rows, st.integers(0, 2**32), st.integers(1, 20), st.booleans())


@settings(max_examples=examples(100), deadline=None)
@given(rows, st.sampled_from(["event", "tick"]))
def test_rows_of_risk(args: Rows, trigger: str) -> None:
    """Compact JSON, nulls written, the keys in order."""
    written = risk_rows.risk(
        args.at,
        args.keys,
        args.assessment,
        MODEL,
        alert=args.flag,
        opened=args.opened,
        as_of=args.day,
        is_tick=np.full(len(args.day), trigger == "tick"),
    )
    for i, row in enumerate(written):
        value = {
            **args.ids(i),
            "RISK": args.risk(i),
            "BAND": Band(args.assessment.band[i]).name,
            "ALERT": bool(args.flag[i]),
            "SINCE": date(args.opened[i]) if args.flag[i] else None,
            "REASONS": args.reasons(i),
            "COHORT_N": int(args.assessment.peers.n[i]),
            "VISIT_DAYS": f"{args.assessment.figures.visit_days[i]:016x}",
            "SUBMISSION_DAYS": f"{args.assessment.figures.submission_days[i]:016x}",
            "AS_OF": date(args.day[i]),
            "TRIGGER": trigger,
            "MODEL": MODEL.id,
        }
        assert row == (args.at[i], args.key(i), json.dumps(value, separators=(",", ":")).encode(), HEADERS)


@settings(max_examples=examples(100), deadline=None)
@given(rows)
def test_rows_of_alerts(args: Rows) -> None:
    written = risk_rows.alerts(
        args.at, args.keys, args.assessment, MODEL,
        is_opening=args.flag, day=args.day, opened=args.opened, why=args.why,
    )  # fmt: skip
    for i, row in enumerate(written):
        value = {
            **args.ids(i),
            "ALERT": "opened" if args.flag[i] else "closed",
            "RISK": args.risk(i),
            "BAND": Band(args.assessment.band[i]).name,
            "REASONS": args.reasons(i),
            "DAY": date(args.day[i]),
            "OPENED": date(args.opened[i]),
            "WHY": Why(args.why[i]).name.lower(),
            "MODEL": MODEL.id,
        }
        assert row == (args.at[i], args.key(i), json.dumps(value, separators=(",", ":")).encode(), HEADERS)


def test_both_reasons_are_written() -> None:
    """As they are documented."""
    assessment = unassessed(1)
    days = np.array([0x3001000, 0], np.uint64)
    own = Figures(*(np.array([x]) for x in (0.1, 12, 0, 1, 3, True)), days[:1], days[1:])
    peers = Peers(*(np.array([x]) for x in (412, 1.0, 1.0, 2.0, 2, 6, 11, 2)))
    weights = (np.array([0.83]), np.array([1.2]))
    assessment = Assessment(np.array([0.8123]), np.array([Band.HIGH]), *weights, own, peers)
    (row,) = risk_rows.risk(
        np.array([7]), Keys(np.array([1]), np.array([5]), False), assessment, MODEL,
        alert=np.array([True]), opened=np.array([16_029]), as_of=np.array([16_034]),
        is_tick=np.array([True]),
    )  # fmt: skip
    assert row[2] == (
        b'{"USERID":1,"COURSEID":5,"RISK":0.8123,"BAND":"HIGH","ALERT":true,"SINCE":"2013-11-20","REASONS":['
        b'{"CODE":"SUBMISSIONS","FIGURE":"submissions","OWN":0,"MEDIAN":2,"WEIGHT":1.2,'
        b'"TEXT":"no submission so far; the median of the course is 2"},'
        b'{"CODE":"VISITS","FIGURE":"days_silent","OWN":12,"MEDIAN":2,"WEIGHT":0.83,'
        b'"TEXT":"no visit for 12 days; the median of the course is 2"}],'
        b'"COHORT_N":412,"VISIT_DAYS":"0000000003001000","SUBMISSION_DAYS":"0000000000000000",'
        b'"AS_OF":"2013-11-25","TRIGGER":"tick","MODEL":"%b"}' % MODEL.id.encode()
    )


@pytest.mark.parametrize("site", [False, True])
def test_tombstones(site: bool) -> None:
    keys = Keys(np.array([1, 2]), np.array([5, 0]), site)
    expected = [b"1", b"2"] if site else [b"1|5", b"2|0"]
    assert list(risk_rows.tombstones(np.array([7, 8]), keys)) == [
        (at, key, None, []) for at, key in zip((7, 8), expected, strict=True)
    ]


def test_rows_are_encoded_as_batches() -> None:
    """Also where there are none, and tombstones."""
    for n in (0, 1, 2_000):
        args = Rows(3, n, False)
        assert {f.name for f in fields(Keys)} == {"student", "course", "site"}
        for written in (
            risk_rows.risk(
                args.at, args.keys, args.assessment, MODEL,
                alert=args.flag, opened=args.opened, as_of=args.day, is_tick=np.full(len(args.day), True),
            ),
            risk_rows.alerts(
                args.at, args.keys, args.assessment, MODEL,
                is_opening=args.flag, day=args.day, opened=args.opened, why=args.why,
            ),
            risk_rows.tombstones(args.at, args.keys),
        ):  # fmt: skip
            assert isinstance(written, OutputColumns)
            assert len(list(written)) == n
            assert sum(batch.count for batch in batches(written, 900_000)) == n
