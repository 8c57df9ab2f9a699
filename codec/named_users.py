"""The users that a record of Moodle's log names, whatever else is wrong with it: to find those of one student."""

from __future__ import annotations

from codec.avro import HEADER, Undecodable, read_fields
from codec.avro_schema import Json, UnusableSchema, columns

#: columns of the log that name a user
_COLUMNS = ("USERID", "RELATEDUSERID", "REALUSERID")


def schema_id(value: bytes | None) -> int | None:
    """The id of a value's schema; None if it does not begin with one."""
    return int.from_bytes(value[1:HEADER], "big") if value is not None and _has_header(value) else None


def named_users(schema: Json, value: bytes) -> frozenset[int] | None:
    """The ids of the users that a record of `schema` names; None if it cannot be told."""
    try:
        fields = columns(schema)
        wanted = [i for i, (name, _) in enumerate(fields) if name.upper() in _COLUMNS]
        found = read_fields([avro_type for _, avro_type in fields], wanted, value)
    except (UnusableSchema, Undecodable):
        return None
    if not wanted:
        return None  # a record of something else
    users = {_user(field) for field in found.values() if field is not None}
    return None if None in users else frozenset(user for user in users if user is not None)


def _has_header(value: bytes) -> bool:
    return len(value) >= HEADER and value[0] == 0


def _user(field: int | bytes) -> int | None:
    """The id in a field; None if its text is none."""
    if isinstance(field, int):
        return field
    try:
        return int(field)
    except ValueError:
        return None
