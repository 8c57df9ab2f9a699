"""Decode chunks of the Moodle log: Confluent's wire format, each record by its writer's schema."""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias, cast

import numpy as np

from codec.avro import HEADER, Plan, Row, Undecodable, read_one
from codec.avro_columns import ValueBuffer, read_rows
from codec.avro_schema import MOODLE, DeclaredColumns, Json, UnusableSchema
from codec.avro_schema import plan as make_plan
from models.binary_column import BinaryColumn
from models.chunk import Chunk
from models.counting import CountingRules, RiskColumns
from models.decoded import DecodedChunk, DecodedRows, OddSchema, RejectedRecord, assemble
from models.rules import Int64s
from models.varints import Words
from models.visits import NO_LOG_ID

#: chunks of up to this many records are read one by one, which costs less than building columns
_ROW_WISE_MAX = 24
#: up to this many schema ids of a chunk are separated by comparison, the rest by sorting
_COMPARED_IDS = 8
#: registries number schemas with Java ints
_MAX_ID = (1 << 31) - 1
#: size of a schema id in Apicurio's own format [bytes], and the largest that is taken for one
_WIDE = 8
_MAX_WIDE_ID = (1 << 24) - 1
#: what to change in the connector
WIDE_ID_REMEDY = (
    "Apicurio's own format; set value.converter.apicurio.registry.as-confluent=true and "
    "value.converter.apicurio.registry.use-id=contentId in the connector, the same for key.converter"
)

#: how to read the records of each schema, by id; an error: none of them can be read
Plans: TypeAlias = Mapping[int, "Plan | UnusableSchema"]


class SchemaSource(Protocol):
    """Provides writers' schemas: a schema registry, or a dict in tests."""

    async def schema(self, schema_id: int) -> Json:
        """The parsed schema with an id, None if unknown."""


