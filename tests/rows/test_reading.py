"""Reading a table: what is kept of each format, nested fields, and what is not of the format."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.core.errors import DataError, HostError
from stages.rows.layouts import MISSING, field_of
from stages.rows.reading import Faults, open_table


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


Rows = list[tuple[object, ...]]


def read(path: Path, columns: tuple[str, ...] | None = None) -> Rows:
    """Return line, text and label of each row."""
    faults = Faults(path)
    table = open_table(path, ["text", "label"], faults, columns)
    rows = [(line, *cells) for line, cells in table.rows]
    faults.check()
    return rows


def fault_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    return str(caught.value)


def test_a_headerless_text_file_is_split_at_tabs_and_knows_no_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "m.txt", '1\tpos\t"open quote\r\n2\tneg\tline\u2028inside, kept\r\n')
    rows = read(path, ("id", "label", "text"))
    assert rows == [(1, '"open quote', "pos"), (2, "line\u2028inside, kept", "neg")]
    path = write(tmp_path / "m.txt", "1\tpos\ta\n2\tneg\n\n3\tb\n")
    with pytest.raises(DataError, match="no column text, did you mean texts"):
        read(path, ("id", "label", "texts"))
    with pytest.raises(DataError, match="lines 2, 4: 2 cells where there should be 3"):
        read(path, ("id", "label", "text"))


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("text,label\n\nx,pos\n\n", [(3, "x", "pos")]),  # a blank line is no row, but a line
        ("\n\r\ntext,label\na,x\n", [(4, "a", "x")]),
        (f"text,label\n{'x' * 300_000},pos\n", [(2, "x" * 300_000, "pos")]),
        ('text,label\r\n"a, ""b""\r\nc",x\r\nd,y\r\n', [(2, 'a, "b"\r\nc', "x"), (4, "d", "y")]),
        ('a,b;text;"label"\n1;x;y\n', [(2, "x", "y")]),  # the separator that finds the columns
        ('sep=;\r\ntext;label\n"a;b";1,5\nc,d;2,5\n', [(3, "a;b", "1,5"), (4, "c,d", "2,5")]),
        ('"sep=;"\ntext;label\n"a;b";1,5\n', [(3, "a;b", "1,5")]),
        (  # columns and rows of nothing at the end
            "text;label;;\na;x;;\n;;;\nb;y;;;;\n;;;\n;;;\n",
            [(2, "a", "x"), (3, None, None), (4, "b", "y")],
        ),
    ],
)
def test_the_rows_of_a_csv_file_and_their_lines(content: str, rows: Rows, tmp_path: Path) -> None:
    assert read(write(tmp_path / "m.csv", content)) == rows


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, mark: str) -> None:
    escaped = json.dumps(mark)[1:-1]
    lines = f'{{"text": "a{escaped}b", "label": "x"}}\n{{"text": "c", "label": "y"}}\n'
    table = write(tmp_path / "mine.csv", f"text,label\na{mark}b,x\nc,y\n")
    plain = write(tmp_path / "mine.txt", f"a{mark}b\tx\nc\ty\n")
    expected = [(1, f"a{mark}b", "x"), (2, "c", "y")]
    assert read(table) == [(line + 1, *cells) for line, *cells in expected]
    assert read(write(tmp_path / "mine.jsonl", lines)) == expected
    assert read(plain, ("text", "label")) == expected


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("m.jsonl", '{"text": "a", "label": 1}\n{"text"\n', "line 2: not valid JSON"),
        ("m.jsonl", '{"text": "a", "text": "b"}', "line 1: not valid JSON: a key occurs twice"),
        ("m.jsonl", "[1]", "line 1: no column text"),
        ("m.jsonl", "[" * 100_000, "line 1: not valid JSON"),
        ("m.csv", "text;label\na;b;c\n", "line 2: 3 cells where there should be 2"),
        ("m.csv", "text,text,label\na,b,c\n", "column text occurs twice"),
        ("m.csv", "text,label\n", "line 1: no rows"),
        ("m.csv", "", "the file is empty"),
        ("m.csv", 'text,label\n"a"b,c,d\n', "not valid csv"),
        ("m.csv", 'text,label\na,b\n"c,d,e\n' + "e,f\n" * 30, "in the row after line 2"),
        ("m.csv", "text,label\na,b\nx\nx,y,z\n", "line 4: 3 cells where there should be 2"),
        ("m.csv", b"text,Pr\xe4dikat\na,b\n", "m.csv: line 1: not UTF-8. Fix: save"),
        ("m.csv", b"\xff\xfe" + "text,label\n".encode("utf-16-le") + b"\x00\xd8", "not UTF-16: "),
        ("m.xlsx", "text,label\n", "m.xlsx: line 1: not an .xlsx file"),
        ("m.parquet", "text,label\n", "not a parquet file"),
        ("m.json", '[{"text": "a", "label": 1}\n{}]', "line 2: not valid JSON: Expecting ',' deli"),
        ("m.json", '[{"text": "a", "label": 1}, 2]', "line 2: not a JSON object"),
        ("m.json", "[]", "line 1: no rows"),
        ("m.json", "", "line 1: the file is empty"),
        ("m.json", '{"text": {"0": "a"}, "lable": {"0": 1}}', "no column label, did you mean labl"),
        ("m.json", "[" * 100_000, "line 1: not valid JSON"),
    ],
)
def test_a_file_that_is_not_of_its_format_is_refused(
    tmp_path: Path, name: str, content: str | bytes, expected: str
) -> None:
    fault = fault_of(write(tmp_path / name, content))
    assert expected in fault
    assert "Fix: " in fault


ROWS = [(2, "a b", "x"), (3, "schön, c", "y")]
TABLE = 'text,label\na b,x\n"schön, c",y\n'


def zstd(content: str) -> bytes:
    return bytes(pa.compress(content.encode(), "zstd", asbytes=True))


def understood(path: Path, names: list[str]) -> str:
    return open_table(path, names, Faults(path)).understood


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.csv", TABLE.encode(), "commas, UTF-8"),
        ("m.CSV", TABLE.encode("utf-8-sig"), "commas, UTF-8"),
        ("m.csv", TABLE.encode("utf-16"), "commas, UTF-16"),
        ("m.csv", b"\xfe\xff" + TABLE.encode("utf-16-be"), "commas, UTF-16"),
        ("m.csv", TABLE.encode("utf-32"), "commas, UTF-32"),
        ("m.CSV.GZ", gzip.compress(TABLE.encode(), mtime=0), "commas, UTF-8, gzip"),
        ("m.csv.zst", zstd(TABLE[:20]) + zstd(TABLE[20:]), "commas, UTF-8, zstd"),
        ("m.tsv", TABLE.replace(",", ";").replace("n;", "n,").encode(), "semicolons, UTF-8"),
    ],
)
def test_encodings_and_packed_files_are_recognised(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    path = write(tmp_path / name, content)
    assert read(path) == ROWS
    assert understood(path, ["text", "label"]) == f"csv separated by {said}"


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_packed_file_that_was_cut_off_is_refused(tmp_path: Path, kind: str) -> None:
    packed = gzip.compress(TABLE.encode() * 100, mtime=0) if kind == "gz" else zstd(TABLE * 100)
    fault = fault_of(write(tmp_path / f"m.csv.{kind}", packed[:-9]))
    assert f"m.csv.{kind}: not a complete " in fault
    assert "not a complete" in fault_of(write(tmp_path / f"n.csv.{kind}", TABLE))


def test_a_sheet_is_found_by_its_columns(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    about: Any = book.active
    about.append(["made by", "somebody"])
    sheet: Any = book.create_sheet("rows")
    for row in ([], ["label", "note", "text"], ["x", None, "a_x000D_\nb"], [], ["#N/A", 1, "c"]):
        sheet.append(row)
    sheet.cell(9, 1).value = None
    sheet["A5"].data_type = "e"
    path = tmp_path / "m.xlsx"
    book.save(path)
    assert understood(path, ["text", "label"]) == "xlsx, sheet rows"
    assert read(path) == [(3, "a\r\nb", "x"), (4, None, None), (5, "c", None)]
    about.append(["text", "label"])
    second: Any = book.create_sheet("more")
    second.append(["text", "label"])
    book.save(path)
    assert "the sheets rows, more all have the columns text, label" in fault_of(path)
    second.sheet_state = "hidden"
    book.save(path)
    assert len(read(path)) == 3


def test_without_its_package_a_sheet_is_refused_with_the_way_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(HostError, match=r"pip install -e '\.\[xlsx\]'"):
        read(write(tmp_path / "m.xlsx", TABLE))


def test_parquet_is_read_in_batches_across_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.rows.reading.BATCH", 4)
    frame = pd.DataFrame({"text": [f"t{n}" for n in range(10)], "label": range(10), "x": 0})
    frame.to_parquet(tmp_path / "m.parquet", row_group_size=3)
    assert read(tmp_path / "m.parquet") == [(n + 1, f"t{n}", n) for n in range(10)]


TASKS = [
    {
        "id": number,
        "data": {"text": f"text {number}"},
        "annotations": [{"result": [{"value": {"choices": [label]}, "from_name": "sentiment"}]}],
    }
    for number, label in enumerate(["pos", "neg"])
]
CHOICE = "annotations.0.result.0.value.choices"


def write_rows(rows: list[dict[str, Any]], path: Path) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    return write(path, json.dumps(rows))


def cells(path: Path, *names: str) -> list[list[Any]]:
    return [row for _, row in open_table(path, list(names), Faults(path)).rows]


@pytest.mark.parametrize("ending", ["json", "parquet"])
def test_a_field_is_named_by_dots_and_guessed_where_it_is_not_there(
    tmp_path: Path, ending: str
) -> None:
    path = write_rows(TASKS, tmp_path / f"m.{ending}")
    assert cells(path, "data.text", f"{CHOICE}.0") == [["text 0", "pos"], ["text 1", "neg"]]
    assert cells(path, "data.text", CHOICE) == [["text 0", ["pos"]], ["text 1", ["neg"]]]
    flat = [{"data.text": "a", "label.responses": "pos"}]
    path_of_flat = write_rows(flat, tmp_path / f"flat.{ending}")
    assert cells(path_of_flat, "data.text", "label.responses") == [["a", "pos"]]
    for name in ("txt", "data.txt", "annotations.1x", "data.text.0"):
        with pytest.raises(DataError) as caught:
            cells(path, name)
        assert f"line 1: no column {name}" in str(caught.value)
        assert "data.text" in str(caught.value).partition("Fix: ")[2]
    with pytest.raises(DataError, match=r"no column data\.txt, did you mean data\.text\?"):
        cells(path, "data.txt")


@pytest.mark.parametrize(
    ("value", "name", "expected"),
    [
        ({"a": {"b": 1}, "a.b": 2}, "a.b", 2),
        ({"a": {"b.c": 1}}, "a.b.c", 1),
        ({"a.b": [{"c": 1}]}, "a.b.0.c", 1),
        ({"a": [[1, 2]]}, "a.0.1", 2),
        ({"a": {"0": 1}}, "a.0", 1),
        ({"a": [1]}, "a.1", None),
        ({"a": None}, "a.b", None),
        ({"a": [1]}, "a.b", MISSING),
        ({"a": 1}, "a.b", MISSING),
        ({"a": [1]}, "a.-1", MISSING),
        ({"a": [1]}, "a.", MISSING),
    ],
)
def test_the_rule_of_the_dots(value: Any, name: str, expected: Any) -> None:
    assert field_of(value, name) is expected or field_of(value, name) == expected


def message(faults: Faults) -> str:
    with pytest.raises(DataError) as caught:
        faults.check()
    return str(caught.value)


def test_places_of_one_kind_are_one_message_that_names_five() -> None:
    faults = Faults(Path("mine.csv"))
    for line in range(2, 9):
        faults.add(line, "no label", "fill it in")
    faults.add(3, "empty text", "fill it in")
    assert message(faults).split("\n") == [
        "error: mine.csv: lines 2, 3, 4, 5, 6 and 2 more: no label. Fix: fill it in",
        "error: mine.csv: line 3: empty text. Fix: fill it in",
    ]


def test_many_kinds_of_fault_stay_a_short_message() -> None:
    faults = Faults(Path("mine.csv"))
    for line in range(500):
        faults.add(line, f"label {line} has spaces around it", "remove them")
    lines = message(faults).split("\n")
    assert len(lines) == 21
    assert lines[-1].startswith("error: mine.csv: 480 more faults like these. Fix: ")
