"""A hundred thousand damaged inputs, always the same ones: nothing crashes, what is good counts, what is bad is kept.

Damage is made from real bytes (Debezium's, KSQL's recorded inputs, our own frames and records) with seeded
generators, and goes the way the worker's records go. What counts is judged by others: fastavro, json, and the
session rules as tests/support/oracle.py has them.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from app.settings import Settings
from codec.avro_schema import UnusableSchema, check, plan
from codec.dead_letters import DeadLetter
from codec.moodle_log import LogDecoder
from models import position as positions
from models import state
from models.chunk import Headers
from models.decoded import DecodedChunk
from models.position import Gap, Position
from models.predictions import THRESHOLD, text_key
from models.rules import MAX_AT
from models.sessions import Sessions
from models.totals import Totals
from models.visit_batch import CorruptVisitBatch, SourceRange, VisitBatch, decode, encode
from models.visits import Visits
from models.watermarks import Watermarks
from tests.support.golden_cases import PUBLIC, load, predictions, source
from tests.support.oracle import Ksql
from tests.test_avro import varint
from tools.test_driver import TopologyTestDriver

#: damaged inputs of each kind: every test makes exactly as many
MUTANTS = {
    "avro": 30_000,
    "avro elsewhere": 6_000,
    "frames": 28_000,
    "frames among good ones": 1_005,
    "state": 10_000,
    "fronts and positions": 4_000,
    "predictions": 20_000,
    "keys": 6_000,
}
SETTINGS = Settings(app_id="fuzz", model="none")
HERE = Path(__file__).parent
MINUTE = 60_000
#: bytes that are the edges of Avro's numbers
EDGES = bytes([0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF])


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """A line for each of the first dead letters of a fetch: tests/test_pipeline.py and live ones look at them."""
    caplog.set_level(logging.CRITICAL, "agents.process")


def test_there_are_a_hundred_thousand() -> None:
    assert sum(MUTANTS.values()) >= 100_000


class Damage:
    """Damages bytes, a different way each time, from a seed."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        #: numbers below 2**32, drawn ahead: a draw at a time costs ten times as much
        self._drawn: Iterator[int] = iter(())
        self.made = 0
        self._ways = (
            self._flip, self._flip, self._cut, self._extend, self._insert, self._delete, self._splice,
            self._random, self._head, self._edge, self._repeat,
        )  # fmt: skip

    def below(self, n: int) -> int:
        """A number from 0 to n - 1."""
        for number in self._drawn:
            return number % n
        self._drawn = iter(self._rng.integers(0, 2**32, 50_000).tolist())
        return self.below(n)

    def of(self, raw: bytes, other: bytes = b"", *, first: int = 0) -> bytes:
        """`raw`, changed behind its first bytes, or spliced with another."""
        while True:
            changed = raw[:first] + self._ways[self.below(len(self._ways))](raw[first:], other[first:])
            if changed != raw:
                self.made += 1
                return changed

    def some(self, size: int) -> bytes:
        """Random bytes."""
        return bytes(self.below(256) for _ in range(size))

    def _flip(self, raw: bytes, other: bytes) -> bytes:
        octets = bytearray(raw)
        for _ in range(1 + self.below(3) if octets else 0):
            octets[self.below(len(octets))] ^= 1 << self.below(8)
        return bytes(octets)

    def _cut(self, raw: bytes, other: bytes) -> bytes:
        return raw[: self.below(len(raw) + 1)]

    def _extend(self, raw: bytes, other: bytes) -> bytes:
        return raw + self.some(1 + self.below(12))

    def _insert(self, raw: bytes, other: bytes) -> bytes:
        at = self.below(len(raw) + 1)
        return raw[:at] + self.some(1 + self.below(4)) + raw[at:]

    def _delete(self, raw: bytes, other: bytes) -> bytes:
        at = self.below(len(raw) + 1)
        return raw[:at] + raw[at + 1 + self.below(4) :]

    def _splice(self, raw: bytes, other: bytes) -> bytes:
        return raw[: self.below(len(raw) + 1)] + other[self.below(len(other) + 1) :]

    def _random(self, raw: bytes, other: bytes) -> bytes:
        return self.some(self.below(len(raw) + 8))

    def _head(self, raw: bytes, other: bytes) -> bytes:
        at = self.below(min(8, len(raw) + 1))
        return raw[:at] + self.some(1) + raw[at + 1 :]

    def _edge(self, raw: bytes, other: bytes) -> bytes:
        octets = bytearray(raw)
        for _ in range(1 + self.below(9) if octets else 0):
            octets[self.below(len(octets))] = EDGES[self.below(len(EDGES))]
        return bytes(octets)

    def _repeat(self, raw: bytes, other: bytes) -> bytes:
        at = self.below(len(raw) + 1)
        return raw[:at] + raw[max(0, at - 1 - self.below(8)) : at] * (1 + self.below(3)) + raw[at:]


