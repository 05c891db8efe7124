"""The same table in every format is the same data: rows, labels, ids and splits."""

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import re
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


def separated(rows: Rows, sign: str, end: str = "\n", **options: Any) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=sign, lineterminator=end, **options)
    writer.writerow(NAMES)
    writer.writerows((number, text, cell(label)) for number, (text, label) in enumerate(rows))
    return file.getvalue()


def objects(rows: Rows) -> list[dict[str, Any]]:
    return [dict(zip(NAMES, (number, *row), strict=True)) for number, row in enumerate(rows)]


def jsonl(rows: list[Any], **options: Any) -> str:
    return "\n".join(json.dumps(row, **options) for row in rows)


def parquet(rows: Rows, encode: bool = False) -> bytes:
    file = io.BytesIO()
    labels = pa.array([label for _, label in rows])
    labels = labels.dictionary_encode() if encode else labels
    texts = pa.array([text for text, _ in rows], pa.large_string())
    ids = pa.array(range(len(rows)))
    pq.write_table(pa.table({"id": ids, "text": texts, "label": labels}), file, row_group_size=7)
    return file.getvalue()


def xlsx(rows: Rows, header: bool = True) -> bytes:
    book = openpyxl.Workbook()
    sheet: Any = book.active
    if header:
        sheet.append(NAMES)
    for number, row in enumerate(rows):
        line = number + 1 + header
        sheet.append([number, *row])
        sheet.cell(line, 2).data_type = "s"  # text, though it may begin as a formula does
        if isinstance(row[1], str):
            sheet.cell(line, 3).data_type = "s"
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


Form = tuple[bytes | dict[str, bytes], dict[str, Any]]  # a file, or those of a folder; the params


def files(rows: Rows) -> dict[str, Form]:
    """Return the table in every form that holds it, by what data.source names."""
    comma, tabs = separated(rows, ","), separated(rows, "\t")
    nested = [{"data": {"text": row["text"]}, "label": [row["label"]]} for row in objects(rows)]
    by_name = {"text_column": "data.text"}
    by_number = {"header": False, "text_column": "2", "label_column": "3"}
    lists = [list(row.values()) for row in objects(rows)]
    frame = pd.DataFrame(objects(rows), dtype=object)
    orients: Any = ("split", "table", "index", "columns", "values", "records")
    plain: dict[str, bytes] = {
        "comma.csv": comma.encode(),
        "crlf.csv": separated(rows, ",", "\r\n").encode(),
        "excel.csv": b"\xef\xbb\xbfsep=;\r\n" + separated(rows, ";", "\r\n").encode(),
        "single.csv": separated(rows, ",", quotechar="'", quoting=csv.QUOTE_ALL).encode(),
        "bar.CSV": separated(rows, "|").encode(),
        "tabs.csv": tabs.encode("utf-16"),
        "tabs.tsv": tabs.encode(),
        "tabs.txt": tabs.encode(),
        "big.tsv": b"\xfe\xff" + tabs.encode("utf-16-be"),
        "packed.csv.gz": gzip.compress(comma.encode()),
        "packed.csv.bz2": bz2.compress(comma.encode()),
        "packed.tsv.xz": lzma.compress(tabs.encode()),
        "packed.jsonl.zst": pa.compress(jsonl(objects(rows)).encode(), "zstd", asbytes=True),
        "lines.jsonl": jsonl(objects(rows), ensure_ascii=False).encode(),
        "array.json": json.dumps(objects(rows), indent=1).encode(),
        "lines.json": jsonl(objects(rows)).encode(),
        "api.json": json.dumps({"count": 40, "result": {"items": objects(rows)}}).encode(),
        "lists.json": json.dumps(dict(zip(NAMES, zip(*lists, strict=True), strict=True))).encode(),
        "header.json": json.dumps([NAMES, *lists]).encode(),
        "plain.parquet": parquet(rows),
        "dictionary.parquet": parquet(rows, encode=True),
        "packed.parquet.gz": gzip.compress(parquet(rows)),
        "sheet.xlsx": xlsx(rows),
    }
    return {
        **{name: (content, {}) for name, content in plain.items()},
        **{
            f"{orient}.json": (
                json.dumps(json.loads(frame.to_json(orient=orient, double_precision=15))).encode(),
                by_number if orient == "values" else {},
            )
            for orient in orients
        },
        "nested.jsonl": (jsonl(nested).encode(), by_name),
        "bare.csv": (comma.split("\n", 1)[1].encode(), by_number),
        "bare.xlsx": (xlsx(rows, header=False), by_number),
        "pairs.jsonl": (jsonl(lists).encode(), by_number),
        **{
            name: (content, {"label_column": "mood"} if name.startswith("min.") else {})
            for name, content in exports(rows).items()
        },
    }


