"""The command `bert-lora predict`: ways in, ways out, mistakes. On a tiny BERT."""

import csv
import io
import json
import math
import os
import re
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from stages.core import paths
from stages.core.errors import DataError
from stages.tools import predict
from stages.tools.predict import Request, json_line, read_texts
from tests.support.adapters import read_the_mean
from tests.support.command import Command, Terminal
from tests.support.server import Words

LABELS = ["negative", "positive"]
MAX_LENGTH = 32  # of the adapter; params.yaml says another by then
TEXTS = ["good w1", "bad", "a schön w2 w3 ."]
P = [f"p_{label}" for label in LABELS]


@pytest.fixture
def call(project: Path, command: Command) -> Command:
    """Return `bert-lora` for a project of which only models/ and params.yaml are left."""
    for name in ("data", "metrics"):
        shutil.rmtree(project / name)
    (project / "deep/er").mkdir(parents=True)
    text = paths.PARAMS.read_text(encoding="utf-8")
    assert f'"max_length": {MAX_LENGTH}' in text
    other = text.replace(f'"max_length": {MAX_LENGTH}', '"max_length": 8')
    paths.PARAMS.write_text(other, encoding="utf-8")
    # As the command does, where it is the first to import Transformers.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # untyped there
    return command


@pytest.fixture
def expected(project: Path) -> dict[str, list[list[float]]]:
    """Return the probabilities of TEXTS by base and adapter, from Transformers and PEFT alone."""
    base = project / "models/base"
    classifier = read_the_mean(
        AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(LABELS))
    )
    head = load_file(project / "models/head/head.safetensors")
    classifier.load_state_dict(head, strict=False)
    tokenizer = AutoTokenizer.from_pretrained(base)
    probabilities = {}
    for name in ("base", "adapter"):
        if name == "adapter":
            classifier = PeftModel.from_pretrained(classifier, project / "models/adapter")
        with torch.no_grad():
            logits = [
                classifier.eval()(**tokenizer(text, return_tensors="pt")).logits[0]
                for text in TEXTS
            ]
        probabilities[name] = torch.softmax(torch.stack(logits), dim=1).tolist()
    return probabilities


def best_of(probabilities: list[float]) -> tuple[str, Any]:
    highest = max(probabilities)
    return LABELS[probabilities.index(highest)], pytest.approx(highest, abs=1e-5)


def test_answers_are_those_of_transformers_and_peft(
    call: Command, expected: dict[str, list[list[float]]]
) -> None:
    result = call("predict", *TEXTS, "--with-base")
    assert (result.code, result.err) == (0, "")
    pairs = zip(expected["base"], expected["adapter"], strict=True)
    assert any(base != pytest.approx(tuned, abs=0.01) for base, tuned in pairs)
    for row, text, tuned, base in zip(
        result.rows, TEXTS, expected["adapter"], expected["base"], strict=True
    ):
        assert list(row) == ["text", "label", "probability", "base_label", "base_probability"]
        assert row["text"] == text
        assert (row["label"], row["probability"]) == best_of(tuned)
        assert (row["base_label"], row["base_probability"]) == best_of(base)


