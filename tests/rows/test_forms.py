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
BY_FIRST = {"label_column": "label.0"}
FIRST = "several are another task, multi-label"


CHOICES = table_of_studio('{""choices"": [""late"", ""x""]}')
LISTS = [list(row) for row in ROWS]
BY_A = {"text_column": "a.0.text", "label_column": "a.0.label"}
IN_ORDER = {"text_column": "1", "label_column": "2"}
ROWS_ALIKE = "set data.header to false, data.text_column to "


# The files, what is refused, the params that the remedy names, and the rows then.
@pytest.mark.parametrize(
    ("files", "message", "remedy", "rows"),
    [
        ({"m.json": studio("rude")}, FIRST, BY_FIRST, 60),
        ({"m.csv": CHOICES}, "no column label", {"label_column": "mood.0"}, 60),
        ({"m.jsonl": lines(choice("rude"))}, FIRST, BY_FIRST, 60),
        ({"m.txt": TWICE}, FIRST, BY_FIRST, 60),
        ({"m.jsonl": lines(BINARY)}, "the classes are accept and", {"label_column": "answer"}, 40),
        ({"m.json": TWO_QUESTIONS}, "to one of them: mood, x", {"label_column": "x"}, 60),
        ({"m.tsv": PLAIN}, f"{ROWS_ALIKE}2 and data.label_column to 1", BY_NUMBER, 60),
        ({"m.json": LISTS}, f"{ROWS_ALIKE}1 and data.label_column to 2", IN_ORDER, 60),
        ({"m.json": {"a": OBJECTS, "b": OBJECTS}}, "set data.text_column to a.0.NAME", BY_A, 60),
        (
            {"m.json": {"train": LISTS[:40], "test": LISTS[40:]}},
            "m.json/train: line 1: no column text: the line looks",
            IN_ORDER,
            60,
        ),
    ],
)
def test_what_is_not_clear_is_refused_with_params_that_work(
    files: Files, message: str, remedy: dict[str, Any], rows: int
) -> None:
    assert message in refused(files)
    assert sum(sizes(write(files), **remedy)) == rows


SHORT = {**PAIR, "labels.txt": PAIR["labels.txt"][5:]}
NO_FIRST = {**PAIR, "labels.txt": "\n" + PAIR["labels.txt"][5:]}
UNEVEN = {"columns": ["text", "label"], "data": [*ROWS, ["a"]]}
QUOTED = '"label"\t"text"\n"a"\t"b"\n"a"\t"he said "x" y"\n'


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (SHORT, "labels.txt: line 60: missing; texts.txt has it"),
        (NO_FIRST, "texts.txt: line 1: no label in labels.txt"),
        ({"train_text.txt": "a", "test_text.txt": "b"}, "the labels in a second file, test_labels"),
        ({"train_text.txt": "a", "test_text.txt": "b"}, "where each file is a class, join them"),
        ({**PAIR, "m.csv": NUMBERED}, "holds texts.txt and its labels, and m.csv. Fix: keep one"),
        ({**FOLDERS, "m.csv": NUMBERED}, "holds a folder for each class, and m.csv. Fix: keep one"),
        ({**FOLDERS, "none/x.bin": ""}, "/none: holds no text file"),
        ({**FOLDERS, "late/x.txt": ""}, "late/x.txt: empty text"),
        ({**FOLDERS, "late/x.txt": b"\xe9"}, "late/x.txt: not UTF-8"),
        ({**FOLDERS, "late/x.txt": TEXTS[1]}, "fine/01.txt:1 and mine/late/x.txt:1: one text with"),
        ({"m.txt": f"{FASTTEXT}no label\n__label__late\n"}, "line 61: no label"),
        ({"m.txt": "late +++ it came\n"}, "line 1: neither fastText (__label__x text) nor a tab"),
        ({"m.csv": f"{NUMBERED}a,b,c\n"}, "line 62: 3 cells where there should be 2"),
        ({"m.csv": "1,it came late\nx\n"}, "looks like a row, not like names: 1, it came late"),
        ({"m.csv": NUMBERED.encode() + b"caf\xe9,1\n"}, "line 62: not UTF-8. Fix: save the"),
        ({"m.tsv": QUOTED}, "line 3: not valid csv"),
        ({"m.json": [*studio(), OBJECTS[0]]}, "line 61: no row of Label Studio, as the first is"),
        ({"m.json": studio(cancelled=60)}, "line 1: no answer is left"),
        ({"m.json": {"text": TEXTS, "label": LABELS[1:]}}, "columns of unequal length: text 60, l"),
        ({"m.json": UNEVEN}, "line 61: empty text"),
        ({"m.json": {"test": OBJECTS, "x": OBJECTS}}, "several lists of rows: test, x"),
        ({"m.json": {}}, "line 1: no rows"),
        ({"m.json": TEXTS}, "not a JSON object. Fix: write each row as an object with its columns"),
    ],
)
def test_a_fault_in_a_form_is_refused_by_file_and_line(files: Files, message: str) -> None:
    assert message in refused(files)


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ("02", ["a", "b"], "label 2 is no number from 0 to 1 that has one of the 2 names"),
        ("12", ["a", "b", "c"], "the labels have neither 0 nor 3"),
        ("01", ["a", "a"], "each of them once"),
        ("01", "absent", "data.label_names: absent: cannot be read"),
    ],
)
def test_names_that_do_not_fit_the_numbers_are_refused(
    labels: str, names: list[str] | str, message: str
) -> None:
    rows = [f"{text},{labels[n % 2]}" for n, text in enumerate(TEXTS)]
    assert message in refused({"m.csv": "\n".join(["text,label", *rows])}, label_names=names)


LISTED = f"{NUMBERED}{NUMBERED[11:].replace('parcel', 'box').replace(',1', ',1#0')}"
BESIDE = {**FOLDERS, "late/x.md": "text", "readme.txt": "x"}


@pytest.mark.parametrize(
    ("files", "changes", "said"),
    [
        ({"m.json": studio(cancelled=6)}, {}, "left out of 60 rows: 6 skipped"),
        ({"m.json": argilla_1(discarded=6)}, {}, "left out of 60 rows: 6 skipped"),
        ({"m.json": studio("rude")}, BY_FIRST, "note: 6 of 60 rows have more than one label"),
        ({"m.tsv": f'label\ttext\n{PLAIN}late\t"Soon" they\n'}, {}, "tabs, without quoting, UTF-8"),
        (BESIDE, {}, "ignored: mine/late/x.md beside what is read"),
        ({"m.csv": LISTED}, {}, "30 of 120 labels are"),
        ({"m.csv": NUMBERED.replace(",1", ",4")}, {"label_names": "names.txt"}, "bad 50.0 %, good"),
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
