"""The same job the usual Faust way, for comparison: `faust -A bench.plain_faust worker`.

What a careful user of Faust would write from its manual: a record a message, an agent over the source topic that
groups by student, RocksDB tables for the open sessions and the totals, `send` for every row, at least once. It writes
the rows of RISK_EMIT=changes under RISK_TOPIC_PREFIX, but for the subtractions in the roll-up.
Bounded as KSQL's store is: a session that ended a day before its student's latest is no longer kept.
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

#: silence that closes a session, and how long a closed one may still take a visit [ms]
GAP_MS, KEPT_MS = 15 * 60 * 1000, 24 * 3600 * 1000

settings = Settings.from_env(os.environ)
names = settings.topic_names


class RegistryAvro(codecs.Codec):
    """Avro in Confluent's wire format, each record by its writer's schema out of the registry."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._registry = SchemaRegistryClient(url)
        self._schemas: dict[int, Any] = {}

    def _loads(self, s: bytes) -> Any:
        schema_id = int.from_bytes(s[1:5], "big")
        if schema_id not in self._schemas:
            found = self._registry.get_by_id(schema_id)
            assert found is not None, f"no schema {schema_id}"
            self._schemas[schema_id] = fastavro.parse_schema(found.raw_schema)
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
    # a fresh group is joined in five seconds instead of a minute
    broker_session_timeout=10,
    broker_heartbeat_interval=3,
    broker_rebalance_timeout=6,
    # without it every row is a request of its own, at ten times the price
    producer_linger=0.01,
    topic_disable_leader=True,
)


@app.on_worker_init.connect
def quiet(*_: Any, **__: Any) -> None:
    """Faust leaves aiokafka's loggers open at any level; each row that is sent then costs records that nobody sees."""
    logging.getLogger("aiokafka").setLevel(logging.WARNING)


source = app.topic(names.source, key_serializer="raw", key_type=bytes, value_type=LogRow)
sessions_out = app.topic(names.sessions, key_serializer="raw", value_serializer="raw")
agg_out = app.topic(names.agg, key_serializer="raw", value_serializer="raw")
prediction_out = app.topic(names.prediction, key_serializer="raw", key_type=bytes, value_type=Prediction)
in_risk_out = app.topic(names.in_risk, key_serializer="raw", value_serializer="raw")

#: student -> [[start, end, count], …]; of no declared type, so JSON: a value_type breaks on RocksDB
open_sessions: Any = app.Table("sessions", default=list)
#: student -> [activities, seconds, sessions, latest end]
totals: Any = app.Table("totals", default=lambda: [0, 0, 0, 0])

found = load_model(settings.model)
assert found is not None, "the job is measured with scores"
model = found

#: events that are through, predictions looked at
counts = {"visits": 0, "predictions_read": 0}


def student_of(row: LogRow) -> bytes:
    """The key rows are grouped by."""
    return str(row.userid).encode()


@app.agent(source, name="sessionize")
async def sessionize(rows: faust.StreamT[LogRow]) -> None:
    """Sessions, totals and a score for every event."""
    async for row in rows.group_by(student_of, name="userid"):
        student = str(row.userid)
        merged, gone, kept = merge(open_sessions[student], row.timecreated)
        open_sessions[student] = [*kept, merged]
        for session in gone:
            # one that begins and ends with this event is overwritten
            if merged[0] != merged[1]:
                await sessions_out.send(key=session_key(student, session), value=None, timestamp=session[1] / 1000)
        await sessions_out.send(
            key=session_key(student, merged), value=session_row(row.userid, merged), timestamp=merged[1] / 1000
        )
        await rolled_up(row.userid, merged, gone)
        counts["visits"] += 1


async def rolled_up(userid: int, merged: list[int], gone: list[list[int]]) -> None:
    """Take the sessions that are gone out of the student's totals, put the new one in, and score them."""
    student = str(userid)
    activities, seconds, number, latest = totals[student]
    activities += merged[2] - sum(s[2] for s in gone)
    seconds += duration(merged) - sum(map(duration, gone))
    number += 1 - len(gone)
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
    """Forward what says that a student is in risk."""
    async for key, prediction in predictions.items():
        if prediction.PREDICTION > 0.7:
            value = compact(**prediction.asdict())
            await in_risk_out.send(key=key, value=value, timestamp=prediction.CREATED_DATE / 1000)
        counts["predictions_read"] += 1


def merge(sessions: list[list[int]], at: int) -> tuple[list[int], list[list[int]], list[list[int]]]:
    """The session an event makes, those it swallows, and those that stay as they are and are not too old."""
    gone = [s for s in sessions if s[0] - GAP_MS <= at <= s[1] + GAP_MS]
    merged = [min([at, *(s[0] for s in gone)]), max([at, *(s[1] for s in gone)]), 1 + sum(s[2] for s in gone)]
    latest = max([merged[1], *(s[1] for s in sessions)])
    return merged, gone, [s for s in sessions if s not in gone and s[1] >= latest - KEPT_MS]


def duration(session: list[int]) -> int:
    """Length of a session [s]."""
    return (session[1] - session[0]) // 1000


def session_key(student: str, session: list[int]) -> bytes:
    """Kafka Streams' key of a session."""
    return student.encode() + struct.pack(">qq", session[1], session[0])


def session_row(userid: int, session: list[int]) -> bytes:
    """The value of a session's row."""
    start, end, count = session
    return compact(USERID=userid, ACTIVITIES=count, START_DATE=start, END_DATE=end, DURATION=duration(session))


def compact(**columns: object) -> bytes:
    """JSON as KSQL writes it."""
    return json.dumps(columns, separators=(",", ":")).encode()


@app.page("/stats", name="bench-stats")
async def stats(web: Any, request: Any) -> Any:
    """How far it is; in the words of the app's own page, as far as bench.job asks."""
    ready = app.tables.actives_ready and not app.rebalancing and not app.in_recovery
    return web.json({"problem": None if ready else "starting", "counts": counts})