def test_a_folder_with_base_and_adapter_alone_is_enough(
    call: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = call("predict", *TEXTS)
    shutil.copytree("models", tmp_path / "bare/models")
    shutil.rmtree(tmp_path / "bare/models/head")
    (tmp_path / "bare/deeper").mkdir()
    monkeypatch.chdir(tmp_path / "bare/deeper")
    alone, with_base = call("predict", *TEXTS), call("predict", *TEXTS, "--with-base")
    assert (alone.code, alone.err) == (0, "")
    assert [row["label"] for row in alone.rows] == [row["label"] for row in inside.rows]
    assert with_base.code == 5
    assert with_base.err.startswith("error: models/head not found: stage 'evaluate_base' makes it.")


@pytest.mark.parametrize("ending", [".tsv", ".jsonl", ".parquet"])
def test_reads_a_file_from_a_folder_of_the_project(
    call: Command, project: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    frame = pd.DataFrame({"stars": [1, 2, 3], "review": TEXTS})
    file = project / f"deep/er/mine{ending}"
    if ending == ".parquet":
        frame.to_parquet(file)
    elif ending == ".jsonl":
        frame.to_json(file, orient="records", lines=True)
    else:
        frame.to_csv(file, sep="\t", index=False)
    monkeypatch.chdir(file.parent)
    result = call("predict", "--file", file.name, "--text-column", "review")
    monkeypatch.chdir(project)
    assert result.code == 0
    assert result.err.startswith(f"read: {file} (")
    assert result.rows == call("predict", *TEXTS).rows


@pytest.mark.parametrize("arguments", [["predict"], ["predict", "-"]])
def test_reads_lines_of_standard_input(call: Command, arguments: list[str]) -> None:
    lines = "\ufeffgood w1\r\nbad\na schön w2 w3 ."
    result = call(*arguments, stdin=lines.encode())
    assert [row["text"] for row in result.rows] == TEXTS
    assert "schön" in result.out
    assert result.rows == call("predict", *TEXTS).rows


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_writes_a_file(
    call: Command, project: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    texts = ['good, "\r=bad', "bad\u2028film", *TEXTS * 20]  # of several chunks
    monkeypatch.chdir(project / "deep")
    (project / "deep/mine.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8"
    )
    out = f"out{ending}"
    (project / "deep" / out).write_text("old", encoding="utf-8")
    arguments = ("--file", "mine.jsonl", "--all", "--with-base", "--output", out)
    result = call("predict", *arguments)
    assert (result.code, result.out) == (0, "")
    file = project / "deep" / out
    assert result.err.endswith(f"{file}: 62 rows\n")
    if ending == ".parquet":
        rows = pd.read_parquet(file).to_dict("records")
    elif ending == ".jsonl":
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    else:
        with file.open(encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle, quoting=csv.QUOTE_NONNUMERIC, strict=True))
    names = ["text", "label", "probability", "base_label", "base_probability"]
    assert {tuple(row) for row in rows} == {(*names, *P, *(f"base_{name}" for name in P))}
    for row, text in zip(rows, texts, strict=True):
        assert row["text"] == text
        for who in ("", "base_"):
            probabilities = [row[f"{who}{name}"] for name in P]
            assert sum(probabilities) == pytest.approx(1, abs=1e-7)
            assert row[f"{who}probability"] == max(probabilities)
            assert row[f"{who}label"] == LABELS[probabilities.index(max(probabilities))]
    assert [path.name for path in file.parent.glob(".*")] == []


def test_a_terminal_gets_lines_that_no_text_can_disturb(
    call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal("utf-8")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout", screen)
    texts = ["good \x1b[2J\n[bold]film[/bold] :smile:", "schön " * 40]
    assert call("predict", *texts, "--all", "--with-base").code == 0
    lines = re.sub(r"\x1b\[\d*m", "", screen.shown()).splitlines()
    assert lines[0].rstrip() == r"good \x1b[2J\n[bold]film[/bold] :smile:"
    names = [line.split()[0] for line in lines[1:6]]
    assert (names[:3], sorted(names[3:])) == (["adapter", "label", "probability"], P)
    adapter, base = zip(*(map(float, line.split()[1:]) for line in lines[4:6]), strict=True)
    assert sum(adapter) == pytest.approx(1) == pytest.approx(sum(base))
    assert adapter[0] > adapter[1]
    assert lines[6].startswith("schön schön ")
    assert max(map(len, lines)) <= 80


def test_json_on_a_terminal_is_one_safe_line(
    call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal("ascii")
    monkeypatch.setattr("sys.stdout", screen)
    text = "schön \x1b[2J \x9b2J \u202e"
    assert call("predict", text, "--json").code == 0
    assert json.loads(screen.shown())["text"] == text
    assert "schön" in screen.shown()
    assert not set("\x1b\x9b\u202e") & set(screen.shown())
    line = json_line({"text": "\u2028\x85\x1c"})
    assert len(line.splitlines()) == 1
    assert json.loads(line)["text"] == "\u2028\x85\x1c"


def test_a_reader_that_left_ends_it_quietly(call: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    errors = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", os.fdopen(writer, "w"))
        patch.setattr("sys.stderr", errors)
        result = call("predict", "good")
    assert (result.code, errors.getvalue()) == (1, "")


def test_probabilities_are_calibrated_and_raw_ones_can_be_had(call: Command, project: Path) -> None:
    shares, raw = (call("predict", "good", *more).rows[0] for more in ([], ["--raw"]))
    manifest = json.loads((project / paths.ADAPTER_MANIFEST).read_text(encoding="utf-8"))
    odds = [math.log(row["probability"] / (1 - row["probability"])) for row in (shares, raw)]
    assert odds[1] == pytest.approx(odds[0] * manifest["temperature"], rel=1e-5)
    assert odds[1] != pytest.approx(odds[0], rel=1e-3)


def test_counts_the_texts_that_are_cut(call: Command) -> None:
    fits, too_long = "good " * (MAX_LENGTH - 2), "good " * (MAX_LENGTH - 1)
    result = call("predict", fits, too_long, too_long)
    assert result.err == (
        "note: 2 of 3 texts have more than 32 tokens; the rest of them is not read\n"
    )
    assert len({row["probability"] for row in result.rows}) == 1


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "message"),
    [
        (["good", " "], b"", 3, "text 2: empty text"),
        (["bad\udcff"], b"", 3, "text 1: not UTF-8"),
        ([], b"", 3, "standard input: no text"),
        ([], b"good\n\t\r\nbad\n", 3, "standard input: line 2: empty text"),
        ([], b"good\nbad\xff\n", 3, "standard input: line 2: not UTF-8"),
        ([], b"a\x00b", 3, "standard input: line 1: holds a NUL character"),
        (["--file", "empty.csv"], b"", 3, "line 3: empty text"),
        (["--file", "no.csv"], b"", 3, "no.csv: no such file"),
        (["--file", "notes.txt"], b"", 3, "notes.txt: no table by its ending"),
        (["--file", "empty.csv", "--text-column", "test"], b"", 3, "did you mean text?"),
        (["--file", "list.jsonl"], b"", 3, "line 2: the text ['a'] is a list"),
        (["--file", "deep.jsonl"], b"", 3, "no column text, did you mean data.text?"),
        (["good", "--file", "empty.csv"], b"", 2, "both texts and --file"),
        (["good", "-"], b"", 2, "- together with other texts"),
        (["good", "--text-column", "text"], b"", 2, "--text-column without --file"),
        (["good", "--model", "out", "--with-base"], b"", 2, "both --model and --with-base"),
        (["good", "--output", "x.txt"], b"", 2, "x.txt: unknown ending. Fix: use one of .csv"),
        (["good", "--output", "no/x.csv"], b"", 2, "no/x.csv: is in no folder that exists"),
        (["good", "--output", "deep.csv"], b"", 2, "deep.csv: is a folder"),
        (["--file", "empty.csv", "--output", "empty.csv"], b"", 2, "would overwrite --file"),
        (["good", "--with"], b"", 2, "No such option: --with"),
        (["--file"], b"", 2, "requires an argument. Fix: see bert-lora"),
    ],
)
def test_a_mistake_ends_in_one_line(
    call: Command, project: Path, arguments: list[str], stdin: bytes, code: int, message: str
) -> None:
    (project / "empty.csv").write_text('id,text\n1,good\n2,""\n', encoding="utf-8")
    (project / "notes.txt").write_text("good\n", encoding="utf-8")
    (project / "deep.csv").mkdir()
    (project / "list.jsonl").write_text('{"text": 5}\n{"text": ["a"]}\n', encoding="utf-8")
    (project / "deep.jsonl").write_text('{"data": {"text": "a"}}\n' * 9, encoding="utf-8")
    result = call("predict", *arguments, stdin=stdin)
    assert result.code == code
    assert message in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == result.err.count(" Fix: ") == 1
    assert result.out == ""


def test_contradictions_are_reported_together(call: Command) -> None:
    result = call("predict", "good", "--file", "no.csv", "--output", "x.txt")
    assert result.code == 2
    assert result.err.count("error: bert-lora predict: ") == 2


def test_lines_are_read_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr("sys.stdin", os.fdopen(reader))
    os.write(writer, b"a\n")
    texts = read_texts(Request(()), "text")
    assert next(texts) == "a"
    os.write(writer, b" b \r\n")
    os.close(writer)
    assert list(texts) == [" b "]


def test_a_file_is_checked_to_its_end_before_anything_is_answered(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("text;id\n" + "a;1\n" * 5000 + ";2\nb;3\n;4\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"mine.csv: lines 5002, 5004: empty text"):
        next(read_texts(Request((), file), "text"))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_file_of_any_size_is_held_a_chunk_at_a_time(tmp_path: Path, ending: str) -> None:
    """A file of 40,000 texts of 1 kB, 40 MB, is answered in less memory than it takes."""
    file = tmp_path / f"texts.{ending}"
    frame = pd.DataFrame({"text": [f"{number} " * 150 for number in range(40_000)]})
    if ending == "csv":
        frame.to_csv(file, index=False)
    elif ending == "jsonl":
        frame.to_json(file, orient="records", lines=True)
    else:
        frame.to_parquet(file, row_group_size=1000)
    del frame
    silent = replace(Words().predictor(), score=lambda texts: np.zeros((len(texts), 2), np.float32))
    texts = read_texts(Request((), file), "text")
    tracemalloc.start()
    try:
        rows = sum(map(len, predict.answers(texts, {"": silent}, False)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == 40_000
    assert peak < 25_000_000