def exports(rows: Rows) -> dict[str, bytes]:
    """Return the table as annotation tools export it; a row without a label has no answer."""

    def answers(label: Any, answer: Any) -> Any:
        return [] if label is None else [answer]

    def chosen(label: Any) -> dict[str, Any]:
        value = {"choices": [label]}
        return {"result": [{"from_name": "mood", "type": "choices", "value": value}]}

    small = [
        {"text": text, "mood": label, "annotator": 1, "annotation_id": n, "lead_time": 2.5}
        for n, (text, label) in enumerate(rows)
    ]
    table = pd.DataFrame([{**row, "mood": cell(row["mood"])} for row in small])
    made: dict[str, list[dict[str, Any]]] = {
        "studio.json": [
            {"data": {"text": text}, "annotations": answers(label, chosen(label))}
            for text, label in rows
        ],
        "min.json": small,
        "prodigy.jsonl": [
            {"text": text, "label": label, "answer": "accept", "_task_hash": 1}
            for text, label in rows
        ],
        "choice.jsonl": [
            {"text": text, "accept": answers(label, label), "answer": "accept"}
            for text, label in rows
        ],
        "doccano.jsonl": [
            {"id": n, "text": text, "label": [label], "Comments": []}
            for n, (text, label) in enumerate(rows)
        ],
        "older.jsonl": [
            {"text": text, "annotations": answers(label, {"label": label, "user": 1})}
            for text, label in rows
        ],
        "argilla.json": [
            {
                "fields": {"text": text},
                "responses": {"mood": answers(label, {"value": label, "user_id": "u"})},
            }
            for text, label in rows
        ],
        "flat.jsonl": [
            {
                "text": text,
                "label.responses": answers(label, label) or None,
                "label.responses.status": answers(label, "submitted") or None,
            }
            for text, label in rows
        ],
        "set.jsonl": [
            {"text": text, "mood": answers(label, {"user_id": "u", "value": label}), "id": str(n)}
            for n, (text, label) in enumerate(rows)
        ],
        "single.json": [
            {"inputs": {"text": text}, "annotation": label, "status": "Validated"}
            for text, label in rows
        ],
        "first.json": [
            {
                "fields": {"text": text},
                "responses": answers(
                    label, {"values": {"mood": {"value": label}}, "status": "submitted"}
                ),
            }
            for text, label in rows
        ],
    }
    return {"min.csv": table.to_csv(index=False).encode()} | {
        name: (json.dumps(found) if name.endswith(".json") else jsonl(found)).encode()
        for name, found in made.items()
    }


def line_files(rows: Rows) -> dict[str, Form]:
    """Return the table in the forms in which a text is one line and each row has a label."""
    plain = "".join(f"{label}\t{text}\n" for text, label in rows)
    by_number = {"header": False, "text_column": "2", "label_column": "1"}
    pair = {
        "texts.txt": "".join(f"{text}\n" for text, _ in rows).encode(),
        "labels.txt": "".join(f"{label}\n" for _, label in rows).encode(),
    }
    classes = {
        f"{label}/{number:04}.txt": f"{text}\n".encode()
        for number, (text, label) in enumerate(rows)
    }
    fast = "".join(f"__label__{label} {text}\n" for text, label in rows)
    forms: dict[str, Form] = {
        "fast.txt": (fast.encode(), {}),
        "pair": (pair, {}),
        "classes": (classes, {}),
    }
    if not any("\t" in text for text, _ in rows):
        forms["plain.tsv"] = (plain.encode(), by_number)
        forms["plain.txt"] = (plain.encode(), by_number)
    return forms