# -- the Moodle log


@dataclass(frozen=True)
class Family:
    """Values of one topic, and the schemas they were written with."""

    name: str
    schemas: dict[int, Any]
    latest: Any
    values: list[bytes]

    async def schema(self, schema_id: int) -> Any:
        """What a registry would answer."""
        return self.schemas.get(schema_id)

    def memory(self, settings: Settings = SETTINGS) -> TopologyTestDriver:
        """A pipeline for this topic."""
        decoder = LogDecoder(self, check(self.latest, settings.source_topic), unit_ms=settings.unit_ms)
        return TopologyTestDriver(settings, decoder)


def recorded(name: str) -> Family:
    """What a real Debezium wrote."""
    records = json.loads((HERE / "debezium" / f"{name}.records.json").read_bytes())["records"]
    schemas = json.loads((HERE / "debezium" / f"{name}.schemas.json").read_bytes())
    found = schemas[f"{records[0]['topic']}-value"]
    values = [base64.b64decode(r["value_base64"]) for r in records if r["value_base64"] is not None]
    return Family(name, {found["id"]: found["schema_parsed"]}, found["schema_parsed"], values)


def golden(name: str) -> Family:
    """What was put into a real KSQL."""
    case = load(name)
    latest = [entry["schema"] for entry in case["schemas"] if not entry.get("after")][-1]
    values = [value for value in source(case).values if value]
    return Family(name, {entry["id"]: entry["schema"] for entry in case["schemas"]}, latest, values)


def nullable() -> Family:
    """Every column optional, null first or last, and types that the log does not have."""
    rng = np.random.default_rng(5)
    types: list[tuple[str, Any]] = [
        ("__op", ["null", "string"]), ("userid", ["null", "long"]), ("grade", ["null", "double"]),
        ("kind", ["null", {"type": "enum", "name": "K", "symbols": ["a", "b", "c"]}]), ("ok", ["boolean", "null"]),
        ("tags", ["null", {"type": "array", "items": ["null", "long"]}]), ("courseid", ["int", "null"]),
        ("id", "long"), ("timecreated", ["long", "null"]), ("ip", ["null", {"type": "fixed", "name": "F", "size": 4}]),
    ]  # fmt: skip
    schema = {"type": "record", "name": "V", "fields": [{"name": n, "type": t} for n, t in types]}
    flat = {**schema, "fields": [f for f in schema["fields"] if f["name"] != "tags"]}
    family = Family("nullable", {7: schema, 70_000: flat}, schema, [])
    parsed = {number: fastavro.parse_schema(json.loads(json.dumps(s))) for number, s in family.schemas.items()}
    for i in range(300):
        row = {
            "__op": "c", "userid": int(rng.integers(-3, 30)), "grade": 0.5, "kind": "b", "ok": True,
            "tags": [1, None, 3], "courseid": 9, "id": i, "ip": b"\1\2\3\4",
            "timecreated": 1_561_975_200_000 + i * 90_000 + int(rng.integers(0, 2**18)),
        }  # fmt: skip
        present = {k: v for k, v in row.items() if k == "id" or rng.random() > 0.15}
        number = (7, 70_000)[i % 2]
        body = io.BytesIO()
        fastavro.schemaless_writer(body, parsed[number], {**dict.fromkeys(row), **present})
        family.values.append(b"\0" + number.to_bytes(4, "big") + body.getvalue())
    return family


