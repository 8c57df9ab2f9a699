"""Recorded KSQL cases through a real worker on a real Kafka, in `changes` mode: the same bytes come out."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

import stack
from app.kafka import topics
from codec.record import Row
from tests.support import cluster as live
from tests.support.cluster import Place
from tools.parity import cases
from tools.parity import recorded as parity

pytestmark = pytest.mark.broker

GOLDEN = Path(__file__).parent / "golden"
EXCEPTIONS = parity.load_known_differences(GOLDEN / "differences.json")
#: one of each kind: every rule of sessions, input and predictions, and long random mixtures
CHOSEN = [
    "p04_gap_boundary", "p09_bridge_multi_event", "p14_expired_session_not_seen", "p16_null_userid", "p21_tombstones",
    "p22_undecodable", "p28_schema_type_changes", "p36_headers_and_keys", "p41_prediction_coercions",
    "p44_prediction_bad_values", "p45_prediction_keys", "pfuzz_104", "pfuzz_201_segments",
]  # fmt: skip
#: workers at a time: most of a worker's start is waiting
AT_ONCE = 3


def path_of(name: str) -> Path:
    return next(p for p in (GOLDEN / "public").iterdir() if p.name.partition(".")[0] == name)


@pytest.fixture(scope="module")
def played(cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest):
    """What each chosen case makes a worker write, and what KSQL wrote."""
    names = [i.callspec.params["name"] for i in request.session.items if i.module is request.module]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures: dict[str, Future] = {}
        for name in names:
            futures[name] = pool.submit(play, cluster, tmp_path_factory.mktemp(name), cases.load(path_of(name)))
        yield futures


def play(cluster: stack.Environment, directory: Path, case: cases.Case) -> list[tuple[str, list, list]]:
    """Run one case through a worker of its own; per topic what came out and what KSQL wrote."""
    place = Place.new(cluster, directory, RISK_EMIT="changes", RISK_MODEL="none")
    place.declare(topics.Topic(place.names.source, 1, live.KEPT))
    ids = {i: place.register(schema) for i, schema in case.schemas.items() if schema == case.latest}
    predictions = [
        (i, p)
        for i, p in enumerate(case.predictions)
        if (case.name, "MOODLE_LOGS_PREDICTION_IN_RISK", i) not in EXCEPTIONS
    ]
    with place.worker() as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=live.PATIENCE_S)
        # the later ones come under another subject: this registry would refuse them, KSQL's did not
        others = {i: place.register(s, f"{place.names.source}-{i}") for i, s in case.schemas.items() if i not in ids}
        ids |= others
        place.send(place.names.source, [row_of(record, ids) for record in case.source])
        place.send(place.names.prediction, [row_of(record, {}) for _, record in predictions])
        worker.wait(lambda s: s["counts"].get("predictions_read", 0) >= len(predictions), timeout=live.PATIENCE_S)
        worker.wait_idle(timeout=live.PATIENCE_S, events=len(case.source))
    outputs = place.outputs()
    kept = {i for i, _ in predictions}
    compared = []
    for topic, wanted in case.expected.items():
        got = [(r.key, r.value, r.at, len(r.headers)) for r in outputs[topic]]
        mine = [w for w in wanted if not topic.endswith("IN_RISK") or w.source in kept]
        compared.append((topic, got, [(w.key, w.value, w.timestamp, w.header_count) for w in mine]))
    return compared


def row_of(record: cases.InputRecord, ids: dict[int, int]) -> Row:
    """The record with the schema id this registry gave, where it has one of the case's."""
    value = record.value
    if value is not None and value[:1] == b"\0" and len(value) >= 5:
        found = ids.get(int.from_bytes(value[1:5], "big"))
        value = value if found is None else b"\0" + found.to_bytes(4, "big") + value[5:]
    # a record without key and value cannot be sent in a batch: the key says nothing anyway
    key = b"" if record.key is None and value is None else record.key
    return live.row(value, key, record.headers)


@pytest.mark.parametrize("name", CHOSEN)
def test_a_worker_writes_what_ksql_wrote(played, name):
    """Every key, value, timestamp and number of headers, in order."""
    compared = played[name].result()
    assert len(compared) == 3
    for topic, got, wanted in compared:
        if topic.endswith("_AGG") and len(got) < len(wanted):
            # event times far apart roll segments, and the broker compacts those at once:
            # what is left must be rows of KSQL's in their order, with the last one of every key
            rest = iter(wanted)
            assert all(row in rest for row in got), topic
            got, wanted = ({row[0]: row for row in rows} for rows in (got, wanted))
        assert got == wanted, topic
