"""Rows of MOODLE_RISK and MOODLE_RISK_ALERTS: compact JSON, upper-case names, in columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from codec.record_batch import OutputColumns, Rows
from models.activity import NO_DAY, NONE
from models.alerts import Why
from models.assessment import RISK_SCALE, Assessment, Band, Code, Figure, Reasons, explain, sentence
from models.days import LocalDays
from models.factorize import factorize
from models.padded_bytes import PaddedBytes, TextTable, decimals, hexadecimals, literal, take
from models.rules import Bools, Float64s, Int64s
from models.standing import StandingModel

#: above every median
_MEDIANS = 64
#: the largest number of units whose decimals are kept, by scale: all risks, and weights up to 10
_KEPT = {RISK_SCALE: RISK_SCALE, 100: 1_000}


@dataclass(frozen=True, slots=True)
class Keys:
    """The entries that rows are about."""

    #: userid [k]
    student: Int64s
    #: courseid [k]
    course: Int64s
    #: whether there is one entry per student (RISK_COURSES=site): courses are left out
    site: bool

    def __len__(self) -> int:
        return len(self.student)


def risk(
    at: Int64s,
    keys: Keys,
    assessment: Assessment,
    model: StandingModel,
    *,
    alert: Bools,
    opened: Int64s,
    as_of: Int64s,
    is_tick: Bools,
) -> Rows:
    """Make rows of MOODLE_RISK.

    at [k] ms: timestamps; alert [k]: whether an alert is open; opened [k]: the day it was opened; as_of [k]: the day
    of the assessment [k]; is_tick [k]: whether its tick wrote the row, or else an event.
    """
    n = len(keys)
    value = [
        *_begin(keys),
        literal(b',"RISK":', n), _risks(assessment),
        literal(b',"BAND":"', n), _bands(assessment),
        literal(b'","ALERT":', n), take([b"false", b"true"], alert.astype(np.int64)),
        literal(b',"SINCE":', n), _dates(np.where(alert, opened, NO_DAY)),
        *_reasons(explain(model, assessment)),
        literal(b',"COHORT_N":', n), decimals(assessment.peers.n),
        literal(b',"VISIT_DAYS":"', n), hexadecimals(assessment.figures.visit_days),
        literal(b'","SUBMISSION_DAYS":"', n), hexadecimals(assessment.figures.submission_days),
        literal(b'","AS_OF":', n), _dates(as_of),
        literal(b',"TRIGGER":"', n), take([b"event", b"tick"], is_tick.astype(np.int64)),
        literal(b'","MODEL":"%b"}' % model.id.encode(), n),
    ]  # fmt: skip
    return OutputColumns(at, _key(keys), value, headers=headers(model))


def tombstones(at: Int64s, keys: Keys) -> Rows:
    """Make tombstones of MOODLE_RISK for entries that no longer exist."""
    n = len(keys)
    return OutputColumns(at, _key(keys), (literal(b"", n),), has_value=np.zeros(n, np.bool_))


def alerts(
    at: Int64s,
    keys: Keys,
    assessment: Assessment,
    model: StandingModel,
    *,
    is_opening: Bools,
    day: Int64s,
    opened: Int64s,
    why: Int64s,
) -> Rows:
    """Make rows of MOODLE_RISK_ALERTS.

    is_opening [k]: whether the alert was opened, else closed, on `day` [k]; opened [k]: the day it was opened;
    why [k]: values of models.alerts.Why. For alerts of entries that no longer exist see models.assessment.unassessed.
    """
    n = len(keys)
    value = [
        *_begin(keys),
        literal(b',"ALERT":"', n), take([b"closed", b"opened"], is_opening.astype(np.int64)),
        literal(b'","RISK":', n), _risks(assessment),
        literal(b',"BAND":"', n), _bands(assessment), literal(b'"', n),
        *_reasons(explain(model, assessment)),
        literal(b',"DAY":', n), _dates(day),
        literal(b',"OPENED":', n), _dates(opened),
        literal(b',"WHY":"', n), take([w.name.lower().encode() for w in Why], why),
        literal(b'","MODEL":"%b"}' % model.id.encode(), n),
    ]  # fmt: skip
    return OutputColumns(at, _key(keys), value, headers=headers(model))


def headers(model: StandingModel) -> list[tuple[str, bytes | None]]:
    """The headers of every row: the model that made it."""
    return [("model", model.id.encode())]


def _key(keys: Keys) -> list[PaddedBytes]:
    student = decimals(keys.student)
    return [student] if keys.site else [student, literal(b"|", len(keys)), decimals(keys.course)]


def _begin(keys: Keys) -> list[PaddedBytes]:
    n = len(keys)
    course = literal(b"null", n) if keys.site else decimals(keys.course)
    return [literal(b'{"USERID":', n), decimals(keys.student), literal(b',"COURSEID":', n), course]


def _risks(assessment: Assessment) -> PaddedBytes:
    return _decimals(assessment.units, RISK_SCALE)


def _bands(assessment: Assessment) -> PaddedBytes:
    return take([band.name.encode() for band in Band], assessment.band)


def _decimals(units: Int64s, scale: int) -> PaddedBytes:
    """`units` [n] of 1 / `scale`, from NONE on, as the shortest decimals; NONE is null."""
    if int(units.max(initial=0)) <= _KEPT[scale]:
        return _DECIMALS[scale].take(units - NONE)
    distinct, index = factorize(units)
    return take([_decimal(u, scale) for u in distinct.tolist()], index)


def _decimal_at(scale: int, index: int) -> bytes:
    return _decimal(index + NONE, scale)


def _decimal(units: int, scale: int) -> bytes:
    return b"null" if units == NONE else repr(units / scale).encode()


#: the decimals of numbers of units from NONE to the largest that is kept, by scale
_DECIMALS = {scale: TextTable(most + 2, 6, partial(_decimal_at, scale)) for scale, most in _KEPT.items()}


def _dates(day: Int64s) -> PaddedBytes:
    """Days [n] as JSON strings; NO_DAY is null."""
    distinct, index = factorize(day)
    texts = [b"null" if d == NO_DAY else b'"%b"' % LocalDays.date(d).encode() for d in distinct.tolist()]
    return take(texts, index)


def _reasons(reasons: Reasons) -> list[PaddedBytes]:
    """The pieces of the array of reasons [n, 2]."""
    n = len(reasons.code)
    pieces = [literal(b',"REASONS":[', n)]
    for i in range(2):
        given = reasons.code[:, i] != NONE
        if given.any():
            before, after = _reason_texts(reasons, i, given)
            weight = _weights(np.where(given, reasons.weight[:, i], 0.0))
            pieces += [literal(b"," if i else b"", n), before, weight, after]
            pieces[-4:] = [piece.where(given) for piece in pieces[-4:]]
    return [*pieces, literal(b"]", n)]


def _reason_texts(reasons: Reasons, i: int, given: Bools) -> tuple[PaddedBytes, PaddedBytes]:
    """What reason i of each row, where it is given [n], has before and after its weight."""
    code, figure, own, median = (
        np.where(given, c[:, i], 0) for c in (reasons.code, reasons.figure, reasons.own, reasons.median)
    )
    distinct, index = factorize(((own * _MEDIANS + median) * len(Figure) + figure) * len(Code) + code)
    texts = [_reason_text(number) for number in distinct.tolist()]
    return take([before for before, _ in texts], index), take([after for _, after in texts], index)


@lru_cache(maxsize=20_000)
def _reason_text(number: int) -> tuple[bytes, bytes]:
    """The JSON of a reason before and after its weight; `number`: code, figure, median and own figure as one number."""
    rest, c = divmod(number, len(Code))
    rest, f = divmod(rest, len(Figure))
    own, median = divmod(rest, _MEDIANS)
    names = f'{{"CODE":"{Code(c).name}","FIGURE":"{Figure(f).name.lower()}"'
    before = f'{names},"OWN":{own},"MEDIAN":{median},"WEIGHT":'
    return before.encode(), f',"TEXT":"{sentence(c, f, own, median)}"}}'.encode()


def _weights(weight: Float64s) -> PaddedBytes:
    """Weights [n] with two decimals; nan is null."""
    none = np.isnan(weight)
    return _decimals(np.where(none, NONE, np.rint(100 * np.where(none, 0.0, weight))).astype(np.int64), 100)