FAMILIES: list[Callable[[], Family]] = [
    lambda: recorded("default"),
    lambda: recorded("rewrite"),
    nullable,
    lambda: golden("pfuzz_103"),
    lambda: golden("pfuzz_202_small_ts"),
    lambda: golden("p18_null_timecreated_later"),
    lambda: golden("p26_schema_added_column"),
    lambda: golden("p28_schema_type_changes"),
    lambda: golden("p32_multi_user"),
    lambda: golden("err_moodle_full"),
    lambda: golden("err_userid_int"),
    lambda: golden("err_timecreated_dbzts"),
]


def plainly(schema: Any) -> Any:
    """A schema as fastavro may read it: without logical types, and text as bytes, for it need not be UTF-8."""
    if isinstance(schema, list):
        return [plainly(branch) for branch in schema]
    if isinstance(schema, str):
        return "bytes" if schema == "string" else schema
    if schema["type"] == "record":
        return {**schema, "fields": [{"name": f["name"], "type": plainly(f["type"])} for f in schema["fields"]]}
    if schema["type"] in ("array", "map"):
        inner = "items" if schema["type"] == "array" else "values"
        return {"type": schema["type"], inner: plainly(schema[inner])}
    return schema if schema["type"] in ("enum", "fixed") else plainly(schema["type"])


class Opinion:
    """What fastavro says of a family's values."""

    def __init__(self, family: Family) -> None:
        self._schemas, self._refused = {}, set()
        #: names of columns that are ints: fastavro reads them as longs
        self._ints: dict[int, set[str]] = {}
        for number, schema in family.schemas.items():
            try:
                plan(schema, check(family.latest, "t"))
            except UnusableSchema:
                self._refused.add(number)  # test_codec_schema.py holds these to KSQL
            else:
                plain = json.loads(json.dumps(plainly(schema)))
                self._schemas[number] = fastavro.parse_schema(plain)
                self._ints[number] = {f["name"].upper() for f in plain["fields"] if "int" in (f["type"], *f["type"])}

    def of(self, value: bytes) -> tuple[str, tuple[int | None, int | None] | None, bool]:
        """A verdict, userid and timecreated where it is "read", and whether no byte could be other."""
        if value[:1] not in (b"", b"\0"):
            return "bad-magic", None, True
        if len(value) < 5:
            return "truncated", None, True
        number = int.from_bytes(value[1:5], "big")
        if number not in self._schemas:
            return "type-mismatch" if number in self._refused else "unknown-schema", None, True
        body = io.BytesIO(value[5:])
        try:
            row = fastavro.schemaless_reader(body, self._schemas[number])
        except Exception:  # whatever it stumbles over
            return "damaged", None, True
        named = {name.upper(): column for name, column in row.items()}
        for name in self._ints[number]:
            if named[name] is not None:
                zigzag = ((named[name] << 1) ^ (named[name] >> 63)) & 0xFFFF_FFFF  # Java shifts the rest out
                named[name] = (zigzag >> 1) ^ -(zigzag & 1)
        sure = bool(fastavro.validate(row, self._schemas[number], raise_errors=False))
        if sure:
            again = io.BytesIO()
            fastavro.schemaless_writer(again, self._schemas[number], row)
            sure = again.getvalue() == value[5 : 5 + body.tell()]
        return "read", (named.get("USERID"), named.get("TIMECREATED")), sure


