"""Predictions as KSQL reads and writes them in JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec import output_rows
from codec.record_batch import ROW_WISE_MAX, OutputColumns
from models.binary_column import BinaryColumn
from models.chunk import Chunk
from models.own_predictions import ROW, match
from models.predictions import (
    MAX_ID_BYTES,
    THRESHOLD,
    InRisk,
    InvalidPrediction,
    Prediction,
    Skip,
    in_risk,
    is_id,
    parse,
    text_key,
)
from tests.support.effort import examples
from tests.support.golden_cases import PUBLIC, exempt, expected, load, predictions

IN_RISK = "MOODLE_LOGS_PREDICTION_IN_RISK"
CASES = [name for name in PUBLIC if load(name)["prediction"]]
UTF8 = (Path(__file__).parent / "golden" / "jdk17_utf8.txt").read_text().splitlines()
longs = st.none() | st.integers(-(2**63), 2**63 - 1)


def rows_of(result: InRisk) -> list[tuple[int, bytes | None, bytes, int]]:
    return list(zip(result.index, result.keys, result.values, result.at, strict=True))


def reason(value: bytes) -> str:
    with pytest.raises(InvalidPrediction) as caught:
        parse(value)
    return caught.value.reason


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    """Every recorded prediction gives KSQL's row or none, except for the listed differences."""
    case = load(name)
    chunk = predictions(case)
    exempted = {index for case_name, index in exempt(IN_RISK) if case_name == name}
    rows = rows_of(in_risk(chunk.keys, chunk.values))
    assert [row for row in rows if row[0] not in exempted] == [
        row for row in expected(case, IN_RISK) if row[0] not in exempted
    ]


def test_number_of_golden_predictions_and_differences() -> None:
    assert sum(len(load(name)["prediction"]) for name in CASES) == 1737
    assert len(exempt(IN_RISK)) == 30


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("pfuzz")])
def test_skips_as_many_as_kafka_streams_counted(name: str) -> None:
    case = load(name)
    chunk = predictions(case)
    counted = [n for metric, n in case["oracle_metrics"].items() if metric.startswith(f"{IN_RISK}:skipped")]
    assert len(in_risk(chunk.keys, chunk.values).skips) == sum(counted)


def test_in_risk_reports_skipped_records() -> None:
    good = b'{"userid":5,"prediction":0.90,"created_date":7}'
    result = in_risk([b"a", None, b"c", b"d"], [b"{", good, None, b'{"prediction":0.7}'])
    assert result.skips == [Skip(0, "not JSON")]
    assert rows_of(result) == [(1, None, b'{"USERID":5,"PREDICTION":0.9,"CREATED_DATE":7}', 7)]


OWN = b'{"USERID":5,"PREDICTION":0.9,"CREATED_DATE":7}'


@pytest.mark.parametrize("columns", [False, True], ids=["row-wise", "columns"])
@pytest.mark.parametrize("value", [OWN, b'{"userid":5,"prediction":0.90,"created_date":7}'], ids=["own", "other"])
def test_a_key_that_is_too_long_for_an_id_is_skipped(columns: bool, value: bytes) -> None:
    """Elasticsearch counts bytes of UTF-8, and refuses the whole request; the sinks read keys as ISO-8859-1."""
    keys = [b"k" * MAX_ID_BYTES, b"k" * (MAX_ID_BYTES + 1), "\u00e9".encode() * 128, b"\xff" * 100, b"", None]
    values: Sequence[bytes | None] = [value] * len(keys)
    result = in_risk(keys, BinaryColumn.of(values) if columns else values)
    # each \xff becomes three bytes, as in KSQL, and each of these two
    assert result.skips == [Skip(1, "key too long"), Skip(3, "key too long")]
    assert rows_of(result) == [(i, keys[i], OWN, 7) for i in (0, 2, 4, 5)]


def test_a_prediction_that_is_not_in_risk_is_not_skipped_for_its_key() -> None:
    assert in_risk([b"k" * 600], [b'{"prediction":0.5}']).skips == []


@given(st.binary(max_size=600))
def test_a_key_is_an_id_if_its_text_fits(key: bytes) -> None:
    assert is_id(key) == (len(key.decode("latin-1").encode()) <= MAX_ID_BYTES)