class LogDecoder:
    """Decodes one topic's chunks."""

    def __init__(
        self,
        schemas: SchemaSource,
        declared: DeclaredColumns = MOODLE,
        *,
        unit_ms: int = 1,
        with_log_id: bool = False,
        counting: CountingRules | None = None,
    ) -> None:
        """unit_ms: unit of timecreated, 1 or 1000; declared: see `declare`; with_log_id: read the column id too;
        counting: what counts for the risk, None: nothing of it is read."""
        self._schemas = schemas
        self._declared = declared
        self._unit_ms = unit_ms
        self._with_log_id, self._counting = with_log_id, counting
        #: by schema id; never evicted, because the schema of an id never changes
        self._plans: dict[int, Plan | UnusableSchema] = {}

    def declare(self, declared: DeclaredColumns) -> None:
        """Read chunks as these columns from now on: the result of `codec.avro_schema.check` at the start."""
        self._declared = declared
        self._plans.clear()

    async def decode(self, chunk: Chunk) -> DecodedChunk:
        """The visits of a chunk, and the reasons why its other records are none; waits for its schemas."""
        return self.read(chunk, await self.plans(self.missing(chunk)))

    def missing(self, chunk: Chunk) -> frozenset[int]:
        """The ids of the schemas without which a chunk cannot be read: those not requested yet, or not known then."""
        if len(chunk) <= _ROW_WISE_MAX:
            heads = {
                value[:HEADER] for value in chunk.values if value is not None and _invalid_header(0, value) is None
            }
            ids = {int.from_bytes(head[1:], "big") for head in heads}
        else:
            heads_of_all = _heads(ValueBuffer.of(_values_of(chunk)[0]))
            if len(heads_of_all) and (heads_of_all == heads_of_all[0]).all():
                heads_of_all = heads_of_all[:1]  # the usual case, without sorting
            ids = {_schema_id(head) for head in np.unique(heads_of_all).tolist() if not head & 0xFF}
        return frozenset(ids - self._plans.keys())

    async def plans(self, schema_ids: Collection[int]) -> Plans:
        """How to read records of these schemas, requested concurrently; waits as long as the registry has to be asked.

        Only known schemas are cached.
        """
        if not schema_ids:
            return {}
        ids = sorted(schema_ids)
        return dict(zip(ids, await asyncio.gather(*map(self._plan, ids)), strict=True))

    def read(self, chunk: Chunk, plans: Plans) -> DecodedChunk:
        """Decode a chunk; plans: those of its schemas that `missing` has named."""
        found: Plans = ChainMap(self._plans, dict(plans))
        odd: dict[int, int] = {}
        if len(chunk) <= _ROW_WISE_MAX:
            decoded = self._read_row_wise(chunk.values, found, odd)
        else:
            values, index = _values_of(chunk)
            rejects: list[RejectedRecord] = []
            parts = self._read_columns(ValueBuffer.of(values), found, odd, rejects)
            if index is not None:
                parts = [replace(part, row=index[part.row]) for part in parts]
                rejects = [RejectedRecord(int(index[r.index]), r.reason, r.detail) for r in rejects]
            decoded = assemble(parts, rejects, len(chunk) - len(values), self._unit_ms, self._counting)
        if not odd:
            return decoded
        return replace(decoded, odd_schemas=[_odd_schema(i, n, found[i]) for i, n in sorted(odd.items())])

    def _read_row_wise(self, values: Sequence[bytes | None], plans: Plans, odd: dict[int, int]) -> DecodedChunk:
        index: list[int] = []
        decoded: list[Row] = []
        rejects = []
        for i, value in enumerate(values):
            if value is None:
                continue
            reject = _invalid_header(i, value)
            if reject is None:
                schema_id = int.from_bytes(value[1:HEADER], "big")
                plan = plans[schema_id]
                if isinstance(plan, Plan):
                    try:
                        decoded.append(read_one(plan, value))
                        index.append(i)
                    except Undecodable as error:
                        reject = RejectedRecord(i, error.reason, error.detail)
                else:
                    reject = _unusable(i, schema_id, plan, value)
                if _is_odd(plan):
                    odd[schema_id] = odd.get(schema_id, 0) + 1
            if reject is not None:
                rejects.append(reject)
        rows = DecodedRows(
            np.array(index, np.int64),
            np.array([row.student or 0 for row in decoded], np.int64),
            np.array([row.student is None for row in decoded], np.bool_),
            np.array([row.at or 0 for row in decoded], np.int64),
            np.array([NO_LOG_ID if row.log_id is None else row.log_id for row in decoded], np.int64)
            if self._with_log_id
            else None,
            None if self._counting is None else _risk_columns(decoded),
        )
        return assemble([rows], rejects, sum(value is None for value in values), self._unit_ms, self._counting)

    def _read_columns(
        self, buffer: ValueBuffer, plans: Plans, odd: dict[int, int], rejects: list[RejectedRecord]
    ) -> list[DecodedRows]:
        """The records of each schema; adds the others to `rejects`, and the number of each odd schema's to `odd`."""
        parts: list[DecodedRows] = []
        for head, rows in _group_by_head(_heads(buffer)):
            if head & 0xFF:
                invalid = (_invalid_header(i, buffer.values[i] or b"") for i in rows.tolist())
                rejects += [reject for reject in invalid if reject is not None]
                continue
            schema_id = _schema_id(head)
            plan = plans[schema_id]
            if isinstance(plan, Plan):
                parts.append(self._read(plan, buffer, rows, rejects))
            else:
                rejects += [_unusable(i, schema_id, plan, buffer.values[i] or b"") for i in rows.tolist()]
            if _is_odd(plan):
                odd[schema_id] = len(rows)
        return parts

    def _read(self, plan: Plan, buffer: ValueBuffer, rows: Int64s, rejects: list[RejectedRecord]) -> DecodedRows:
        """Read the records at `rows`, all of one schema; adds refused ones to `rejects`."""
        columns = read_rows(plan, buffer, None if len(rows) == len(buffer.values) else rows)
        log_id = columns.log_id
        if log_id is None and self._with_log_id:
            log_id = np.full(len(rows), NO_LOG_ID)
        part = DecodedRows(rows, columns.student, columns.null, columns.at, log_id, columns.risk)
        if not columns.refused:
            return part
        rejects += [RejectedRecord(int(rows[i]), e.reason, e.detail) for i, e in columns.refused.items()]
        valid = np.ones(len(rows), np.bool_)
        valid[list(columns.refused)] = False
        return part.take(valid)

    async def _plan(self, schema_id: int) -> Plan | UnusableSchema:
        """How to read records of a schema; unknown ids are not cached."""
        if schema_id in self._plans:
            return self._plans[schema_id]
        schema = await self._schemas.schema(schema_id) if schema_id <= _MAX_ID else None
        if schema is None:
            return UnusableSchema("unknown-schema", "the registry has no Avro schema with this id")
        try:
            plan: Plan | UnusableSchema = make_plan(
                schema, self._declared, with_log_id=self._with_log_id, counting=self._counting
            )
        except UnusableSchema as error:
            plan = error
        self._plans[schema_id] = plan
        return plan


