"""Recorded KSQL cases through a real worker on a real Kafka with RISK_EMIT=changes: the output bytes are equal."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

import stack
from app.kafka import topics
from codec.record import Row
from tests.support.cluster import RETAINED, TIMEOUT_S, Deployment, row
from tools.parity import cases
from tools.parity.recorded import load_known_differences

pytestmark = pytest.mark.broker

GOLDEN = Path(__file__).parent / "golden"
EXCEPTIONS = load_known_differences(GOLDEN / "differences.json")
#: one case of each kind: all rules of sessions, input and predictions, and long random mixtures
CASES = [
    "p04_gap_boundary", "p09_bridge_multi_event", "p14_expired_session_not_seen", "p16_null_userid", "p21_tombstones",
    "p22_undecodable", "p28_schema_type_changes", "p36_headers_and_keys", "p41_prediction_coercions",
    "p44_prediction_bad_values", "p45_prediction_keys", "pfuzz_104", "pfuzz_201_segments",
]  # fmt: skip
#: number of workers that run concurrently: starting a worker is mostly waiting
CONCURRENCY = 3


def path_of(name: str) -> Path:
    return next(p for p in (GOLDEN / "public").iterdir() if p.name.partition(".")[0] == name)


@pytest.fixture(scope="module")
def results(cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest):
    """For each selected case, what a worker wrote and what KSQL wrote."""
    names = [i.callspec.params["name"] for i in request.session.items if i.module is request.module]
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        futures: dict[str, Future] = {}
        for name in names:
            futures[name] = pool.submit(play, cluster, tmp_path_factory.mktemp(name), cases.load(path_of(name)))
        yield futures


def play(cluster: stack.Environment, directory: Path, case: cases.Case) -> list[tuple[str, list, list]]:
    """Run a case through a worker. Return, for each topic, its name, the worker's rows and KSQL's."""
    deployment = Deployment.new(cluster, directory, RISK_EMIT="changes", RISK_MODEL="none")
    names = deployment.names
    deployment.declare(topics.Topic(names.source, 1, RETAINED))
    ids = {i: deployment.register(schema) for i, schema in case.schemas.items() if schema == case.latest}
    predictions = [
        (i, p)
        for i, p in enumerate(case.predictions)
        if (case.name, "MOODLE_LOGS_PREDICTION_IN_RISK", i) not in EXCEPTIONS
    ]
    with deployment.worker() as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=TIMEOUT_S)
        # other schemas under another subject: this registry would reject them as incompatible, KSQL's did not
        ids |= {i: deployment.register(s, f"{names.source}-{i}") for i, s in case.schemas.items() if i not in ids}
        deployment.send(names.source, [row_of(record, ids) for record in case.source])
        deployment.send(names.prediction, [row_of(record, {}) for _, record in predictions])
        worker.wait(lambda s: s["counts"].get("predictions_read", 0) >= len(predictions), timeout=TIMEOUT_S)
        worker.wait_idle(timeout=TIMEOUT_S, events=len(case.source))
    outputs = deployment.outputs()
    sent = {i for i, _ in predictions}
    compared = []
    for topic, recorded in case.expected.items():
        actual = [(r.key, r.value, r.at, len(r.headers)) for r in outputs[topic]]
        expected = [w for w in recorded if not topic.endswith("IN_RISK") or w.source in sent]
        compared.append((topic, actual, [(w.key, w.value, w.timestamp, w.header_count) for w in expected]))
    return compared


def row_of(record: cases.InputRecord, ids: dict[int, int]) -> Row:
    """Return the record with its schema id replaced by this registry's id, if it has one of the case's schemas."""
    value = record.value
    if value is not None and value[:1] == b"\0" and len(value) >= 5:
        schema_id = ids.get(int.from_bytes(value[1:5], "big"))
        value = value if schema_id is None else b"\0" + schema_id.to_bytes(4, "big") + value[5:]
    # a record with neither key nor value cannot be sent in a batch; the key has no meaning here
    key = b"" if record.key is None and value is None else record.key
    return row(value, key, record.headers)


@pytest.mark.parametrize("name", CASES)
def test_a_worker_writes_what_ksql_wrote(results, name):
    """Every key, value, timestamp and number of headers, in order."""
    compared = results[name].result()
    assert len(compared) == 3
    for topic, actual, expected in compared:
        if topic.endswith("_AGG") and len(actual) < len(expected):
            # event times far apart roll segments, and the broker compacts those at once: the remaining rows must be
            # a subsequence of KSQL's, with the last row of every key
            remaining = iter(expected)
            assert all(row in remaining for row in actual), topic
            actual, expected = ({row[0]: row for row in rows} for rows in (actual, expected))
        assert actual == expected, topic