@pytest.mark.parametrize("value", [None, b"", b" \n\t\r ", b"null", b" null "])
def test_null_values(value: bytes | None) -> None:
    assert parse(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"[]", "not a JSON object"),
        (b"5", "not a JSON object"),
        (b"{}x", "not JSON"),
        (b'{"a":NaN}', "not JSON"),
        (b'{"a":-Infinity}', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8"),
        ('{"userid":1}'.encode("utf-16"), "not UTF-8"),
        (b"[" * 100_000, "JSON nested too deep"),
        (b'{"userid":true}', "userid is no BIGINT"),
        (b'{"userid":9223372036854775808}', "userid is no BIGINT"),
        (b'{"userid":1e19}', "userid is no BIGINT"),
        (b'{"userid":"1.5"}', "userid is no BIGINT"),
        (b'{"userid":"' + "\u0665".encode() + b'"}', "userid is no BIGINT"),
        (b'{"userid":"1_0"}', "userid is no BIGINT"),
        (b'{"prediction":1' + b"0" * 5000 + b"}", "prediction is no DOUBLE"),
        (b'{"prediction":"1_0"}', "prediction is no DOUBLE"),
        (b'{"prediction":"inf"}', "prediction is no DOUBLE"),
        (b'{"prediction":"1' + b"1" * 100_000 + b'x"}', "prediction is no DOUBLE"),
        (b'{"prediction":[0.9]}', "prediction is no DOUBLE"),
        (b'{"created_date":-1}', "created_date is negative"),
        (b'{"created_date":"-1"}', "created_date is negative"),
    ],
)
def test_skipped(value: bytes, expected: str) -> None:
    assert reason(value) == expected


def test_huge_numbers_in_other_fields_are_ignored() -> None:
    value = b'{"x":%b,"y":1e999,"prediction":"' % (b"1" * 5000) + b"0" * 5000 + b'.8"}'
    assert parse(value) == Prediction(None, 0.8, None)


def test_leading_zeros_in_text_are_ignored() -> None:
    assert parse(b'{"userid":"-' + b"0" * 5000 + b'7"}') == Prediction(-7, None, None)


def test_created_date_is_truncated_before_its_sign_is_checked() -> None:
    """Half a millisecond before 1970 is 1970."""
    assert parse(b'{"created_date":-0.5}') == Prediction(None, None, 0)


def test_infinity_is_in_risk_and_quoted() -> None:
    assert in_risk([b"k"], [b'{"prediction":1e400}']).values == (
        b'{"USERID":null,"PREDICTION":"Infinity","CREATED_DATE":null}',
    )


@settings(deadline=None)
@given(longs, st.none() | st.floats(allow_nan=False), longs.filter(lambda date: date is None or date >= 0))
def test_row_round_trip(userid: int | None, risk: float | None, date: int | None) -> None:
    """`parse` reads every row except those with infinity, which is text."""
    written = Prediction(userid, risk, date)
    if risk is None or math.isfinite(risk):
        assert parse(written.row) == written
    assert list(json.loads(written.row)) == ["USERID", "PREDICTION", "CREATED_DATE"]
    assert b" " not in written.row


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_threshold_is_strict(risk: float) -> None:
    assert bool(in_risk([b""], [Prediction(1, risk, 2).row]).values) == (risk > THRESHOLD)


