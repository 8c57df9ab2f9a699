"""The same job in plain Faust, for comparison: `faust -A bench.plain_faust worker`.

Written as Faust's manual suggests: one message per record, an agent over the source topic that groups by student,
RocksDB tables for the open sessions and the totals, `send` for every row, at least once. It writes the rows of
RISK_EMIT=changes under RISK_TOPIC_PREFIX, except for the subtractions in the roll-up.
Its state is bounded like KSQL's store: a session that ended a day before its student's latest one is dropped.
"""

from __future__ import annotations

import io
import json
import logging
import os
import struct
from typing import Any

import fastavro
import faust
import numpy as np
from faust.serializers import codecs
from schema_registry.client import SchemaRegistryClient

from app.model_file import load_model
from app.settings import Settings

#: inactivity that closes a session, and how long a closed session is kept for late visits [ms]
GAP_MS, KEPT_MS = 15 * 60 * 1000, 24 * 3600 * 1000

settings = Settings.from_env(os.environ)
names = settings.topic_names


class RegistryAvro(codecs.Codec):
    """Avro in Confluent's wire format, decoded with the writer's schema from the registry."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._registry = SchemaRegistryClient(url)
        self._schemas: dict[int, Any] = {}

    def _loads(self, s: bytes) -> Any:
        schema_id = int.from_bytes(s[1:5], "big")
        if schema_id not in self._schemas:
            schema = self._registry.get_by_id(schema_id)
            assert schema is not None, f"no schema {schema_id}"
            self._schemas[schema_id] = fastavro.parse_schema(schema.raw_schema)
        return fastavro.schemaless_reader(io.BytesIO(s[5:]), self._schemas[schema_id], None)


codecs.register("log-avro", RegistryAvro(settings.schema_registry))


class LogRow(faust.Record, serializer="log-avro"):
    """A row of the log."""

    id: int
    eventname: str
    userid: int
    timecreated: int


class Prediction(faust.Record, serializer="json", include_metadata=False):
    """A value of MOODLE_LOGS_PREDICTION."""

    USERID: int
    PREDICTION: float
    CREATED_DATE: int


app = faust.App(
    settings.app_id,
    broker=f"kafka://{settings.broker}",
    store="rocksdb://",
    datadir=str(settings.datadir),
    topic_partitions=int(os.environ.get("BENCH_PARTITIONS", "1")),
    autodiscover=False,
    web_bind=settings.web_bind,
    web_host=settings.web_bind,
    web_port=settings.web_port,
    # join a new group in five seconds instead of a minute
    broker_session_timeout=10,
    broker_heartbeat_interval=3,
    broker_rebalance_timeout=6,
    # otherwise every row is a request of its own, at ten times the cost
    producer_linger=0.01,
    topic_disable_leader=True,
)


@app.on_worker_init.connect
def quiet(*_: Any, **__: Any) -> None:
    """Raise the level of aiokafka's loggers: Faust leaves it unset, and every sent row would create log records."""
    logging.getLogger("aiokafka").setLevel(logging.WARNING)


source = app.topic(names.source, key_serializer="raw", key_type=bytes, value_type=LogRow)
sessions_out = app.topic(names.sessions, key_serializer="raw", value_serializer="raw")
agg_out = app.topic(names.agg, key_serializer="raw", value_serializer="raw")
prediction_out = app.topic(names.prediction, key_serializer="raw", key_type=bytes, value_type=Prediction)
in_risk_out = app.topic(names.in_risk, key_serializer="raw", value_serializer="raw")

#: student -> [[start, end, count], …]; stored as JSON, since a value_type fails on RocksDB
open_sessions: Any = app.Table("sessions", default=list)
#: student -> [activities, seconds, sessions, latest end]
totals: Any = app.Table("totals", default=lambda: [0, 0, 0, 0])

_loaded = load_model(settings.model)
assert _loaded is not None, "the benchmark needs a model"
model = _loaded

#: processed events and predictions
counts = {"visits": 0, "predictions_read": 0}


