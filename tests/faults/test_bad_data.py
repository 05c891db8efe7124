"""Faults of data: texts and labels that are broken, leaking, enormous or hostile."""

from __future__ import annotations

import json
import random
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.errors import exit_code_of
from stages.core.params import Params
from stages.evaluate_tfidf import evaluate_tfidf
from stages.fetch_base import fetch_base
from stages.prepare import prepare
from stages.train_lora import train_lora
from tests.support.faults import LAST_LINE, Run, assert_ends, assert_succeeded, code_of_stage
from tests.support.tiny import params_for, save_params, save_table, table

Capture = pytest.CaptureFixture[str]
GOOD = [f"{text},{label}" for text, label in table(classes=2)]
OUTPUTS = (paths.TRAIN, paths.VALIDATION, paths.TEST, paths.LABELS, paths.DATA_SUMMARY)
MINE = paths.RAW / "mine.csv"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths.RAW.mkdir(parents=True)


def lines(*rows: str, header: str = "text,label") -> str:
    return "\n".join([header, *rows]) + "\n"


@pytest.mark.slow
def test_two_hundred_files_of_random_bytes_cause_no_traceback(
    capsys: Capture,
) -> None:
    random_bytes = random.Random(0)  # noqa: S311  # not for secrets
    for number in range(200):
        path = paths.RAW / f"random.{('csv', 'tsv', 'jsonl', 'parquet')[number % 4]}"
        path.write_bytes(random_bytes.randbytes(random_bytes.randint(1, 400)))
        assert exit_code_of(partial(prepare, params_for(path))) == 3
        for line in capsys.readouterr().err.splitlines():
            assert LAST_LINE.fullmatch(line), line
            assert str(path) in line or "params.yaml" in line, line
        assert not [output for output in OUTPUTS if output.exists()]


PEAK_MEMORY = f"""
import resource
try:
    {code_of_stage("prepare")}
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["word " * 10_000_000, "\U0001f600" * 1_000_000, "e" + "\u0301" * 1_000_000],
    ids=["50 MB", "emoji", "marks"],
)
def test_a_giant_cell_is_read_within_bounded_memory(text: str, params: Params) -> None:
    save_table(table(classes=2))
    with MINE.open("a", encoding="utf-8") as file:
        file.write(f"{text},positive\n")
    save_params(params)
    output = assert_succeeded(Run(PEAK_MEMORY).finish())
    assert int(output.rpartition("peak ")[2]) * 1024 < 1_500_000_000
    assert json.loads(paths.DATA_SUMMARY.read_text(encoding="utf-8"))["characters_max"] == len(text)


@pytest.mark.usefixtures("project")
def test_training_does_not_open_the_test_rows(params: Params) -> None:
    before = paths.ADAPTER_WEIGHTS.read_bytes()
    paths.TEST.write_bytes(b"no table")
    train_lora(params)
    assert paths.ADAPTER_WEIGHTS.read_bytes() == before


@pytest.mark.guard("label in the text")
def test_a_word_that_gives_the_label_away_is_reported(params: Params, capsys: Capture) -> None:
    rows = [(f"{text} {label}ish", label) for text, label in table(classes=2)]
    outputs = []
    for given in (table(classes=2), rows):
        save_table(given)
        prepare(params)
        evaluate_tfidf(params)
        outputs.append(capsys.readouterr().out)
    assert "warning" not in outputs[0]
    assert "warning: the word negativeish alone separates negative" in outputs[1]
    assert "100.0 %" in outputs[1]


@pytest.mark.guard("group in two splits")
def test_a_group_in_two_splits_is_refused(capsys: Capture) -> None:
    folder = paths.RAW / "mine"
    folder.mkdir()
    header = "text,label,film"
    rows = [f"{row},film {number // 4}" for number, row in enumerate(GOOD)]
    (folder / "train.csv").write_text(lines(*rows[:82], header=header), encoding="utf-8")
    (folder / "test.csv").write_text(lines(*rows[82:], header=header), encoding="utf-8")
    params = params_for(folder, group_column="film")
    message = "data.group_column: film: groups in two splits: film 20"
    assert_ends(partial(prepare, params), capsys, 3, message)
    assert exit_code_of(lambda: prepare(params_for(folder))) == 0


@pytest.mark.usefixtures("project")
def test_a_link_out_of_the_repository_is_replaced_not_followed(
    params: Params, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    hashes = {}
    for path in (paths.TRAIN, paths.LABELS, paths.DATA_SUMMARY):
        target = outside / path.name
        target.write_text("not ours", encoding="utf-8")
        hashes[target] = sha256_of(target)
        path.unlink()
        path.symlink_to(target)
    other_base = outside / "base"
    other_base.mkdir()
    (other_base / "precious").write_text("not ours", encoding="utf-8")
    hashes[other_base / "precious"] = sha256_of(other_base / "precious")
    shutil.rmtree(paths.BASE_MODEL)
    paths.BASE_MODEL.symlink_to(other_base)
    prepare(params)
    fetch_base(params)
    assert {path: sha256_of(path) for path in hashes} == hashes
    assert len(list(outside.rglob("*"))) == len(hashes) + 1
    for path in (paths.TRAIN, paths.LABELS, paths.DATA_SUMMARY, paths.BASE_MODEL):
        assert not path.is_symlink()


ESCAPES = "\x1b[2J\x1b[1;31m", "\r", "\u202e", "\x07", "\x9b2J", "\u2066"


@pytest.mark.guard("escaped characters")
@pytest.mark.parametrize("place", ["text", "label"])
def test_control_characters_of_the_data_are_escaped_in_messages(
    place: str, capsys: Capture
) -> None:
    evil = "".join(ESCAPES) + "[ERROR] fake"
    row = {"text": "a", "label": "b", place: f"{evil} "}
    rows: list[dict[str, Any]] = [{"text": t, "label": n} for t, n in table(classes=2)]
    rows += [{**row, "text": f"{row['text']}{n}"} for n in range(3)] + [{**row, "label": 0.5}]
    path = paths.RAW / f"{evil}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    output = assert_ends(partial(prepare, params_for(path)), capsys, 3, "\\x1b[2J")
    assert all(c.isprintable() or c == "\n" for c in output), ascii(output)
    assert not any(line.startswith("[ERROR]") for line in output.splitlines())
