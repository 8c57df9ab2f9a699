"""Whom to contact first: the order of the list."""

from __future__ import annotations

from models.assessment import RISK_SCALE, Band

#: states of a case in which nothing is left to do: page.cases.actions.State CONTACTED, NOT_APPLICABLE, WRONG
FINISHED = frozenset({2, 3, 4})
#: bands, the one to contact last first
_ORDER = (Band.UNKNOWN, Band.LOW, Band.GONE, Band.RAISED, Band.HIGH)
_BAND_RANK = {band.value: place for place, band in enumerate(_ORDER)}


def rank(*, band: int, risk: int | None, alert: bool, since: int | None, state: int, handled: int | None) -> int:
    """Return the rank of an entry; the highest is to be contacted first.

    First those with an open alert, then by band, then by risk [1e-4]; GONE, which has no risk, stands between RAISED
    and LOW, UNKNOWN last. A finished case stands below the open ones that have an alert like it, or none like it.
    since: day on which the open alert opened; handled: that of the alert for which the state was set, None if none was
    open. An alert that opened later makes a finished case count as open.
    """
    finished = state in FINISHED and not (alert and since != handled)
    group = 2 * bool(alert) + (not finished)
    return (group * len(_ORDER) + _BAND_RANK.get(band, 0)) * (RISK_SCALE + 1) + (risk or 0)
