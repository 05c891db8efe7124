"""The same table in every format is the same data: rows, labels, ids and splits."""

import contextlib
import csv
import gzip
import io
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.errors import UserError
from stages.prepare import prepare
from tests.support.tiny import params_for

Rows = list[tuple[str, Any]]
NAMES = ["id", "text", "label"]


def cell(value: Any) -> str:
    """Return a value as pandas writes it into csv."""
    return "" if value is None else str(value)


def separated(rows: Rows, sign: str, end: str = "\n") -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=sign, lineterminator=end)
    writer.writerow(NAMES)
    writer.writerows((number, text, cell(label)) for number, (text, label) in enumerate(rows))
    return file.getvalue()


def objects(rows: Rows) -> list[dict[str, Any]]:
    return [dict(zip(NAMES, (number, *row), strict=True)) for number, row in enumerate(rows)]


def lines(rows: Rows, **options: Any) -> str:
    return "\n".join(json.dumps(row, **options) for row in objects(rows))


def parquet(rows: Rows, kind: Any = None) -> bytes:
    file = io.BytesIO()
    labels = pa.array([label for _, label in rows], kind)
    texts = pa.array([text for text, _ in rows], pa.large_string())
    ids = pa.array(range(len(rows)))
    pq.write_table(pa.table({"id": ids, "text": texts, "label": labels}), file, row_group_size=7)
    return file.getvalue()


def dictionary(rows: Rows) -> bytes:
    file = io.BytesIO()
    labels = pa.array([label for _, label in rows]).dictionary_encode()
    pq.write_table(pa.table({"text": [text for text, _ in rows], "label": labels}), file)
    return file.getvalue()


def xlsx(rows: Rows) -> bytes:
    book = openpyxl.Workbook()
    sheet: Any = book.active
    sheet.append(NAMES)
    for number, row in enumerate(rows):
        sheet.append([number, *row])
        sheet.cell(number + 2, 2).data_type = "s"  # text, though it may begin as a formula does
        if isinstance(row[1], str):
            sheet.cell(number + 2, 3).data_type = "s"
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def files(rows: Rows) -> dict[str, bytes]:
    """Return the table in every format that holds it, by the name of its file."""
    comma, tabs = separated(rows, ","), separated(rows, "\t")
    nested = [{"data": {"text": row["text"]}, "label": [row["label"]]} for row in objects(rows)]
    return {
        "comma.csv": comma.encode(),
        "crlf.csv": separated(rows, ",", "\r\n").encode(),
        "excel.csv": b"\xef\xbb\xbfsep=;\r\n" + separated(rows, ";", "\r\n").encode(),
        "bar.CSV": separated(rows, "|").encode(),
        "tabs.csv": tabs.encode("utf-16"),
        "tabs.tsv": tabs.encode(),
        "big.tsv": b"\xfe\xff" + tabs.encode("utf-16-be"),
        "packed.csv.gz": gzip.compress(comma.encode()),
        "packed.jsonl.zst": pa.compress(lines(rows).encode(), "zstd", asbytes=True),
        "lines.jsonl": lines(rows, ensure_ascii=False).encode(),
        "array.json": json.dumps(objects(rows), indent=1).encode(),
        "lines.json": lines(rows).encode(),
        "nested.jsonl": "\n".join(map(json.dumps, nested)).encode(),
        "plain.parquet": parquet(rows),
        "dictionary.parquet": dictionary(rows),
        "packed.parquet.gz": gzip.compress(parquet(rows)),
        "sheet.xlsx": xlsx(rows),
    }


