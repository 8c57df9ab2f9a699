"""Which fields of a schema say what a row of the log is to the risk."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from codec.avro import AvroType, Kind, RiskFields
from models.counting import COLUMNS, CountingRules

_NUMBERS, _TEXTS = (Kind.INT, Kind.LONG), (Kind.STRING, Kind.ENUM)
#: of anonymous, which some connectors make of MySQL's TINYINT(1)
_FLAGS = (*_NUMBERS, Kind.BOOLEAN)
#: KSQL's types of these columns
_SQL_NUMBERS, _SQL_TEXTS = ("BIGINT", "INTEGER"), ("STRING",)
_SQL_TYPES = {"EVENTNAME": _SQL_TEXTS, "ORIGIN": _SQL_TEXTS, "ANONYMOUS": (*_SQL_NUMBERS, "BOOLEAN")}


def risk_fields(types: Sequence[AvroType], index: Mapping[str, int], counting: CountingRules) -> RiskFields:
    """The fields of the risk among those with `types`; index: by upper-case name.

    One of an unexpected type counts as missing.
    """

    def find(name: str, kinds: Collection[Kind]) -> int | None:
        i = index.get(name)
        return i if i is not None and types[i].present.kind in kinds else None

    return RiskFields(
        find("COURSEID", _NUMBERS) if counting.per_course else None,
        find("RELATEDUSERID", _NUMBERS),
        find("REALUSERID", _NUMBERS),
        find("ANONYMOUS", _FLAGS),
        find("EVENTNAME", _TEXTS),
        find("ORIGIN", _TEXTS),
        tuple(name.encode() for name in counting.submission_events),
    )


def missing_columns(declared: Mapping[str, str]) -> list[str]:
    """The columns of the risk that are not among those `declared` (upper-case name → KSQL type), or of another type."""
    return [name for name in COLUMNS if declared.get(name) not in _SQL_TYPES.get(name, _SQL_NUMBERS)]
