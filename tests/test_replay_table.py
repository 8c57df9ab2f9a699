"""CSV files: columns in any order and case, extra columns; errors name the line and the column."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from tools.replay.csv_file import CsvError, check_unit, looks_like_seconds, read
from tools.replay.log_rows import ALL_COLUMNS, COLUMNS

HEAD = "id,eventname,userid,timecreated\n"


def file(tmp_path: Path, text: str | bytes, name: str = "log.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_columns_may_have_any_order_and_case_and_others_are_ignored(tmp_path: Path) -> None:
    text = "TimeCreated;Ip;UserId;ID;EventName\r\n1561975200000;::1;2;7;\\core\\event\\course_viewed\r\n"
    rows, ignored = read(file(tmp_path, text))
    assert (rows.id.tolist(), rows.userid.tolist(), rows.at.tolist()) == ([7], [2], [1_561_975_200_000])
    assert rows.names == ("\\core\\event\\course_viewed",)
    assert ignored == ["Ip"]
    assert rows.nulls == {}


def test_gzip_file_is_read(tmp_path: Path) -> None:
    text = (HEAD + '1,"a, b",2,3\n').encode()
    plain, _ = read(file(tmp_path, text))
    compressed, _ = read(file(tmp_path, gzip.compress(text), "log.csv.gz"))
    assert plain.names == compressed.names == ("a, b",)


def test_rows_are_sorted_by_id(tmp_path: Path) -> None:
    rows, _ = read(file(tmp_path, HEAD + "3,c,30,300\n1,a,10,100\n2,b,20,200\n"))
    assert rows.id.tolist() == [1, 2, 3]
    assert rows.userid.tolist() == [10, 20, 30]
    assert [rows.names[i] for i in rows.event] == ["a", "b", "c"]


@pytest.mark.parametrize("null", ["", "NULL", "\\N"])
def test_empty_cells_are_nulls(tmp_path: Path, null: str) -> None:
    rows, _ = read(file(tmp_path, HEAD + f"1,a,{null},100\n2,{null},5,{null}\n"))
    assert {name: mask.tolist() for name, mask in rows.nulls.items()} == {
        "eventname": [False, True],
        "userid": [True, False],
        "timecreated": [False, True],
    }
    assert rows.userid.tolist() == [0, 5]


def test_seconds_are_converted_to_milliseconds(tmp_path: Path) -> None:
    rows, _ = read(file(tmp_path, HEAD + "1,a,2,1561975200\n"), unit="s")
    assert rows.at.tolist() == [1_561_975_200_000]


def test_seconds_read_as_milliseconds_are_detected(tmp_path: Path) -> None:
    path = file(tmp_path, HEAD + "1,a,2,1561975200\n")
    assert looks_like_seconds(read(path)[0])
    assert not looks_like_seconds(read(path, unit="s")[0])


def test_file_without_rows(tmp_path: Path) -> None:
    rows, _ = read(file(tmp_path, HEAD))
    assert len(rows) == len(rows.written) == 0
    assert not looks_like_seconds(rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "log.csv, line 1: 0 cells, and none is id, eventname, userid, timecreated"),
        ("7,127.0.0.1,5\n", "log.csv, line 1: 3 cells, and none is id, eventname, userid, timecreated"),
        ("id,userid,timecreated\n", "line 1: no column is named eventname; found id, userid, timecreated"),
        ("id,ID,eventname,userid,timecreated\n", "line 1: several columns are named id"),
        (HEAD + "1,a,2,3\n2,a,2\n", "line 3: 3 cells, not 4"),
        (HEAD + "1,a,2,3\n\n2,a,zwei,3\n", "line 4, column userid: is not a 64-bit integer"),
        (HEAD + "1,a,2,3.0\n", "line 2, column timecreated: is not a 64-bit integer"),
        (HEAD + "1,a,9223372036854775808,3\n", "column userid: is not a 64-bit"),
        (HEAD + "1_0,a,2,3\n", "column id: is not"),
        (HEAD + "1,a,2,٣\n", "column timecreated: is not"),
        (HEAD + ",a,2,3\n", "line 2, column id: is empty, but is the primary key"),
        (HEAD + "5,a,2,3\n6,a,2,3\n5,b,2,3\n", "line 4, column id: occurs twice in the file"),
        (HEAD + '1,"a,2,3\n', "unexpected end of data"),
        (HEAD.encode() + b"1,\xff,2,3\n", "line 2, column eventname: is not UTF-8"),
    ],
)
def test_error_names_the_line_and_the_column(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(CsvError) as raised:
        read(file(tmp_path, text))
    assert message in str(raised.value)


def test_no_message_has_a_cells_content(tmp_path: Path) -> None:
    """Columns in another order than expected put an IP address where a number should be."""
    for text in (HEAD + "1,a,10.0.0.7,3\n", "1,10.0.0.7,3\n", "1,a,2,3,10.0.0.7\n", HEAD + '1,a,2,3\n2,"10.0.0.7\n'):
        with pytest.raises(CsvError) as raised:
            read(file(tmp_path, text))
        assert "10.0.0.7" not in str(raised.value)


#: a row as Moodle writes it; PHP's serialization has more semicolons than the row has commas
MOODLE = (
    "7,\\core\\event\\course_viewed,core,viewed,course,\\N,\\N,r,2,31,50,4,12,4,\\N,0,"
    '"a:2:{' + "i:1;" * 20 + '}",1561975200000,web,10.0.0.7,\\N\n'
)


@pytest.mark.parametrize("text", [MOODLE, "7,\\core\\event\\course_viewed,12,1561975200000\n"])
def test_a_file_without_names_has_the_tables_columns(tmp_path: Path, text: str) -> None:
    """What `SELECT * … INTO OUTFILE` and `mysql -N` write: all 21 columns, or the four that are needed."""
    rows, ignored = read(file(tmp_path, text + text.replace("7,", "8,", 1)))
    assert rows.id.tolist() == [7, 8]
    assert rows.names == ("\\core\\event\\course_viewed",)
    assert (rows.userid.tolist(), rows.at.tolist()) == ([12, 12], [1_561_975_200_000] * 2)
    assert "eventname" not in ignored
    assert rows.columns == (ALL_COLUMNS if text == MOODLE else COLUMNS)


def test_the_columns_that_the_risk_needs_are_read_where_they_are(tmp_path: Path) -> None:
    """courseid to realuserid may be missing, one by one."""
    head = "id,eventname,userid,origin,relateduserid,timecreated,courseid\n"
    rows, ignored = read(file(tmp_path, head + "1,a,2,web,,3,5\n2,a,2,\\N,9,4,\n"))
    assert ignored == []
    assert rows.columns == ("id", "eventname", "userid", "courseid", "relateduserid", "timecreated", "origin")
    assert rows.more["relateduserid"].tolist() == [0, 9]
    assert rows.more["courseid"].tolist() == [5, 0]
    assert rows.nulls["relateduserid"].tolist() == [True, False]
    assert rows.origin is not None
    assert [rows.origin.names[i] for i in rows.origin.index] == ["web", "\\N"]
    assert rows.nulls["origin"].tolist() == rows.nulls["courseid"].tolist() == [False, True]
    with pytest.raises(CsvError, match="line 1: several columns are named courseid"):
        read(file(tmp_path, HEAD[:-1] + ",courseid,CourseID\n1,a,2,3,4,5\n"))


def test_other_columns_may_hold_anything(tmp_path: Path) -> None:
    """Cells above 128 kB, and bytes that are not UTF-8, do not matter in a column that nobody reads."""
    rows, _ = read(file(tmp_path, HEAD.encode()[:-1] + b",other\n1,a,2,3,\xff" + b"x" * 200_000 + b"\n4,b,5,6,y\n"))
    assert rows.id.tolist() == [1, 4]


def test_utf_16_is_recognised_by_its_byte_order_mark(tmp_path: Path) -> None:
    """As spreadsheets write it."""
    rows, _ = read(file(tmp_path, (HEAD + "1,ä,2,3\n").encode("utf-16")))
    assert rows.names == ("ä",)


@pytest.mark.parametrize(
    ("at", "unit", "message"),
    [
        (1_561_975_200, "ms", "set --file-unit s"),
        (1_561_975_200_000, "s", "set --file-unit ms"),
        (1_561_975_200_000_000, "ms", "convert the file to ms"),
        (1_561_975_200_000, "ms", None),
        (1_561_975_200, "s", None),
        (0, "ms", None),
    ],
)
def test_the_unit_of_a_file_must_make_sense(tmp_path: Path, at: int, unit: str, message: str | None) -> None:
    """Times that no Moodle has are those of another unit: nothing is written, and the setting is named."""
    path = file(tmp_path, HEAD + f"1,a,2,{at}\n2,a,2,0\n")
    rows, _ = read(path, unit=unit)
    if message is None:
        check_unit(path, rows, unit)
        return
    with pytest.raises(CsvError, match=message):
        check_unit(path, rows, unit)


def test_line_breaks_inside_cells_count_as_lines(tmp_path: Path) -> None:
    with pytest.raises(CsvError, match="line 5, column userid"):
        read(file(tmp_path, HEAD + '1,"a\nb\n",2,3\n2,a,x,3\n'))


def test_seconds_that_overflow_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CsvError, match="line 2, column timecreated: does not fit 64 bits"):
        read(file(tmp_path, HEAD + "1,a,2,9300000000000000\n"), unit="s")


def test_truncated_gzip_file_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress((HEAD + "1,a,2,3\n" * 100).encode())
    for part in (whole[:-20], b"id,eventname"):
        with pytest.raises(CsvError, match="not a complete gzip file"):
            read(file(tmp_path, part, "log.csv.gz"))


def test_time_of_writing_never_decreases(tmp_path: Path) -> None:
    """A row without a time gets that of the row before; the first rows get the first known time."""
    rows, _ = read(file(tmp_path, HEAD + "1,a,1,\n2,a,1,50\n3,a,1,40\n4,a,1,\n5,a,1,60\n"))
    assert rows.written.tolist() == [50, 50, 50, 50, 60]
    assert np.array_equal(rows.take(slice(1, 3)).written, [50, 50])
