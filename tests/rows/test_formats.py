"""The formats of a table: what is kept as it is, and what is not of the format."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.rows.faults import Faults
from stages.rows.formats import open_table


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


def test_reads_the_same_rows_from_every_format(tmp_path: Path) -> None:
    expected = [("good", "pos"), ("bad", "neg")]
    csv = write(tmp_path / "m.csv", "label,text\npos,good\nneg,bad\n")
    tsv = write(tmp_path / "m.tsv", "label\ttext\npos\tgood\nneg\tbad\n")
    lines = [json.dumps({"text": text, "label": label}) for text, label in expected]
    jsonl = write(tmp_path / "m.jsonl", "\n".join(lines))
    parquet = tmp_path / "m.parquet"
    pd.DataFrame(expected, columns=["text", "label"]).to_parquet(parquet)
    assert read(csv) == read(tsv) == [(2, "good", "pos"), (3, "bad", "neg")]
    assert read(jsonl) == read(parquet) == [(1, "good", "pos"), (2, "bad", "neg")]


def test_a_headerless_text_file_is_split_at_tabs_and_knows_no_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "m.txt", '1\tpos\t"open quote\r\n2\tneg\tline\u2028inside, kept\r\n')
    rows = read(path, ("id", "label", "text"))
    assert rows == [(1, '"open quote', "pos"), (2, "line\u2028inside, kept", "neg")]


def test_quoted_cells_hold_separators_quotes_and_line_breaks(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", 'text,label\r\n"a, ""b""\r\nc",pos\r\nd,neg\r\n')
    assert read(path) == [(2, 'a, "b"\r\nc', "pos"), (4, "d", "neg")]


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", " padded ", "ﬁ \u200bE\u0301", "007", "NA"])
def test_texts_stay_as_they_are(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "m.csv", f"text,label\n{text},pos\n")
    assert read(path) == [(2, text, "pos")]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", b"\xef\xbb\xbftext,label\nx,pos\n")
    assert read(path) == [(2, "x", "pos")]


def test_blank_lines_are_no_rows_but_count_as_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "text,label\n\nx,pos\n\n")
    assert read(path) == [(3, "x", "pos")]


def test_blank_lines_above_the_header_are_no_header(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "mine.csv", "\n\r\ntext,label\na,x\n"))
    assert rows == [(4, "a", "x")]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "txt"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, mark: str, ending: str) -> None:
    content = {
        "csv": f"text,label\na{mark}b,x\nc,y\n",
        "jsonl": f'{{"text": "a{json.dumps(mark)[1:-1]}b", "label": "x"}}\n'
        '{"text": "c", "label": "y"}\n',
        "txt": f"a{mark}b\tx\nc\ty\n",
    }[ending]
    columns = ("text", "label") if ending == "txt" else None
    rows = read(write(tmp_path / f"mine.{ending}", content), columns)
    first = 2 if ending == "csv" else 1
    assert rows == [(first, f"a{mark}b", "x"), (first + 1, "c", "y")]


def test_a_jsonl_row_may_lack_a_field_and_keeps_its_types(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n')
    assert read(path) == [(1, "a", 1), (2, "b", None)]


def test_a_very_long_text_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", f"text,label\n{'x' * 300_000},pos\n")
    assert read(path) == [(2, "x" * 300_000, "pos")]


def test_ragged_rows_are_counted_and_the_first_five_named(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "text,label\na,b\n" + "x\n" * 9)
    assert "m.csv: lines 3, 4, 5, 6, 7 and 4 more: 1 cells where the header has 2" in fault_of(path)


def test_several_kinds_of_fault_are_reported_together(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "text,label\na,b\nx\nx,y,z\n")
    fault = fault_of(path)
    assert "line 3: 1 cells" in fault
    assert "line 4: 3 cells" in fault


def test_bytes_that_are_not_utf8_are_named_by_line_and_offset(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", b"text,label\na,b\ncaf\xe9,b\n")
    assert "m.csv: line 3: byte 18 is not UTF-8. Fix: save the file as UTF-8" in fault_of(path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("m.jsonl", '{"text": "a", "label": 1}\n{"text"\n', "line 2: not valid JSON"),
        ("m.jsonl", '{"text": "a", "text": "b"}', "line 1: not valid JSON: a key occurs twice"),
        ("m.jsonl", "[1]", "line 1: not a JSON object"),
        ("m.jsonl", "[" * 100_000, "line 1: not valid JSON"),
        ("m.csv", "text;label\na;b;c\n", "line 2: 3 cells where the header has 2"),
        ("m.csv", "text,text,label\na,b,c\n", "column text occurs twice"),
        ("m.csv", "text,label\n", "a header but no rows"),
        ("m.csv", "", "the file is empty"),
        ("m.csv", 'text,label\n"a"b,c\n', "not valid csv"),
        ("m.csv", 'text,label\n"a,b\nc,d\n', "not valid csv: unexpected end of data"),
        ("m.parquet", "text,label\n", "not a parquet file"),
        ("m.parquet", "", "not a parquet file"),
    ],
)
def test_a_file_that_is_not_of_its_format_is_refused(
    tmp_path: Path, name: str, content: str, expected: str
) -> None:
    fault = fault_of(write(tmp_path / name, content))
    assert expected in fault
    assert "Fix: " in fault


def test_a_quote_that_never_closes_is_named_by_the_row_that_opens_it(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", 'text,label\na,b\n"c,d\n' + "e,f\n" * 30)
    assert "in the row that starts on line 3" in fault_of(path)