def prepared(name: str, content: bytes) -> tuple[list[bytes], dict[str, Any]] | str:
    """Return what prepare writes: the splits' bytes and the summary; or its refusal."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path(name).write_bytes(content)
        nested = {"text_column": "data.text"} if name.startswith("nested") else {}
        try:
            prepare(params_for(name, on_incomplete="drop", **nested))
        except UserError as error:
            return ". ".join(what.split(": ", 2)[-1] for what, _ in error.faults)
        outs = [path.read_bytes() for path in sorted(Path("data").iterdir())]
        summary = json.loads(Path("metrics/data.json").read_text(encoding="utf-8"))
        del summary["source_sha256"]
        return outs, summary


# What XML and csv can hold: no surrogate, no control character; a lone \r is tested elsewhere.
TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t,;\"'|=_"), max_size=30
).filter(lambda text: text.strip())
LABELS = st.sampled_from(
    [
        ("pos", "neg"),
        ("1.0", "2"),
        ("True", "no"),
        ("a;b", "a,b"),
        ("schön", "=1+1"),
        ("007", "7.50"),
        (0, 1),
        (10, 9, -1),
        (1.0, 2.0),
        (0.5, 1.0, -0.0),
        (True, False),
        (1e16, 0.1),
    ]
)


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    """Return a table of distinct texts, labels of one type, and now and then none."""
    labels = draw(LABELS)
    texts = draw(st.lists(TEXT, min_size=2, max_size=6))
    rows: Rows = [
        (f"{texts[number % len(texts)]} {number}", labels[number % len(labels)])
        for number in range(40)
    ]
    for place in draw(st.sets(st.integers(0, 39), max_size=3)):
        rows[place] = (rows[place][0], None)
    return rows


def assert_same_in_every_format(rows: Rows) -> None:
    written = files(rows)
    expected = prepared("comma.csv", written.pop("comma.csv"))
    assert not isinstance(expected, str)
    for name, content in written.items():
        assert prepared(name, content) == expected, name


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(tables())
def test_a_table_is_the_same_data_in_every_format(rows: Rows) -> None:
    assert_same_in_every_format(rows)


@pytest.mark.parametrize("labels", [(1.0, 2.0), (True, False)])
def test_numbers_and_booleans_are_the_same_labels_in_every_format(labels: tuple[Any, Any]) -> None:
    rows: Rows = [(f'" schön;\tn,\n{number}', labels[number % 2]) for number in range(40)]
    assert_same_in_every_format(rows)


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.decimal128(4, 1), pa.int8()])
def test_every_type_of_number_is_the_same_label(kind: pa.DataType) -> None:
    rows: Rows = [(f"text {number}", number % 2) for number in range(40)]
    expected = prepared("m.csv", separated(rows, ",").encode())
    assert prepared("m.parquet", parquet(rows, kind)) == expected
    assert not isinstance(expected, str)


def test_a_number_that_excel_made_of_a_text_is_a_text() -> None:
    rows: Rows = [(f"text {number}", "ab"[number % 2]) for number in range(40)]
    numbers: Any = [(1984, "a"), (2.5, "b"), (True, "a"), *rows]
    expected = prepared("m.csv", separated(numbers, ",").encode())
    assert prepared("m.jsonl", lines(numbers).encode()) == expected
    book = openpyxl.load_workbook(io.BytesIO(xlsx(rows)))
    sheet: Any = book.active
    sheet.insert_rows(2, 3)
    for place, (text, label) in enumerate(numbers[:3]):
        sheet.cell(place + 2, 2, text)
        sheet.cell(place + 2, 3, label)
    file = io.BytesIO()
    book.save(file)
    assert prepared("m.xlsx", file.getvalue()) == expected


def test_pandas_writes_the_same_data_with_its_own_functions(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": [f"t {n}" for n in range(40)], "label": [1.0, math.nan] * 20})
    frame.loc[::4, "label"] = 0.0
    frame.to_csv(tmp_path / "m.csv", index=False)
    frame.to_json(tmp_path / "m.jsonl", orient="records", lines=True)
    frame.to_json(tmp_path / "m.json", orient="records")
    frame.to_parquet(tmp_path / "m.parquet")
    frame.to_excel(tmp_path / "m.xlsx", index=False)
    frame.to_csv(tmp_path / "m.csv.gz", index=False, sep=";", encoding="utf-16")
    results = [prepared(file.name, file.read_bytes()) for file in sorted(tmp_path.iterdir())]
    assert not isinstance(results[0], str)
    assert results[0][1]["rows_incomplete"] == 20
    assert all(result == results[0] for result in results)
