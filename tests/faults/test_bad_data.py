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
from stages.prepare import prepare
from tests.support.faults import LAST_LINE, Run, assert_succeeded, code_of_stage, stage
from tests.support.tiny import params_for, save_params, save_table, table

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
    capfd: pytest.CaptureFixture[str],
) -> None:
    random_bytes = random.Random(0)  # noqa: S311  # not for secrets
    for number in range(200):
        path = paths.RAW / f"random.{('csv', 'tsv', 'jsonl', 'parquet')[number % 4]}"
        path.write_bytes(random_bytes.randbytes(random_bytes.randint(1, 400)))
        assert exit_code_of(partial(prepare, params_for(path))) == 3
        for line in capfd.readouterr().err.splitlines():
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
def test_training_does_not_open_the_test_rows() -> None:
    hook = """
import sys
def watch(event, arguments):
    if event == "open" and str(arguments[0]).endswith("test.parquet"):
        print("OPENED", arguments[0], flush=True)
sys.addaudithook(watch)
open("data/test.parquet").close()
print("from here on", flush=True)
"""
    done = Run(hook + code_of_stage("train_lora")).finish()
    before, _, after = assert_succeeded(done).partition("from here on")
    assert "OPENED data/test.parquet" in before  # the hook works
    assert "OPENED" not in after


@pytest.mark.guard("label in the text")
def test_a_word_that_gives_the_label_away_is_reported(params: Params) -> None:
    rows = [(f"{text} {label}ish", label) for text, label in table(classes=2)]
    save_params(params)
    outputs = []
    for given in (table(classes=2), rows):
        save_table(given)
        assert_succeeded(stage("prepare"))
        outputs.append(assert_succeeded(stage("evaluate_tfidf")))
    assert "warning" not in outputs[0]
    assert "warning: the word negativeish alone separates negative" in outputs[1]
    assert "100.0 %" in outputs[1]


@pytest.mark.guard("group in two splits")
def test_a_group_in_two_splits_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    folder = paths.RAW / "mine"
    folder.mkdir()
    header = "text,label,film"
    rows = [f"{row},film {number // 4}" for number, row in enumerate(GOOD)]
    (folder / "train.csv").write_text(lines(*rows[:82], header=header), encoding="utf-8")
    (folder / "test.csv").write_text(lines(*rows[82:], header=header), encoding="utf-8")
    params = params_for(folder, group_column="film")
    assert exit_code_of(lambda: prepare(params)) == 3
    errors = capfd.readouterr().err
    assert "data.group_column: film: groups in two splits: film 20" in errors
    assert exit_code_of(lambda: prepare(params_for(folder))) == 0


@pytest.mark.usefixtures("project")
def test_a_link_out_of_the_repository_is_replaced_not_followed(tmp_path: Path) -> None:
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
    for name in ("prepare", "fetch_base"):
        assert_succeeded(stage(name))
    assert {path: sha256_of(path) for path in hashes} == hashes
    assert len(list(outside.rglob("*"))) == len(hashes) + 1
    for path in (paths.TRAIN, paths.LABELS, paths.DATA_SUMMARY, paths.BASE_MODEL):
        assert not path.is_symlink()


ESCAPES = "\x1b[2J\x1b[1;31m", "\r", "\u202e", "\x07", "\x9b2J", "\u2066"


@pytest.mark.guard("escaped characters")
@pytest.mark.parametrize("place", ["text", "label"])
def test_control_characters_of_the_data_are_escaped_in_messages(place: str) -> None:
    evil = "".join(ESCAPES) + "[ERROR] fake"
    row = {"text": "a", "label": "b", place: f"{evil} "}
    rows: list[dict[str, Any]] = [{"text": t, "label": n} for t, n in table(classes=2)]
    rows += [{**row, "text": f"{row['text']}{n}"} for n in range(3)] + [{**row, "label": 0.5}]
    path = paths.RAW / f"{evil}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    code = (
        "import sys, json; sys.path.insert(0, '.')\n"
        "from pathlib import Path\n"
        "from tests.support.tiny import params_for\n"
        "from stages import prepare\n"
        "from stages.core.errors import exit_code_of\n"
        f"sys.exit(exit_code_of(lambda: prepare.prepare(params_for(Path({str(path)!r})))))"
    )
    done = Run(code).finish()
    assert done.returncode == 3, done.stdout
    assert all(c.isprintable() or c == "\n" for c in done.stdout), ascii(done.stdout)
    assert not any(line.startswith("[ERROR]") for line in done.stdout.splitlines())
    assert "\\x1b[2J" in done.stdout