def agree(opinion: Opinion, values: Sequence[bytes], found: DecodedChunk) -> Counter[str]:
    """Hold each verdict on `values` against fastavro's; how often each came."""
    seen: Counter[str] = Counter()
    visits = {
        row: (None if null else student, at)
        for row, student, null, at in zip(
            found.row.tolist(), found.student.tolist(), found.null.tolist(), found.at.tolist(), strict=True
        )
    }
    rejects = {reject.index: reject for reject in found.rejects}
    assert len(visits) + len(rejects) == len(values)
    for i, value in enumerate(values):
        said, row, sure = opinion.of(value)
        reason = rejects[i].reason if i in rejects else "read"
        seen[reason] += 1
        if reason == "read":
            assert said == "read", (value, said)
            assert row is not None
            assert visits[i] == (row[0], row[1] or 0), value
        elif reason in ("truncated", "malformed") and said == "read":
            assert not sure, (value, rejects[i])  # fastavro is laxer, but never with what it would write itself
            seen["laxer"] += 1
        elif reason in ("negative-time", "time-too-large"):
            assert row is not None
            assert (row[1] or 0) < 0 if reason == "negative-time" else (row[1] or 0) > MAX_AT
        else:
            assert said == reason or (said == "damaged" and reason in ("truncated", "malformed")), (value, rejects[i])
    return seen


def last(memory: TopologyTestDriver, topic: str) -> dict[bytes | None, Any]:
    """The last value of each key of a topic; tombstones leave none."""
    rows = {w.key: w.value for w in memory.topics.get(topic, [])}
    return {key: json.loads(value) for key, value in rows.items() if value is not None}


