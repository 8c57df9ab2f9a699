"""The app writes what KSQL 5.3 wrote in every recorded case, byte for byte, and the comparison can fail."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import ConfigError
from tools.parity import cases, recorded

GOLDEN = Path(__file__).parent / "golden"
PUBLIC = sorted((GOLDEN / "public").iterdir())
KNOWN_DIFFERENCES = recorded.load_known_differences(GOLDEN / "differences.json")
#: the app does not roll up rows that others write to the sessions topic: a difference on purpose
FOREIGN = "p37_sessions_topic_foreign"


@pytest.mark.parametrize("path", PUBLIC, ids=lambda p: p.name.partition(".")[0])
async def test_output_of_recorded_case_equals_ksql(path):
    """Every key, value, timestamp, header count and causing input, in order; the same tables in batch mode."""
    case = cases.load(path)
    if case.name == FOREIGN:
        assert case.foreign_sessions
        return
    result = await recorded.compare(case, KNOWN_DIFFERENCES)
    assert result.differences == []


def test_no_recorded_case_is_missing():
    """A copy that has lost files would pass silently."""
    assert len(PUBLIC) == 55
    assert len(KNOWN_DIFFERENCES) == 30


async def test_row_difference_is_reported():
    """A changed value, a missing row, and an extra row."""
    case = cases.load(GOLDEN / "public" / "p01_seed_rows.json")
    topic = "MOODLE_LOGS_PREDICTION_AGG"
    rows = case.expected[topic]
    changed = [dataclasses.replace(rows[0], value=b"{}"), *rows[1:]]
    for wrong in (changed, rows[:-1], [*rows, rows[-1]]):
        result = await recorded.compare(dataclasses.replace(case, expected={**case.expected, topic: wrong}))
        assert any(topic in line for line in result.differences)


async def test_difference_in_timestamp_header_count_source_or_key_is_reported():
    """Everything in the contract is compared."""
    case = cases.load(GOLDEN / "public" / "p36_headers_and_keys.json")
    topic = "MOODLE_LOGS_SESSIONS_PER_15MINS"
    first, *rest = case.expected[topic]
    for change in ({"timestamp": first.timestamp + 1}, {"header_count": 0}, {"source": 2}, {"key": b"x"}):
        wrong = [dataclasses.replace(first, **change), *rest]
        result = await recorded.compare(dataclasses.replace(case, expected={**case.expected, topic: wrong}))
        assert any(topic in line for line in result.differences)


REFUSED = {
    "err_envelope": "ExtractNewRecordState",
    "err_no_id": "column id",
    "err_no_timecreated": "column timecreated",
    "err_timecreated_int": "column timecreated",
    "err_userid_string": "column userid",
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_schema_refused_at_create_stream_is_a_one_line_error(name):
    """The line names the column and what to change. A userid of type string is refused by the app only."""
    case = cases.load(GOLDEN / "errors" / f"{name}.json")
    with pytest.raises(ConfigError, match=REFUSED[name]) as caught:
        case.declared()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [p for p in sorted((GOLDEN / "errors").iterdir()) if p.stem not in REFUSED and "sessions" not in p.stem],
    ids=lambda p: p.stem,
)
async def test_schema_that_ksql_accepts_works_and_poison_records_are_skipped(path):
    """err_*: all of KSQL's rows if its query survived; else first its rows up to the failure."""
    case = cases.load(path)
    if case.error is None:
        assert (await recorded.compare(case)).differences == []
        return
    actual = await recorded.run(case, "changes", 1)
    for topic, rows in case.expected.items():
        assert actual[topic][: len(rows)] == rows


async def test_records_after_a_poison_record_are_processed():
    """timecreated = Long.MAX kills KSQL's query; the app processes the next record."""
    actual = await recorded.run(cases.load(GOLDEN / "errors" / "err_maxts.json"), "changes", 1)
    assert [row.source for row in actual["MOODLE_LOGS_SESSIONS_PER_15MINS"]] == [1]


def test_invalid_case_file_is_a_config_error(tmp_path):
    """The error is one line instead of a traceback."""
    path = tmp_path / "case.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match="not a recorded case"):
        cases.load(path)


def test_the_command_prints_results_and_no_warnings_about_the_cases_invalid_records():
    """The cases contain invalid records on purpose; a line for each would bury the results."""
    paths = [str(GOLDEN / "public" / f"{name}.json") for name in ("p22_undecodable", "p37_sessions_topic_foreign")]
    process = subprocess.run(
        [sys.executable, "-m", "faust", "-A", "app", "parity", *paths],
        cwd=GOLDEN.parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 1
    assert process.stdout.splitlines()[0].startswith("equal    p22_undecodable")
    assert process.stdout.splitlines()[-1].startswith("1 of 2 cases equal")
    assert process.stderr == ""