def prepared(source: str, form: Form | bytes) -> tuple[list[bytes], dict[str, Any]] | str:
    """Return what prepare writes: the splits' bytes and the summary; or its refusal."""
    content, params = (form, {}) if isinstance(form, bytes) else form
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, written in content.items() if isinstance(content, dict) else [("", content)]:
            path = Path(source, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(written)
        try:
            prepare(params_for(source, **{"on_incomplete": "drop", **params}))
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
    """Return distinct texts, maybe of one line each, with labels of one type or none."""
    labels = draw(LABELS)
    texts = draw(st.lists(TEXT, min_size=2, max_size=6))
    one_line = draw(st.booleans())
    if one_line:
        texts = [text.replace("\n", " ") for text in texts]
    rows: Rows = [
        (f"{texts[number % len(texts)]} {number}", labels[number % len(labels)])
        for number in range(40)
    ]
    for place in draw(st.sets(st.integers(0, 39), max_size=0 if one_line else 3)):
        rows[place] = (rows[place][0], None)
    return rows


def assert_same_in_every_form(rows: Rows) -> None:
    if not any("\n" in text or label is None for text, label in rows):
        rows = sorted(rows, key=lambda row: cell(row[1]))  # as folders are
        written = {**files(rows), **line_files(rows)}
    else:
        written = files(rows)
    expected = prepared("comma.csv", written.pop("comma.csv"))
    assert not isinstance(expected, str)
    for name, form in written.items():
        assert prepared(name, form) == expected, name


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(tables())
def test_a_table_is_the_same_data_in_every_form(rows: Rows) -> None:
    assert_same_in_every_form(rows)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ('"so", it\'s schön', ("late", "in_time")),
        ('" schön;\tn,\n', (1.0, 2.0)),
        ('" schön;\tn,\n', (True, False)),
    ],
)
def test_one_table_is_the_same_data_in_every_form(text: str, labels: tuple[Any, Any]) -> None:
    assert_same_in_every_form([(f"{text} {n}", labels[n % 2]) for n in range(40)])


def test_splits_are_the_same_data_in_every_form() -> None:
    rows = [(f"text {n}", ("late", "in_time")[n >= 30]) for n in range(60)]
    parts = {"train": rows[::2], "val": rows[1::4], "test": rows[3::4]}
    labels = {
        f"{name}_{kind}.txt": "".join(f"{row[at]}\n" for row in part).encode()
        for name, part in parts.items()
        for at, kind in enumerate(("text", "labels"))
    }
    in_order = {n: sorted(part, key=lambda row: row[1]) for n, part in parts.items()}
    folders = {
        f"{name}/{label}/{number:02}": text.encode()
        for name, part in in_order.items()
        for number, (text, label) in enumerate(part)
    }
    tables = {f"{name}.csv": separated(part, ",").encode() for name, part in parts.items()}
    train = separated(parts["train"], ",").splitlines(keepends=True)
    pieces = {"train-1.csv": train[:9], "train-2.csv": [train[0], *train[9:]]}
    numbered = {name: "".join(piece).encode() for name, piece in pieces.items()}
    fast: Any = {f"{n}.txt": line_files(part)["fast.txt"][0] for n, part in parts.items()}
    one = json.dumps({name: objects(part) for name, part in parts.items()}).encode()
    columns = {n: pd.DataFrame(objects(p)).to_dict(orient="list") for n, p in parts.items()}
    expected = prepared("own", (tables, {}))
    assert not isinstance(expected, str)
    assert prepared("own", (labels, {})) == expected
    del tables["train.csv"]
    assert prepared("own", ({**tables, **numbered}, {})) == expected
    assert prepared("own", (fast, {})) == expected
    assert prepared("own.json", (one, {})) == expected
    assert prepared("own.json", json.dumps(columns).encode()) == expected  # as datasets write it
    sorted_tables = {f"{n}.csv": separated(part, ",").encode() for n, part in in_order.items()}
    assert prepared("own", (folders, {})) == prepared("own", (sorted_tables, {}))


def test_the_table_of_forms_names_forms_that_are_tested() -> None:
    text = (Path(__file__).parents[2] / "data" / "README.md").read_text(encoding="utf-8")
    rows = text.partition("## Forms")[2].partition("\n- ")[0].splitlines()[3:]
    named = {name for row in rows for name in re.findall("`([^`]+)`", row.split("|")[2])}
    sample: Rows = [(f"text {n}", "ab"[n % 2]) for n in range(4)]
    forms = {*files(sample), *line_files(sample), "texts.txt", "labels.txt"}
    assert named <= forms
    assert len(named) > len(forms) / 2


def test_a_number_that_excel_made_of_a_text_is_a_text() -> None:
    rows: Rows = [(f"text {number}", "ab"[number % 2]) for number in range(40)]
    numbers: Any = [(1984, "a"), (2.5, "b"), (True, "a"), *rows]
    expected = prepared("m.csv", separated(numbers, ",").encode())
    assert prepared("m.jsonl", jsonl(objects(numbers)).encode()) == expected
    book = openpyxl.load_workbook(io.BytesIO(xlsx(rows)))
    sheet: Any = book.active
    sheet.insert_rows(2, 3)
    for place, (text, label) in enumerate(numbers[:3]):
        sheet.cell(place + 2, 2, text)
        sheet.cell(place + 2, 3, label)
    file = io.BytesIO()
    book.save(file)
    assert prepared("m.xlsx", file.getvalue()) == expected