@settings(deadline=None)
@given(st.binary() | st.text().map(str.encode) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.dictionaries(st.sampled_from(["userid", "Prediction", "CREATED_DATE", "x"]), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_bytes_are_a_prediction_or_null_or_skipped(value: bytes) -> None:
    result = in_risk([value], [value])
    assert len(result.values) + len(result.skips) <= 1
    assert all(0 <= at < 2**63 for at in result.at)


def test_malformed_keys_are_replaced_as_in_java() -> None:
    """308 recorded byte strings, most of them not UTF-8."""
    recorded = [[bytes.fromhex(side.strip("-")) for side in line.split()] for line in UTF8]
    assert [text_key(key) for key, _ in recorded] == [text for _, text in recorded]


@pytest.mark.parametrize(
    ("key", "replaced"),
    [
        (b"\xed\xa0\x80", "\ufffd"),
        (b"\xed\xa0x", "\ufffdx"),
        (b"\xc0\x80", "\ufffd\ufffd"),
        (b"\xf0\x9f\x98", "\ufffd"),
    ],
)
def test_malformed_keys(key: bytes, replaced: str) -> None:
    assert text_key(key) == replaced.encode()


@settings(deadline=None)
@given(st.binary())
def test_text_key_is_idempotent(key: bytes) -> None:
    text = text_key(key)
    assert text is not None
    text.decode()
    assert text_key(text) == text


@settings(deadline=None)
@given(st.text().map(str.encode))
def test_valid_keys_do_not_change(key: bytes) -> None:
    assert text_key(key) == key


def test_a_null_key_stays_null() -> None:
    assert text_key(None) is None


@given(
    st.integers(-(2**60), 2**60),
    st.integers(0, 1_000_000).map(lambda n: f"0.{n:06}".rstrip("0") if n < 1_000_000 else "1.0")
    | st.floats().map(repr),
    st.integers(-5, 2**60),
)
def test_own_predictions_are_read_as_parse_reads_them(userid, text, date):
    """The regular expression for values written by this app gives the same result as parsing."""
    value = f'{{"USERID":{userid},"PREDICTION":{text},"CREATED_DATE":{date}}}'.encode()
    # the expression does not match a value with a blank before it
    assert in_risk([b"k"], [value]) == in_risk([b"k"], [b" " + value])


texts = st.integers(0, 1_000_000).map(lambda n: f"0.{n:06}".rstrip("0") if 0 < n < 1_000_000 else f"{n // 1_000_000}.0")
own_predictions = st.builds(
    lambda userid, text, date: f'{{"USERID":{userid},"PREDICTION":{text},"CREATED_DATE":{date}}}'.encode(),
    st.integers(0, 10**18 - 1) | st.integers(0, 12),
    texts | st.sampled_from(["0.0", "1.0", "0.7", "0.700001", "0.699999"]),
    st.integers(0, 10**18 - 1) | st.integers(0, 12),
)


def altered(value: bytes, pos: int, inserted: bytes, removed: int) -> bytes:
    """`value` with some bytes at a position replaced."""
    pos %= len(value) + 1
    return value[:pos] + inserted + value[pos + removed :]


@settings(deadline=None, max_examples=examples(250))
@given(
    st.lists(own_predictions, min_size=1, max_size=6),
    st.integers(0, 5),
    st.integers(0, 100),
    st.sampled_from([b"", b"0", b"9", b"-", b".", b",", b"}", b" ", b"\0", b"\xff", b"00", b'"'])
    | st.binary(max_size=12),
    st.integers(0, 20),
)
def test_columns_and_rows_agree_on_altered_values(values, which, pos, inserted, removed):
    """Values of which one is altered anywhere, read in columns and one by one."""
    values = [*values, altered(values[which % len(values)], pos, inserted, removed)]
    keys = [b"%d" % i for i in range(len(values))]
    columns, rows = in_risk(BinaryColumn.of(keys), BinaryColumn.of(values)), in_risk(keys, values)
    assert rows_of(columns) == rows_of(rows)
    assert list(columns.skips) == list(rows.skips)
    for value, matched in zip(values, match(BinaryColumn.of(values)).matched.tolist(), strict=True):
        assert matched == (ROW.fullmatch(value) is not None and value[10:11] != b"-")


def test_predictions_in_columns_are_written_as_one_by_one():
    """Of two fetches, the first partly forwarded before, with keys of several lengths; and each shared header."""
    header = (("model", b"x"),)
    alerts: dict[bool, list[tuple[Chunk, InRisk, int]]] = {True: [], False: []}
    for chunk, n in enumerate((700, 900)):
        keys = [b"%d" % (17 ** (i % 5) + chunk) for i in range(n)]
        values = [Prediction(i, (i % 10) / 10, i * chunk).row for i in range(n)]
        for as_columns, found in alerts.items():
            k, v = (BinaryColumn.of(keys), BinaryColumn.of(values)) if as_columns else (keys, values)
            offsets = list(range(n))
            fetched = Chunk("p", 0, offsets, k, v, 0, n, n, headers=[header] * n)
            found.append((fetched, in_risk(k, v), 100 if chunk == 0 else 0))
    repeated = {as_columns: [*found] * 4 for as_columns, found in alerts.items()}
    rows = {as_columns: output_rows.in_risk(found) for as_columns, found in repeated.items()}
    assert isinstance(rows[True], OutputColumns)
    assert [(at, k, v, tuple(h)) for at, k, v, h in rows[True]] == [(at, k, v, tuple(h)) for at, k, v, h in rows[False]]
    assert len(rows[True]) > ROW_WISE_MAX
    fetched, found, _ = alerts[True][0]
    other = replace(fetched, headers=[*[header] * 698, (), ()])
    mixed = output_rows.in_risk([(other, found, 0), *repeated[True]])
    assert [tuple(headers) for *_, headers in mixed].count(()) == 2


def test_keys_in_a_column_become_text():
    value = Prediction(1, 0.9, 2).row
    keys = [b"plain", b"\xff", "\u00e9".encode()]
    result = in_risk(BinaryColumn.of(keys), BinaryColumn.of([value] * 3))
    assert result.keys == [text_key(key) for key in keys]
    null_first = BinaryColumn(BinaryColumn.of(keys).buffer, np.array([0, 5]), np.array([-1, 6]))
    assert in_risk(null_first, BinaryColumn.of([value] * 2)).keys == [None, "\ufffd".encode()]