def student_of(row: LogRow) -> bytes:
    """Return the key by which rows are grouped."""
    return str(row.userid).encode()


@app.agent(source, name="sessionize")
async def sessionize(rows: faust.StreamT[LogRow]) -> None:
    """Update sessions, totals and the prediction for every event."""
    async for row in rows.group_by(student_of, name="userid"):
        student = str(row.userid)
        merged, absorbed, kept = merge(open_sessions[student], row.timecreated)
        open_sessions[student] = [*kept, merged]
        for session in absorbed:
            # a session that starts and ends with this event has the same key as the merged one
            if merged[0] != merged[1]:
                await sessions_out.send(key=session_key(student, session), value=None, timestamp=session[1] / 1000)
        await sessions_out.send(
            key=session_key(student, merged), value=session_row(row.userid, merged), timestamp=merged[1] / 1000
        )
        await roll_up(row.userid, merged, absorbed)
        counts["visits"] += 1


async def roll_up(userid: int, merged: list[int], absorbed: list[list[int]]) -> None:
    """Replace the sessions `absorbed` by `merged` in the student's totals, and score them."""
    student = str(userid)
    activities, seconds, number, latest = totals[student]
    activities += merged[2] - sum(s[2] for s in absorbed)
    seconds += duration(merged) - sum(map(duration, absorbed))
    number += 1 - len(absorbed)
    latest = max(latest, merged[1])
    totals[student] = [activities, seconds, number, latest]
    mean = seconds // number
    agg = compact(USERID=userid, ACTIVITIES=activities, DURATION=mean, SESSIONS=number)
    await agg_out.send(key=student.encode(), value=agg, timestamp=latest / 1000)
    (risk,) = model.score(np.array([activities]), np.array([mean]), np.array([number]))
    prediction = Prediction(USERID=userid, PREDICTION=round(float(risk), 4), CREATED_DATE=latest)
    await prediction_out.send(key=student.encode(), value=prediction, timestamp=latest / 1000)


@app.agent(prediction_out, name="alert")
async def alert(predictions: faust.StreamT[Prediction]) -> None:
    """Forward predictions above the threshold."""
    async for key, prediction in predictions.items():
        if prediction.PREDICTION > 0.7:
            value = compact(**prediction.asdict())
            await in_risk_out.send(key=key, value=value, timestamp=prediction.CREATED_DATE / 1000)
        counts["predictions_read"] += 1


def merge(sessions: list[list[int]], at: int) -> tuple[list[int], list[list[int]], list[list[int]]]:
    """Add an event; return the resulting session, those merged into it, and the others that are not too old."""
    absorbed = [s for s in sessions if s[0] - GAP_MS <= at <= s[1] + GAP_MS]
    merged = [
        min([at, *(s[0] for s in absorbed)]),
        max([at, *(s[1] for s in absorbed)]),
        1 + sum(s[2] for s in absorbed),
    ]
    latest = max([merged[1], *(s[1] for s in sessions)])
    return merged, absorbed, [s for s in sessions if s not in absorbed and s[1] >= latest - KEPT_MS]


def duration(session: list[int]) -> int:
    """Return the length of a session [s]."""
    return (session[1] - session[0]) // 1000


def session_key(student: str, session: list[int]) -> bytes:
    """Return the windowed key of a session as Kafka Streams encodes it."""
    return student.encode() + struct.pack(">qq", session[1], session[0])


def session_row(userid: int, session: list[int]) -> bytes:
    """Return the value of a session's row."""
    start, end, count = session
    return compact(USERID=userid, ACTIVITIES=count, START_DATE=start, END_DATE=end, DURATION=duration(session))


def compact(**columns: object) -> bytes:
    """Encode columns as JSON like KSQL."""
    return json.dumps(columns, separators=(",", ":")).encode()


@app.page("/stats", name="bench-stats")
async def stats(web: Any, request: Any) -> Any:
    """Report progress like the app's own page, with the fields that bench.job reads."""
    ready = app.tables.actives_ready and not app.rebalancing and not app.in_recovery
    return web.json({"problem": None if ready else "starting", "counts": counts})
