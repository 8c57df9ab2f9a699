"""Tables from CSV: any order, case and surplus of columns; a bad cell is named by line and column."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from tools.replay import csv_file as table
from tools.replay.csv_file import TableError

HEAD = "id,eventname,userid,timecreated\n"


def file(tmp_path: Path, text: str | bytes, name: str = "log.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_columns_in_any_order_and_case_others_left_out(tmp_path: Path) -> None:
    text = "TimeCreated;Origin;UserId;ID;EventName\r\n1561975200000;web;2;7;\\core\\event\\course_viewed\r\n"
    rows, ignored = table.read(file(tmp_path, text))
    assert (rows.id.tolist(), rows.userid.tolist(), rows.at.tolist()) == ([7], [2], [1_561_975_200_000])
    assert rows.names == ("\\core\\event\\course_viewed",)
    assert ignored == ["Origin"]
    assert rows.nulls == {}


def test_a_gzip_file_reads_the_same(tmp_path: Path) -> None:
    text = (HEAD + '1,"a, b",2,3\n').encode()
    plain, _ = table.read(file(tmp_path, text))
    packed, _ = table.read(file(tmp_path, gzip.compress(text), "log.csv.gz"))
    assert plain.names == packed.names == ("a, b",)


def test_rows_are_put_in_order_of_id(tmp_path: Path) -> None:
    rows, _ = table.read(file(tmp_path, HEAD + "3,c,30,300\n1,a,10,100\n2,b,20,200\n"))
    assert rows.id.tolist() == [1, 2, 3]
    assert rows.userid.tolist() == [10, 20, 30]
    assert [rows.names[i] for i in rows.event] == ["a", "b", "c"]


@pytest.mark.parametrize("null", ["", "NULL", "\\N"])
def test_empty_cells_are_nulls(tmp_path: Path, null: str) -> None:
    rows, _ = table.read(file(tmp_path, HEAD + f"1,a,{null},100\n2,{null},5,{null}\n"))
    assert {name: mask.tolist() for name, mask in rows.nulls.items()} == {
        "eventname": [False, True],
        "userid": [True, False],
        "timecreated": [False, True],
    }
    assert rows.userid.tolist() == [0, 5]


def test_seconds_become_milliseconds(tmp_path: Path) -> None:
    rows, _ = table.read(file(tmp_path, HEAD + "1,a,2,1561975200\n"), unit="s")
    assert rows.at.tolist() == [1_561_975_200_000]


def test_seconds_read_as_milliseconds_are_noticed(tmp_path: Path) -> None:
    path = file(tmp_path, HEAD + "1,a,2,1561975200\n")
    assert table.looks_like_seconds(table.read(path)[0])
    assert not table.looks_like_seconds(table.read(path, unit="s")[0])


def test_a_table_without_rows(tmp_path: Path) -> None:
    rows, _ = table.read(file(tmp_path, HEAD))
    assert len(rows) == len(rows.written) == 0
    assert not table.looks_like_seconds(rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "log.csv, line 1: no column is called id; found nothing"),
        ("id,userid,timecreated\n", "line 1: no column is called eventname; found id, userid, timecreated"),
        ("id,ID,eventname,userid,timecreated\n", "line 1: two columns are called id"),
        (HEAD + "1,a,2,3\n2,a,2\n", "line 3: 3 cells, not 4"),
        (HEAD + "1,a,2,3\n\n2,a,zwei,3\n", "line 4, column userid: 'zwei' is not a 64-bit integer"),
        (HEAD + "1,a,2,3.0\n", "line 2, column timecreated: '3.0' is not a 64-bit integer"),
        (HEAD + "1,a,9223372036854775808,3\n", "column userid: '9223372036854775808' is not a 64-bit"),
        (HEAD + "1_0,a,2,3\n", "column id: '1_0' is not"),
        (HEAD + "1,a,2,٣\n", "column timecreated: '٣' is not"),
        (HEAD + ",a,2,3\n", "line 2, column id: is empty: it is the table's key"),
        (HEAD + "5,a,2,3\n6,a,2,3\n5,b,2,3\n", "line 4, column id: 5 stands in the table twice"),
        (HEAD + '1,"a,2,3\n', "unexpected end of data"),
        (HEAD.encode() + b"1,\xff,2,3\n", "line 2: not UTF-8"),
    ],
)
def test_a_bad_table_is_refused_with_its_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(TableError) as refused:
        table.read(file(tmp_path, text))
    assert message in str(refused.value)


def test_a_line_is_counted_where_a_cell_has_line_breaks(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="line 5, column userid"):
        table.read(file(tmp_path, HEAD + '1,"a\nb\n",2,3\n2,a,x,3\n'))


def test_seconds_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="9300000000000000 s does not fit"):
        table.read(file(tmp_path, HEAD + "1,a,2,9300000000000000\n"), unit="s")


def test_half_a_gzip_file_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress((HEAD + "1,a,2,3\n" * 100).encode())
    for part in (whole[:-20], b"id,eventname"):
        with pytest.raises(TableError, match="not a whole gzip file"):
            table.read(file(tmp_path, part, "log.csv.gz"))


def test_the_time_of_writing_never_goes_back(tmp_path: Path) -> None:
    """A null takes the time of the row before; the first known time counts from the start."""
    rows, _ = table.read(file(tmp_path, HEAD + "1,a,1,\n2,a,1,50\n3,a,1,40\n4,a,1,\n5,a,1,60\n"))
    assert rows.written.tolist() == [50, 50, 50, 50, 60]
    assert np.array_equal(rows.take(slice(1, 3)).written, [50, 50])