def _risk_columns(rows: Sequence[Row]) -> RiskColumns:
    numbers = np.array([(row.course, row.related, row.marks) for row in rows], np.int64).reshape(-1, 3)
    return RiskColumns(numbers[:, 0], numbers[:, 1], numbers[:, 2].astype(np.uint8))


def _values_of(chunk: Chunk) -> tuple[BinaryColumn, Int64s | None]:
    """The values that are not null, and the index of each in the chunk; None: all are there."""
    values = chunk.values
    if not isinstance(values, BinaryColumn):
        if None not in values:
            return BinaryColumn.of(cast("Sequence[bytes]", values)), None
        index = np.array([i for i, value in enumerate(values) if value is not None], np.int64)
        return BinaryColumn.of([value for value in values if value is not None]), index
    valid = values.is_valid()
    if valid.all():
        return values, None
    index = np.flatnonzero(valid)
    return values.take(index), index


def _invalid_header(index: int, value: bytes) -> RejectedRecord | None:
    """The reason why a value does not begin with a zero and a schema id, None if it does."""
    if value[:1] not in (b"\0", b""):
        return RejectedRecord(index, "bad-magic", f"first byte {value[0]}: not Avro in the registry's format")
    if len(value) < HEADER:
        return RejectedRecord(index, "truncated", f"{len(value)} bytes, magic byte and schema id alone have {HEADER}")
    return None


def _heads(buffer: ValueBuffer) -> Words:
    """The first bytes of each value [n], as `ValueBuffer.heads`; 1, which is invalid, for a short value."""
    heads = buffer.heads()
    size = buffer.stop - buffer.start
    if size.min(initial=HEADER) < HEADER:
        heads[size < HEADER] = 1  # it includes bytes of the next value
    return heads


def _schema_id(head: int) -> int:
    """The schema id in a head that begins with a zero."""
    return int.from_bytes(head.to_bytes(HEADER, "little")[1:], "big")


def _unusable(index: int, schema_id: int, error: UnusableSchema, value: bytes) -> RejectedRecord:
    if error.reason == "unknown-schema" and (wide := wide_schema_id(value)) is not None:
        return RejectedRecord(index, error.reason, f"schema id {wide} in 8 bytes: {WIDE_ID_REMEDY}")
    number = schema_id - (1 << 32) if schema_id > _MAX_ID else schema_id
    return RejectedRecord(index, error.reason, f"schema id {number}: {error.detail}")


def wide_schema_id(value: bytes) -> int | None:
    """The schema id of a value that has it in 8 bytes instead of 4, as Apicurio's own format; None for any other.

    Confluent's format would have the id 0 there, which no registry gives.
    """
    if len(value) < 1 + _WIDE or value[:HEADER] != bytes(HEADER):
        return None
    schema_id = int.from_bytes(value[1 : 1 + _WIDE], "big")
    return schema_id if 0 < schema_id <= _MAX_WIDE_ID else None


def _is_odd(plan: Plan | UnusableSchema) -> bool:
    return bool(plan.doubt) if isinstance(plan, Plan) else plan.reason == "wrong-schema"


def _odd_schema(schema_id: int, records: int, plan: Plan | UnusableSchema) -> OddSchema:
    refused = not isinstance(plan, Plan)
    return OddSchema(schema_id, records, refused, plan.detail if isinstance(plan, UnusableSchema) else plan.doubt)


def _group_by_head(heads: Words) -> Iterator[tuple[int, Int64s]]:
    """The rows of each distinct head [n]; most chunks have one schema, all have few."""
    rows = np.arange(len(heads))
    for _ in range(_COMPARED_IDS):
        if not len(rows):
            return
        same = heads[rows] == heads[rows[0]]
        yield int(heads[rows[0]]), rows if same.all() else rows[same]
        rows = rows[~same]
    rows = rows[np.argsort(heads[rows], kind="stable")]
    boundaries = np.flatnonzero(np.diff(heads[rows])) + 1
    for group in np.split(rows, boundaries) if len(rows) else ():
        yield int(heads[group[0]]), group