def recounted(memory: TopologyTestDriver, visits: Sequence[tuple[int | None, int]]) -> Ksql:
    """Hold the sessions and totals that came out against the rules, over `visits` in order."""
    rules = Ksql()
    for student, at in visits:
        rules.visit(student, at)  # type: ignore[arg-type]  # None is a student like any other
    sessions = {
        (row["USERID"], row["START_DATE"], row["END_DATE"]): row["ACTIVITIES"]
        for row in last(memory, memory.names.sessions).values()
    }
    assert sessions == {
        (student, start, end): count for student, found in rules.sessions.items() for start, end, count in found
    }
    totals = {
        row["USERID"]: (row["ACTIVITIES"], row["DURATION"], row["SESSIONS"])
        for row in last(memory, memory.names.agg).values()
    }
    wanted = {student: (n, s // max(k, 1), k) for student, (n, s, k, _) in rules.totals.items()}
    assert totals == wanted
    assert memory.metrics["late"] == rules.late
    return rules


def kept(
    dead_letters: Sequence[DeadLetter], inputs: Sequence[tuple[bytes | None, bytes, Headers]], bad: Sequence[int]
) -> None:
    """Every bad record is a dead letter that says where it comes from and why, with all it had."""
    assert [dead_letter.offset for dead_letter in dead_letters] == list(bad)
    for dead_letter in dead_letters:
        key, value, headers = inputs[dead_letter.offset]
        at, its_key, its_value, its_headers = dead_letter.row
        assert (at, its_key, its_value or b"") == (None, key, value)
        assert its_headers[5:] == list(headers)
        said = dict(its_headers[:5])
        assert said["dead-letter.topic"] == SETTINGS.source_topic.encode()
        assert (said["dead-letter.partition"], said["dead-letter.offset"]) == (b"0", b"%d" % dead_letter.offset)
        assert said["dead-letter.reason"] == dead_letter.reason.encode() != b""
        assert said["dead-letter.detail"] == dead_letter.detail.encode() != b""
        assert f"partition 0 offset {dead_letter.offset}: {dead_letter.reason}" in str(dead_letter)


@pytest.mark.parametrize("number", range(len(FAMILIES)))
async def test_damaged_log_values_are_read_as_others_read_them_or_kept(number: int) -> None:
    """Each is counted with the same userid and time that fastavro reads, or is a dead letter; nothing else.

    A damaged time can lie in any year, and then all after it is late: so there are many logs, each short.
    """
    family = FAMILIES[number]()
    opinion, damage = Opinion(family), Damage(number)
    seen: Counter[str] = Counter()
    wanted = MUTANTS["avro"] // len(FAMILIES)
    rounds = 15
    applied = 0
    for i in range(rounds):
        inputs: list[tuple[bytes | None, bytes, Headers]] = []
        async with family.memory(replace(SETTINGS, time_unit="ms", emit="changes" if i % 2 else "batch")) as memory:
            found: list[tuple[int, tuple[int | None, int]]] = []
            while damage.made < wanted * (i + 1) // rounds:
                # fetches of few records and of many are read in different ways
                size = 2 * (1 + damage.below(12 if damage.below(4) == 0 else 150))
                values = []
                for _ in range(0, size, 2):
                    a, b = (family.values[damage.below(len(family.values))] for _ in range(2))
                    values += [a, damage.of(a, b) if damage.made < wanted * (i + 1) // rounds else b]
                keys = [damage.some(damage.below(9)) if damage.below(3) else None for _ in values]
                headers: list[Headers] = [[("h", damage.some(3))] if damage.below(5) == 0 else [] for _ in values]
                decoded = await memory.decoder.decode(_chunk(values))
                seen += agree(opinion, values, decoded)
                found += _visits(decoded, len(inputs))
                inputs += zip(keys, values, headers, strict=True)
                await memory.feed(memory.names.source, keys, values, headers if any(headers) else None)
        counted = {offset for offset, _ in found}
        kept(memory.dead_letters, inputs, [n for n in range(len(inputs)) if n not in counted])
        counts = memory.metrics
        assert counts["events"] == len(inputs)
        assert counts["visits"] + counts["rejected"] == len(inputs)
        assert counts["detached_slices"] == counts["repeated"] == 0
        rules = recounted(memory, [visit for _, visit in found])
        applied += len(found) - rules.late
    assert damage.made == wanted
    assert seen["read"] > wanted  # the undamaged ones and more
    assert applied > wanted // 10
    assert {"bad-magic", "unknown-schema", "truncated"} < set(seen)
    assert seen["laxer"] < wanted // 5


def _chunk(values: Sequence[bytes]) -> Any:
    from tests.support.golden_cases import chunk

    return chunk(list(values))


def _visits(found: DecodedChunk, first: int) -> list[tuple[int, tuple[int | None, int]]]:
    columns = zip(
        found.row.tolist(), found.student.tolist(), found.null.tolist(), found.at.tolist(), strict=True
    )  # fmt: skip
    return [(first + row, (None if null else student, at)) for row, student, null, at in columns]


async def test_damage_elsewhere_in_a_record_changes_nothing() -> None:
    """Other text (also none that is UTF-8), another id, a longer way to write it, more after it: the same visits."""
    family = recorded("default")
    (number,) = family.schemas
    damage = Damage(99)
    visits: list[tuple[int | None, int]] = []
    async with family.memory() as memory:
        while damage.made < MUTANTS["avro elsewhere"]:
            values = []
            for _ in range(500):
                student, at = damage.below(40), 1_561_975_200_000 + 3 * len(visits) * 1_000 + damage.below(10**6)
                text = damage.some(damage.below(90))
                key = varint(damage.below(2**32) << damage.below(31))
                if damage.below(2):  # as long as a long may be
                    key = varint(damage.below(64))
                    key = bytes([key[0] | 0x80]) + b"\x80" * damage.below(9) + b"\0"
                value = b"\0" + number.to_bytes(4, "big") + key + varint(len(text)) + text
                value += varint(student) + varint(at) + damage.some(damage.below(6))
                values.append(value)
                visits.append((student, at))
                damage.made += 1
            await memory.feed(memory.names.source, [None] * len(values), values)
    assert damage.made == MUTANTS["avro elsewhere"]
    assert not memory.dead_letters
    rules = recounted(memory, visits)
    assert rules.late == 0
    assert sum(n for n, *_ in rules.totals.values()) == len(visits)


# -- frames


def visits_of(rng: np.random.Generator, n: int, first: int, *, headers: bool = False) -> Visits:
    """A minute's worth of events in order."""
    at = 1_561_975_200_000 + first * 1_000 + np.sort(rng.integers(0, MINUTE, n))
    null = rng.random(n) < 0.02
    student = np.where(null, 0, rng.integers(-2, 20, n))
    some: list[Headers] | None = [[("h", b"%d" % i), ("n", None)][: i % 3] for i in range(n)] if headers else None
    return Visits(student, null, at, first + np.arange(n), some)


def chain(rng: np.random.Generator, n: int) -> list[VisitBatch]:
    """The frames that one sender writes, each where the one before it ended."""
    visit_batches, at = [], 0
    for i in range(n):
        visits = visits_of(rng, int(rng.integers(0, 12)), at, headers=i % 5 == 0)
        end = at + len(visits) + int(rng.integers(0, 3))
        watermark = int(visits.at[-1]) if len(visits) else -1
        visit_batches.append(
            VisitBatch(1, [SourceRange(0, at if i else -1, end, watermark, bool(rng.integers(0, 2)), visits)])
        )
        at = end
    return visit_batches


def test_every_damaged_frame_is_refused() -> None:
    """Whatever happens to a frame's bytes, it is not taken for another frame."""
    damage = Damage(1)
    sound = [encode(visit_batch) for visit_batch in chain(np.random.default_rng(1), 60)]
    while damage.made < MUTANTS["frames"]:
        a, b = (sound[damage.below(len(sound))] for _ in range(2))
        changed = damage.of(a, b)
        if changed not in sound:  # spliced at its ends
            with pytest.raises(CorruptVisitBatch):
                decode(changed)


class Wire(TopologyTestDriver):
    """A pipeline whose frames are damaged on their way."""

    damage = Damage(3)

    async def send_visits(self, visit_batches: Sequence[Sequence[bytes]]) -> None:
        """Before each frame something that is none, and instead of some a damaged one."""
        for raw in visit_batches[0]:
            self._visit_batches += [self.damage.of(raw, raw[::-1]) for _ in range(3)]
            self._visit_batches.append(self.damage.of(raw) if self.lose else raw)

    lose = False


async def test_good_frames_around_damaged_ones_count() -> None:
    """A frame that cannot be read costs its own visits and no others; it is kept, and what is missing is said."""
    family = recorded("default")
    (number,) = family.schemas
    rng = np.random.default_rng(4)
    visits: list[tuple[int | None, int]] = []
    lost = 0
    decoder = LogDecoder(family, check(family.latest, "t"))
    async with Wire(SETTINGS, decoder) as memory:
        for i in range(323):
            n = int(rng.integers(1, 12))
            some = [(int(rng.integers(0, 20)), 1_561_975_200_000 + i * MINUTE + k * 1_000) for k in range(n)]
            # at its end a log that has lost a frame would say so only with the next one
            memory.lose = i % 9 == 4
            lost += memory.lose
            body = b"".join((varint(1), varint(1), b"e"))
            head = b"\0" + number.to_bytes(4, "big") + body
            await memory.feed(memory.names.source, [None] * n, [head + varint(s) + varint(at) for s, at in some])
            if not memory.lose:
                visits += some
    assert memory.damage.made == MUTANTS["frames among good ones"]
    assert lost > 25
    assert len(memory.dead_letters) == memory.damage.made
    assert {(dead_letter.topic, dead_letter.partition, dead_letter.reason) for dead_letter in memory.dead_letters} == {
        (memory.names.visits, 0, "bad-frame")
    }
    rules = recounted(memory, visits)
    assert rules.late == 0
    assert sum(n for n, *_ in rules.totals.values()) == len(visits)
    counts = memory.metrics
    assert counts["gaps"] == lost
    assert counts["detached_slices"] == 0


def test_after_a_lost_frame_each_source_may_step_over_its_gap_once() -> None:
    """What follows a hole is a fenced sender's last words, unless a frame was lost; that survives a restart."""

    def told(source: int, begin: int, end: int) -> VisitBatch:
        visits = Visits(np.array([5]), np.array([False]), np.array([end * MINUTE]), np.array([end - 1]))
        return VisitBatch(2, [SourceRange(source, begin, end, end * MINUTE, True, visits)])

    lost = VisitBatch(0, (), corrupt=True)
    start = positions.drop_applied(Position.start(2), [told(0, -1, 10), told(1, -1, 20)]).position
    assert positions.drop_applied(start, [told(0, 15, 18)]).detached == 1
    after = positions.unpack(positions.pack(positions.drop_applied(start, [lost]).position), 2)
    passed = positions.drop_applied(after, [told(0, 15, 18), told(0, 19, 21), told(1, 20, 22), told(1, 25, 26)])
    assert passed.gaps == [Gap(0, 10, 15)]
    assert passed.detached == 2
    assert passed.position.offsets.tolist() == [18, 22]
    assert not passed.position.after_corrupt.any()


# -- state


def test_every_damaged_state_record_is_refused() -> None:
    """Whatever happens to a student's bytes, they are not taken for another student's."""
    damage, rng = Damage(5), np.random.default_rng(5)
    u = 400
    owner = np.sort(rng.integers(0, u, 3 * u))
    start = rng.integers(0, 2**41, len(owner))
    totals = Totals(*(rng.integers(0, 2**k, u) for k in (12, 20, 9, 41)))
    sound = state.pack(totals, Sessions(owner, start, start + 900_000, rng.integers(1, 99, len(owner))))
    state.check(sound, state.VERSION, "a state record")
    while damage.made < MUTANTS["state"]:
        a, b = (sound[damage.below(u)] for _ in range(2))
        changed = damage.of(a, b)
        if changed not in sound:
            with pytest.raises(state.StateError, match="a state record"):
                state.check([a, changed, b], state.VERSION, "a state record")


def test_every_damaged_front_and_position_is_refused() -> None:
    """A front or position that is not what was written would lose or repeat what is behind it."""
    damage, rng = Damage(6), np.random.default_rng(6)
    wanted = MUTANTS["fronts and positions"]
    sound = []
    for s in range(1, 40):
        watermarks = Watermarks(rng.integers(0, 2**41, s), np.ones(s, np.bool_), int(rng.integers(0, 2**41)))
        sound.append(positions.pack(Position(rng.integers(0, 2**35, s), watermarks, rng.random(s) < 0.1, s)))
    offsets = [positions.pack_next_offset(int(n)) for n in rng.integers(0, 2**40, 40)]
    while damage.made < wanted:
        of = damage.made % 2
        a, b = ((sound, offsets)[of][damage.below(39)] for _ in range(2))
        changed = damage.of(a, b)
        if changed not in (sound, offsets)[of]:
            with pytest.raises(state.StateError, match=("a position record", "a next-offset record")[of]):
                positions.unpack_next_offset(changed) if of else positions.unpack(changed, 3)


# -- predictions


async def test_damaged_predictions_are_read_strictly_or_kept() -> None:
    """What json reads with columns of the right types gives KSQL's row; what json does not read is a dead letter.

    What stands between (text for a number, names in any case) is tests/test_predictions.py's; here it
    is held to itself: a blank in front of a value keeps it off the short way, and changes nothing.
    """
    damage = Damage(7)
    sound = [value for name in PUBLIC if load(name)["prediction"] for value in predictions(load(name)).values if value]
    sound += [b'{"USERID":%d,"PREDICTION":0.%d,"CREATED_DATE":%d}' % (i, 1 + i % 9, 10**12 + i) for i in range(900)]
    keys, values = [], []
    for _ in range(MUTANTS["predictions"]):
        a, b = (sound[damage.below(len(sound))] for _ in range(2))
        values += [b'{"USERID":7,"PREDICTION":0.9,"CREATED_DATE":%d}' % len(values), damage.of(a, b)]
        keys += [b"good", b"%d" % len(values)]
    assert damage.made == MUTANTS["predictions"]
    async with TopologyTestDriver(SETTINGS, LogDecoder(recorded("default"))) as memory:
        for i in range(0, len(values), 700):
            await memory.feed(memory.names.prediction, keys[i : i + 700], values[i : i + 700])
    async with TopologyTestDriver(SETTINGS, LogDecoder(recorded("default"))) as slow:
        await slow.feed(slow.names.prediction, keys[1::2], [b" " + value for value in values[1::2]])
    rows = memory.topics[memory.names.in_risk]
    assert [r[:4] for r in slow.topics[memory.names.in_risk]] == [r[:4] for r in rows if r.key != b"good"]
    dead_letters = memory.topics[memory.names.dead_letters]
    assert [(r.key, r.value) for r in dead_letters] == [
        (r.key, (r.value or b"")[1:]) for r in slow.topics[memory.names.dead_letters]
    ]
    assert sum(row.key == b"good" for row in rows) == MUTANTS["predictions"]
    found = {row.key: row for row in rows if row.key != b"good"}
    bad = {dead_letter.key: dead_letter for dead_letter in dead_letters}
    assert memory.metrics["rejected"] == len(bad) == len(dead_letters)
    judged: Counter[str] = Counter()
    for i in range(1, len(values), 2):
        key, value = keys[i], values[i]
        said = _plain_row(value)
        judged[said if isinstance(said, str) else "row"] += 1
        assert (key in found) + (key in bad) <= 1
        if key in bad:
            headers = dict(bad[key].headers)
            assert bad[key].value == value
            assert headers["dead-letter.topic"] == memory.names.prediction.encode()
            assert (headers["dead-letter.partition"], headers["dead-letter.offset"]) == (b"0", b"%d" % i)
            assert headers["dead-letter.reason"]
        if said == "bad":
            assert key in bad, value
        elif said == "out":
            assert key not in found, value
            assert key not in bad, value
        elif isinstance(said, tuple):
            assert json.loads(found[key].value or b"") == said[0]
            assert found[key].at == said[1]
    assert min(judged["bad"], judged["row"], judged["out"]) > 500
    assert judged["other"] < MUTANTS["predictions"] // 4


def _plain_row(value: bytes) -> str | tuple[dict[str, Any], int]:
    """A prediction whose columns have their own types: its row and time, "out" of risk, or "bad" JSON."""
    if not value.strip(b" \t\r\n"):
        return "out"
    try:
        fields = json.loads(value.decode(), parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError, RecursionError):
        return "bad"
    if not isinstance(fields, dict):
        return "out" if fields is None else "bad"
    if len({name.upper() for name in fields}) < len(fields):
        return "other"
    named = {name.upper(): field for name, field in fields.items()}
    user, risk, date = (named.get(name) for name in ("USERID", "PREDICTION", "CREATED_DATE"))
    if not all(v is None or (type(v) is int and abs(v) < 2**63) for v in (user, date)) or not (
        risk is None or (type(risk) is float and abs(risk) < 1e300)
    ):
        return "other"
    if (date or 0) < 0:
        return "bad"
    if risk is None or risk <= THRESHOLD:
        return "out"
    return {"USERID": user, "PREDICTION": risk, "CREATED_DATE": date}, date or 0


async def test_damaged_keys_are_forwarded_as_text() -> None:
    """A key is replaced where it is not UTF-8, and never costs its record."""
    damage = Damage(8)
    sound = ["1234", "Zoë", "naïve Straße", "日本語", "🎓 x", "\u07ff\u0800\uffff"]
    keys = [damage.of(sound[damage.below(6)].encode(), sound[damage.below(6)].encode()) for _ in range(MUTANTS["keys"])]
    value = b'{"USERID":7,"PREDICTION":0.9,"CREATED_DATE":5}'
    async with TopologyTestDriver(SETTINGS, LogDecoder(recorded("default"))) as memory:
        await memory.feed(memory.names.prediction, keys, [value] * len(keys))
    rows = memory.topics[memory.names.in_risk]
    assert [row.value for row in rows] == [value] * len(keys)
    for key, row in zip(keys, rows, strict=True):
        assert row.key is not None
        text = row.key.decode()
        assert row.key == text_key(row.key)  # it stays as it is
        if b"\xed" not in key:  # where Java and Python differ: encoded surrogates
            assert text == key.decode("utf-8", "replace")


def test_a_crc_is_what_a_frame_ends_with() -> None:
    """Any reader of Kafka's records can look whether a frame is whole."""
    raw = encode(chain(np.random.default_rng(9), 3)[2])
    assert int.from_bytes(raw[-4:], "little") == zlib.crc32(raw[:-4])
