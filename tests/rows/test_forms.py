"""Public forms of data with something to decide or to mend: what is said, and that it works.

That a table is the same data in every form, `test_every_format` shows.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.tables import assert_not_prepared, sizes

Files = dict[str, Any]
TEXTS = [f"parcel {n} came on day {n % 7}" for n in range(60)]
LABELS = [("late", "fine")[n % 2] for n in range(60)]
ROWS = list(zip(TEXTS, LABELS, strict=True))
OBJECTS = [{"text": text, "label": label} for text, label in ROWS]
NUMBERED = "text,label\n" + "".join(f"{text},{label == 'late':d}\n" for text, label in ROWS)
PLAIN = "".join(f"{label}\t{text}\n" for text, label in ROWS)
FASTTEXT = "".join(f"__label__{label} {text}\n" for text, label in ROWS)
TWICE = FASTTEXT.replace("__label__late", "__label__late __label__rude", 1)
PAIR = {
    "texts.txt": "".join(f"{text}\n" for text in TEXTS),
    "labels.txt": "".join(f"{label}\n" for label in LABELS),
}
FOLDERS = {f"{label}/{n:02}.txt": text for n, (text, label) in enumerate(ROWS)}


def lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(map(json.dumps, rows))


def studio(second: str | None = None, cancelled: int = 0) -> list[dict[str, Any]]:
    """Return tasks: of some the answer is skipped, some have a second choice."""

    def task(n: int, text: str, label: str) -> dict[str, Any]:
        choices = [label, second] if second and n % 10 == 6 else [label]
        result = [{"type": "choices", "from_name": "mood", "value": {"choices": choices}}]
        return {
            "data": {"text": text},
            "annotations": [{"was_cancelled": n < cancelled, "result": result}],
        }

    return [task(n, *row) for n, row in enumerate(ROWS)]


def choice(second: str) -> list[dict[str, Any]]:
    return [
        {"text": text, "accept": [label, second][: 1 + (n < 9)], "answer": "accept"}
        for n, (text, label) in enumerate(ROWS)
    ]


def table_of_studio(answer: str) -> str:
    rows = [f'{text},"{answer if n < 9 else label}",{n},1' for n, (text, label) in enumerate(ROWS)]
    return "\n".join(["text,mood,annotation_id,annotator", *rows])


def argilla_1(discarded: int) -> list[dict[str, Any]]:
    status = ["Discarded"] * discarded + ["Validated"] * (len(ROWS) - discarded)
    return [
        {"text": text, "annotation": label, "status": state}
        for (text, label), state in zip(ROWS, status, strict=True)
    ]


BINARY = [
    {"text": text, "label": "LATE", "answer": ("accept", "reject", "ignore")[n % 3]}
    for n, text in enumerate(TEXTS)
]
TWO_QUESTIONS = [
    {"fields": {"text": t}, "responses": {q: [{"value": v, "user_id": "u"}] for q in ("mood", "x")}}
    for t, v in ROWS
]
BY_NUMBER = {"header": False, "text_column": "2", "label_column": "1"}
FIRST = "several are another task, multi-label"


# The files, the params, what is refused, the params that the remedy names, and the rows then.
@pytest.mark.parametrize(
    ("files", "message", "remedy", "rows"),
    [
        ({"m.json": studio("rude")}, FIRST, {"label_column": "label.0"}, 60),
        (
            {"m.csv": table_of_studio('{""choices"": [""late"", ""x""]}')},
            "no column label",
            {"label_column": "mood.0"},
            60,
        ),
        ({"m.jsonl": lines(choice("rude"))}, FIRST, {"label_column": "label.0"}, 60),
        ({"m.txt": TWICE}, FIRST, {"label_column": "label.0"}, 60),
        ({"m.jsonl": lines(BINARY)}, "the classes are accept and", {"label_column": "answer"}, 40),
        (
            {"m.json": TWO_QUESTIONS},
            "Fix: set data.label_column to one of them: mood, x",
            {"label_column": "x"},
            60,
        ),
        (
            {"m.tsv": PLAIN},
            "header to false, data.text_column to 2 and data.label_column to 1",
            BY_NUMBER,
            60,
        ),
        (
            {"m.json": [[text, label] for text, label in ROWS]},
            "data.text_column to 1 and data.label_column to 2",
            {"text_column": "1", "label_column": "2"},
            60,
        ),
        (
            {"m.json": {"a": OBJECTS, "b": OBJECTS}},
            "set data.text_column to a.0.NAME",
            {"text_column": "a.0.text", "label_column": "a.0.label"},
            60,
        ),
        (
            {
                "m.json": {
                    "train": [[text, label] for text, label in ROWS[:40]],
                    "test": [[text, label] for text, label in ROWS[40:]],
                }
            },
            "m.json/train: line 1: no column text: the line looks",
            {"text_column": "1", "label_column": "2"},
            60,
        ),
    ],
)
def test_what_is_not_clear_is_refused_with_params_that_work(
    files: Files, message: str, remedy: dict[str, Any], rows: int
) -> None:
    assert message in refused(files)
    assert sum(sizes(write(files), **remedy)) == rows


@pytest.mark.parametrize(
    ("files", "changes", "message"),
    [
        (
            {**PAIR, "labels.txt": PAIR["labels.txt"][5:]},
            {},
            "labels.txt: line 60: missing; texts.txt has it",
        ),
        (
            {**PAIR, "labels.txt": "\n" + PAIR["labels.txt"][5:]},
            {},
            "texts.txt: line 1: no label in labels.txt",
        ),
        (
            {"train_text.txt": "a", "test_text.txt": "b"},
            {},
            "or the labels in a second file, test_labels.txt; where each file is a class, join",
        ),
        (
            {**PAIR, "m.csv": NUMBERED},
            {},
            "holds texts.txt and its labels, and m.csv. Fix: keep one of both",
        ),
        (
            {**FOLDERS, "m.csv": NUMBERED},
            {},
            "holds a folder for each class, and m.csv. Fix: keep one of both",
        ),
        ({**FOLDERS, "none/x.bin": ""}, {}, "/none: holds no text file"),
        ({**FOLDERS, "late/x.txt": ""}, {}, "late/x.txt: empty text"),
        ({**FOLDERS, "late/x.txt": b"\xe9"}, {}, "late/x.txt: not UTF-8"),
        (
            {**FOLDERS, "late/x.txt": TEXTS[1]},
            {},
            "fine/01.txt:1 and mine/late/x.txt:1: one text with two labels",
        ),
        ({"m.txt": f"{FASTTEXT}no label\n__label__late\n"}, {}, "line 61: no label"),
        (
            {"m.txt": "late +++ it came\n"},
            {},
            "line 1: neither fastText (__label__x text) nor a table",
        ),
        ({"m.csv": f"{NUMBERED}a,b,c\n"}, {}, "line 62: 3 cells where there should be 2"),
        ({"m.csv": "1,it came late\nx\n"}, {}, "looks like a row, not like names: 1, it came late"),
        ({"m.csv": NUMBERED.encode() + b"caf\xe9,1\n"}, {}, "line 62: not UTF-8. Fix: save the"),
        (
            {"m.tsv": '"label"\t"text"\n"a"\t"b"\n"a"\t"he said "x" y"\n'},
            {},
            "line 3: not valid csv",
        ),
        (
            {"m.json": [*studio(), OBJECTS[0]]},
            {},
            "line 61: no row of Label Studio, as the first is",
        ),
        ({"m.json": studio(cancelled=60)}, {}, "line 1: no answer is left"),
        (
            {"m.json": {"text": TEXTS, "label": LABELS[1:]}},
            {},
            "columns of unequal length: text 60, label 59",
        ),
        (
            {"m.json": {"columns": ["text", "label"], "data": [*ROWS, ["a"]]}},
            {},
            "line 61: empty text",
        ),
        ({"m.json": {"test": OBJECTS, "x": OBJECTS}}, {}, "several lists of rows: test, x"),
        ({"m.json": {}}, {}, "line 1: no rows"),
        (
            {"m.json": TEXTS},
            {},
            "not a JSON object. Fix: write each row as an object with its columns",
        ),
        (
            {"m.csv": NUMBERED.replace(",1", ",2")},
            {"label_names": ["a", "b"]},
            "label 2 is no number from 0 to 1 that has one of the 2 names",
        ),
        (
            {"m.csv": NUMBERED.replace(",1", ",2").replace(",0", ",1")},
            {"label_names": ["a", "b", "c"]},
            "the labels have neither 0 nor 3",
        ),
        ({"m.csv": NUMBERED}, {"label_names": ["a", "a"]}, "each of them once"),
        (
            {"m.csv": NUMBERED},
            {"label_names": "absent"},
            "data.label_names: absent: cannot be read",
        ),
    ],
)
def test_a_fault_in_a_form_is_refused_by_file_and_line(
    files: Files, changes: dict[str, Any], message: str
) -> None:
    assert message in refused(files, **changes)


@pytest.mark.parametrize(
    ("files", "changes", "said"),
    [
        ({"m.json": studio(cancelled=6)}, {}, "left out of 60 rows: 6 skipped"),
        ({"m.json": argilla_1(discarded=6)}, {}, "left out of 60 rows: 6 skipped"),
        (
            {"m.json": studio("rude")},
            {"label_column": "label.0"},
            "note: 6 of 60 rows have more than one label",
        ),
        (
            {"m.tsv": f'label\ttext\n{PLAIN}late\t"Soon" they said\n'},
            {},
            "tabs, without quoting, UTF-8",
        ),
        (
            {**FOLDERS, "late/x.md": "text", "readme.txt": "x"},
            {},
            "ignored: mine/late/x.md beside what is read",
        ),
        (
            {"m.csv": f"{NUMBERED}{NUMBERED[11:].replace('parcel', 'box').replace(',1', ',1#0')}"},
            {},
            "30 of 120 labels are",
        ),
        (
            {"m.csv": NUMBERED.replace(",1", ",4")},
            {"label_names": "names.txt"},
            "bad 50.0 %, good 50.0 %",
        ),
        ({"m.csv": NUMBERED}, {"label_names": ["bad", "good"]}, "bad 50.0 %, good 50.0 %"),
        ({"m.csv": OBJECTS}, {}, "read: mine/m.csv (JSON, UTF-8)"),
        ({"m.jsonl": {"data": OBJECTS}}, {}, "read: mine/m.jsonl (JSON (data), UTF-8)"),
        ({"m.txt": lines(OBJECTS)}, {}, "read: mine/m.txt (one JSON object to a line, UTF-8)"),
    ],
)
def test_what_was_decided_is_said(
    files: Files, changes: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("names.txt").write_text("4 good\n0 bad\n", encoding="utf-8")
    sizes(write(files), **changes)
    assert said in capsys.readouterr().out


def write(files: Files) -> Path:
    """Write the files into a folder; return it, or its one file."""
    for name, content in files.items():
        path = Path("mine", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, (str, bytes)) else json.dumps(content)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path if len(files) == 1 else Path("mine")


def refused(files: Files, **changes: Any) -> str:
    """Return the one message, and check that nothing was written."""
    message = assert_not_prepared(write(files), **changes)
    assert len(message.split("\n")) == message.count("error: ")
    return message
