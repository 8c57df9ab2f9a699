"""Chunks of the Moodle log decoded: Confluent's wire format, each record by its writer's schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, cast

import numpy as np

from codec.avro import HEADER, Plan, Undecodable, read_one
from codec.avro_columns import Joined, read_rows
from codec.avro_schema import MOODLE, DeclaredColumns, Json, Unreadable, plan
from models.binary_column import BinaryColumn
from models.chunk import Chunk
from models.decoded import Decoded, Part, Reject, decoded
from models.rules import Int64s
from models.varints import Words

#: chunks up to this size are read record by record, which costs less than setting columns up
_FEW = 24
#: schema ids of one chunk that are told apart by comparing; more than these are sorted
_USUAL_IDS = 8
#: registries number schemas with Java ints
_LAST_ID = (1 << 31) - 1


class SchemaSource(Protocol):
    """Where writer schemas come from: `app.kafka.registry.Schemas`, or a dict in tests."""

    async def schema(self, schema_id: int) -> Json:
        """The parsed schema of an id, None for an unknown one."""


class LogDecoder:
    """Decodes one topic's chunks."""

    def __init__(self, schemas: SchemaSource, declared: DeclaredColumns = MOODLE, *, unit_ms: int = 1) -> None:
        """timecreated counts `unit_ms`, 1 or 1000; for `declared` see `declare`."""
        self._schemas = schemas
        self._declared = declared
        self._unit_ms = unit_ms
        #: by schema id, for ever: an id never changes its schema
        self._plans: dict[int, Plan | Unreadable] = {}

    def declare(self, declared: DeclaredColumns) -> None:
        """Read what comes from now on as these columns: what `codec.avro_schema.check` found at start."""
        self._declared = declared
        self._plans.clear()

    async def decode(self, chunk: Chunk) -> Decoded:
        """The visits of a chunk, and why its other records are none.

        Waits only for schemas it has not met before; asks for each of them once a chunk.
        """
        if len(chunk) <= _FEW:
            return await self._one_by_one(chunk.values)
        values, place = _values_of(chunk)
        rejects: list[Reject] = []
        parts = await self._in_columns(Joined.of(values), rejects)
        if place is not None:
            parts = [Part(place[part.row], part.student, part.null, part.at) for part in parts]
            rejects = [Reject(int(place[r.index]), r.reason, r.detail) for r in rejects]
        return decoded(parts, rejects, len(chunk) - len(values), self._unit_ms)

    async def _one_by_one(self, values: Sequence[bytes | None]) -> Decoded:
        read: list[tuple[int, int | None, int | None]] = []
        rejects = []
        unknown: dict[int, Plan | Unreadable] = {}
        for i, value in enumerate(values):
            if value is None:
                continue
            reject = _headless(i, value)
            if reject is None:
                schema_id = int.from_bytes(value[1:HEADER], "big")
                found = self._plans.get(schema_id) or unknown.get(schema_id)
                if found is None:
                    found = unknown[schema_id] = await self._plan(schema_id)
                if isinstance(found, Plan):
                    try:
                        read.append((i, *read_one(found, value)))
                    except Undecodable as why:
                        reject = Reject(i, why.reason, why.detail)
                else:
                    reject = _unread(i, schema_id, found)
            if reject is not None:
                rejects.append(reject)
        part = Part(
            np.array([i for i, _, _ in read], np.int64),
            np.array([student or 0 for _, student, _ in read], np.int64),
            np.array([student is None for _, student, _ in read], np.bool_),
            np.array([at or 0 for _, _, at in read], np.int64),
        )
        return decoded([part], rejects, sum(value is None for value in values), self._unit_ms)

    async def _in_columns(self, joined: Joined, rejects: list[Reject]) -> list[Part]:
        heads = joined.heads()
        size = joined.stop - joined.start
        if size.min(initial=HEADER) < HEADER:
            # what follows a short value would pass for its head
            heads[size < HEADER] = 1
        parts: list[Part] = []
        for head, rows in _groups(heads):
            schema_id = int.from_bytes(head.to_bytes(HEADER, "little")[1:], "big")
            if head & 0xFF:
                headless = (_headless(i, joined.values[i] or b"") for i in rows.tolist())
                rejects += [reject for reject in headless if reject is not None]
                continue
            found = self._plans.get(schema_id) or await self._plan(schema_id)
            if isinstance(found, Plan):
                parts.append(self._read(found, joined, rows, rejects))
            else:
                rejects += [_unread(i, schema_id, found) for i in rows.tolist()]
        return parts

    @staticmethod
    def _read(found: Plan, joined: Joined, rows: Int64s, rejects: list[Reject]) -> Part:
        """The records at `rows`, which are all of one schema."""
        columns = read_rows(found, joined, None if len(rows) == len(joined.values) else rows)
        part = Part(rows, columns.student, columns.null, columns.at)
        if not columns.refused:
            return part
        rejects += [Reject(int(rows[i]), why.reason, why.detail) for i, why in columns.refused.items()]
        good = np.ones(len(rows), np.bool_)
        good[list(columns.refused)] = False
        return Part(rows[good], part.student[good], part.null[good], part.at[good])

    async def _plan(self, schema_id: int) -> Plan | Unreadable:
        """How to read records of a schema met for the first time; unknown ids are not kept."""
        schema = await self._schemas.schema(schema_id) if schema_id <= _LAST_ID else None
        if schema is None:
            return Unreadable("unknown-schema", "the registry has no Avro schema of this id")
        try:
            found: Plan | Unreadable = plan(schema, self._declared)
        except Unreadable as why:
            found = why
        self._plans[schema_id] = found
        return found


def _values_of(chunk: Chunk) -> tuple[BinaryColumn, Int64s | None]:
    """The values that are there, and which records they are of; None: of all."""
    values = chunk.values
    if not isinstance(values, BinaryColumn):
        if None not in values:
            return BinaryColumn.of(cast("Sequence[bytes]", values)), None
        place = np.array([i for i, value in enumerate(values) if value is not None], np.int64)
        return BinaryColumn.of([value for value in values if value is not None]), place
    valid = values.is_valid()
    if valid.all():
        return values, None
    place = np.flatnonzero(valid)  # deletions
    return values.take(place), place


def _headless(index: int, value: bytes) -> Reject | None:
    """Why a value does not begin with a zero and a schema id, if it does not."""
    if value[:1] not in (b"\0", b""):
        return Reject(index, "bad-magic", f"first byte {value[0]}: not Avro in the registry's format")
    if len(value) < HEADER:
        return Reject(index, "truncated", f"{len(value)} bytes, where the schema's id alone ends at {HEADER}")
    return None


def _unread(index: int, schema_id: int, why: Unreadable) -> Reject:
    number = schema_id - (1 << 32) if schema_id > _LAST_ID else schema_id
    return Reject(index, why.reason, f"schema id {number}: {why.detail}")


def _groups(heads: Words) -> Iterator[tuple[int, Int64s]]:
    """The records of each head [n], most chunks have one, all have few."""
    rows = np.arange(len(heads))
    for _ in range(_USUAL_IDS):
        if not len(rows):
            return
        same = heads[rows] == heads[rows[0]]
        yield int(heads[rows[0]]), rows if same.all() else rows[same]
        rows = rows[~same]
    rows = rows[np.argsort(heads[rows], kind="stable")]
    cuts = np.flatnonzero(np.diff(heads[rows])) + 1
    for part in np.split(rows, cuts) if len(rows) else ():
        yield int(heads[part[0]]), part
