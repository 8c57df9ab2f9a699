"""What KSQL 5.3 wrote, byte for byte, from every recorded case; and that the comparison can fail."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from app.errors import ConfigError
from tools.parity import cases
from tools.parity import recorded as parity

GOLDEN = Path(__file__).parent / "golden"
PUBLIC = sorted((GOLDEN / "public").iterdir())
EXCEPTIONS = parity.load_exceptions(GOLDEN / "differences.json")
#: rows that somebody else writes into the sessions topic are not rolled up: a difference on purpose
FOREIGN = "p37_sessions_topic_foreign"


@pytest.mark.parametrize("path", PUBLIC, ids=lambda p: p.name.partition(".")[0])
async def test_a_recorded_case_comes_out_as_ksql_wrote_it(path):
    """Every key, value, timestamp, header count and cause, in order; and the same tables in batch mode."""
    case = cases.load(path)
    if case.name == FOREIGN:
        assert case.foreign_sessions
        return
    outcome = await parity.compare(case, EXCEPTIONS)
    assert outcome.differences == []


def test_there_are_as_many_cases_as_were_recorded():
    """A copy that lost files would pass silently."""
    assert len(PUBLIC) == 55
    assert len(EXCEPTIONS) == 30


async def test_a_row_that_differs_is_reported():
    """The comparison can fail: one changed value, one missing row, one row too many."""
    case = cases.load(GOLDEN / "public" / "p01_seed_rows.json")
    topic = "MOODLE_LOGS_PREDICTION_AGG"
    rows = case.expected[topic]
    changed = [dataclasses.replace(rows[0], value=b"{}"), *rows[1:]]
    for wrong in (changed, rows[:-1], [*rows, rows[-1]]):
        outcome = await parity.compare(dataclasses.replace(case, expected={**case.expected, topic: wrong}))
        assert any(topic in line for line in outcome.differences)


async def test_a_wrong_timestamp_header_count_or_cause_is_reported():
    """Everything the contract names is compared."""
    case = cases.load(GOLDEN / "public" / "p36_headers_and_keys.json")
    topic = "MOODLE_LOGS_SESSIONS_PER_15MINS"
    first, *rest = case.expected[topic]
    for change in ({"at": first.at + 1}, {"headers": 0}, {"source": 2}, {"key": b"x"}):
        wrong = [dataclasses.replace(first, **change), *rest]
        outcome = await parity.compare(dataclasses.replace(case, expected={**case.expected, topic: wrong}))
        assert any(topic in line for line in outcome.differences)


REFUSED = {
    "err_envelope": "ExtractNewRecordState",
    "err_no_id": "column id",
    "err_no_timecreated": "column timecreated",
    "err_timecreated_int": "column timecreated",
    "err_userid_string": "column userid",
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_ksql_refuses_at_create_stream_is_a_clear_error(name):
    """One line that names the column and says what to change (a string userid is the app's own refusal)."""
    case = cases.load(GOLDEN / "errors" / f"{name}.json")
    with pytest.raises(ConfigError, match=REFUSED[name]) as caught:
        case.declared()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [p for p in sorted((GOLDEN / "errors").iterdir()) if p.stem not in REFUSED and "sessions" not in p.stem],
    ids=lambda p: p.stem,
)
async def test_schemas_that_ksql_takes_work_and_poison_records_are_skipped(path):
    """err_*: where KSQL lived the rows are its rows; where it died, its rows up to then come first."""
    case = cases.load(path)
    if case.error is None:
        assert (await parity.compare(case)).differences == []
        return
    got = await parity.run(case, "changes", 1)
    for topic, rows in case.expected.items():
        assert got[topic][: len(rows)] == rows


async def test_what_follows_a_poison_record_counts():
    """KSQL's query dies of timecreated = Long.MAX; here the next record comes out."""
    got = await parity.run(cases.load(GOLDEN / "errors" / "err_maxts.json"), "changes", 1)
    assert [row.source for row in got["MOODLE_LOGS_SESSIONS_PER_15MINS"]] == [1]


def test_a_file_that_is_no_case_is_named(tmp_path):
    """A wrong file is one line, not a traceback."""
    path = tmp_path / "case.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match="no recorded case"):
        cases.load(path)
