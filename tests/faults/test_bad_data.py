"""Rows 33 to 43, 47 and 50: texts and labels that are broken, leaking, enormous or hostile."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages import prepare as prepared
from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.params import Params
from stages.running.exit_codes import exit_code_of
from tests.support.faults import LAST_LINE, Run, run_of, stage
from tests.support.tiny import params_for, save_params, save_table, table

GOOD = [f"{text},{label}" for text, label in table(classes=2)]
OUTPUTS = (paths.TRAIN, paths.VALIDATION, paths.TEST, paths.LABELS, paths.DATA_SUMMARY)
MINE = paths.RAW / "mine.csv"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths.RAW.mkdir(parents=True)


def prepare(
    content: bytes | str,
    capfd: pytest.CaptureFixture[str],
    name: str = "mine.csv",
    code: int = 3,
    **options: str,
) -> str:
    """Prepare a file that must be refused, and return what was said; nothing may be written."""
    path = paths.RAW / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    assert exit_code_of(lambda: prepared.prepare(params_for(path, **options))) == code
    said = capfd.readouterr().err
    assert said, content
    for line in said.splitlines():
        assert LAST_LINE.fullmatch(line), line
        assert str(path) in line or "params.yaml" in line, line
    assert not [output for output in OUTPUTS if output.exists()]
    return said


def lines(*rows: str, header: str = "text,label") -> str:
    return "\n".join([header, *rows]) + "\n"


def bad_files() -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of files that no training may start from."""
    whole = lines(*GOOD).encode()
    for place in range(12, len(whole), len(whole) // 25):  # a byte that no UTF-8 text has
        yield "byte.csv", whole[:place] + b"\xff" + whole[place:]
    for number in range(0, 100, 5):  # a row that is ragged
        yield "ragged.csv", lines(*GOOD[:number], f"{GOOD[number]},x", *GOOD[number:]).encode()
    for number in range(0, 100, 5):  # a row without a text, one without a label
        yield "text.csv", lines(*GOOD[:number], ",positive", *GOOD[number:]).encode()
        yield "label.csv", lines(*GOOD[:number], f"new {number},", *GOOD[number:]).encode()
    for number in range(0, 100, 10):  # a cell that never closes
        yield "quote.csv", lines(*GOOD[:number], '"open', *GOOD[number:]).encode()
    objects = [json.dumps(dict(zip(("text", "label"), r, strict=True))) for r in table(classes=2)]
    for broken in ("{", "[]", "3", "null", '"a"', '{"text": 1}', '{"text": "a"', "{'text': 'a'}"):
        yield "json.jsonl", "\n".join([*objects, broken]).encode()
    for content in (b"", b"PAR1", b"PAR1" + bytes(50) + b"PAR1", whole):
        yield "no.parquet", content
    for empty in (b"", b"\n\n", b"text,label\n", b"\xef\xbb\xbf", b"text\n", b" , \n"):
        yield "empty.csv", empty
    yield "columns.csv", lines(*GOOD, header="txt,label").encode()
    yield "columns.csv", lines(*GOOD, header="text,text").encode()
    yield (
        "columns.csv",
        lines(*(row.replace(",", ";") for row in GOOD), header="text;label").encode(),
    )
    yield "one.csv", lines(*(row.replace("negative", "positive") for row in GOOD)).encode()
    yield "ids.csv", lines(*(f"text {n},id {n}" for n in range(100))).encode()
    yield "nul.csv", lines(*GOOD, "a\0b,positive").encode()


def test_row_33_more_than_a_hundred_bad_files_are_refused_each(
    capfd: pytest.CaptureFixture[str],
) -> None:
    files = list(bad_files())
    assert len({content for _, content in files}) > 100
    for name, content in files:
        prepare(content, capfd, name)


@pytest.mark.slow
def test_row_33_two_hundred_files_of_chance_bytes_make_no_traceback(
    capfd: pytest.CaptureFixture[str],
) -> None:
    chance = random.Random(0)  # noqa: S311  # not for secrets
    for number in range(200):
        ending = ("csv", "tsv", "jsonl", "parquet")[number % 4]
        prepare(chance.randbytes(chance.randint(1, 400)), capfd, f"chance.{ending}")


def test_row_33_bytes_are_named_by_line_and_place(capfd: pytest.CaptureFixture[str]) -> None:
    text = lines(*GOOD[:3]).encode()
    said = prepare(text + b"caf\xe9,positive\n", capfd)
    assert f"line 5: byte {len(text) + 3} is not UTF-8" in said
    assert "line 5: holds a NUL" in prepare(text + b"a\0b,positive\n", capfd)
    surrogate = '{"text": "\\ud800", "label": "a"}\n'
    assert "line 1: holds half of a surrogate" in prepare(surrogate, capfd, "mine.jsonl")


def test_row_33_a_mark_of_byte_order_is_no_part_of_the_header() -> None:
    MINE.write_bytes(b"\xef\xbb\xbf" + lines(*GOOD).encode())
    prepared.prepare(params_for(MINE))
    assert all(output.exists() for output in OUTPUTS)


def test_row_34_every_kind_of_fault_comes_with_its_lines(
    capfd: pytest.CaptureFixture[str],
) -> None:
    said = prepare(lines(*GOOD, ",positive", "  ,negative", "a,", "b,", "c, ", *["d,"] * 5), capfd)
    assert "lines 102, 103: empty text" in said
    assert "lines 104, 105, 106, 107, 108 and 3 more: no label" in said


PEAK = """
import resource
from stages import prepare as it
try:
    it.run_stage(it.prepare)
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["word " * 10_000_000, "\U0001f600" * 1_000_000, "e" + "\u0301" * 1_000_000],
    ids=["50 MB", "emoji", "marks"],
)
def test_row_35_a_giant_cell_stays_within_bounds(text: str, params: Params) -> None:
    save_table(table(classes=2))
    with MINE.open("a", encoding="utf-8") as file:
        file.write(f"{text},positive\n")
    save_params(params)
    done = Run(PEAK).finish()
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.rpartition("peak ")[2]) * 1024 < 1_500_000_000
    assert json.loads(paths.DATA_SUMMARY.read_text(encoding="utf-8"))["characters_max"] == len(text)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("postive", "line 2: label postive is not in train, did you mean positive?"),
        ("Positive", "line 2: label Positive is not in train, did you mean positive?"),
        (" positive", "line 2: label ' positive' has spaces around it"),
        ("positive ", "line 2: label 'positive ' has spaces around it"),
    ],
)
def test_row_36_a_misspelt_label_is_named_with_a_guess(
    label: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = paths.RAW / "mine"
    folder.mkdir()
    (folder / "train.csv").write_text(lines(*GOOD), encoding="utf-8")
    (folder / "test.csv").write_text(lines(f"a new one,{label}"), encoding="utf-8")
    assert exit_code_of(lambda: prepared.prepare(params_for(folder))) == 3
    assert said in capfd.readouterr().err


def test_row_37_classes_that_cannot_be_learnt_or_tested_are_refused(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert "only one class" in prepare(lines(*(f"t {n},a" for n in range(30))), capfd)
    assert "are too few" in prepare(lines(*GOOD, "only one,neutral"), capfd)
    assert "are too few" in prepare(lines("x,a", "y,b"), capfd)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('"two\nlines"', "two\nlines"),
        ('"say ""yes"" now"', 'say "yes" now'),
        ("=cmd()", "=cmd()"),
        ("@SUM(1)", "@SUM(1)"),
        ('"a, b"', "a, b"),
        ("  kept as it is ", "  kept as it is "),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_row_38_cells_stay_as_they_are(text: str, kept: str, end: str) -> None:
    import pandas as pd

    rows = end.join(["text,label", *GOOD, f"{text},positive", ""])
    MINE.write_bytes(rows.encode())
    prepared.prepare(params_for(MINE))
    splits = (paths.TRAIN, paths.VALIDATION, paths.TEST)
    assert kept in {text for path in splits for text in pd.read_parquet(path)["text"]}


@pytest.mark.parametrize(
    "copy",
    ["A plain text", "a PLAIN text", " a  plain\ttext ", "a plain te\u200bxt", "a plain te\uff58t"],
    ids=["exact", "case", "space", "zero-width", "NFKC"],
)
def test_row_39_a_text_in_two_splits_is_refused_by_both_places(
    copy: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = paths.RAW / "mine"
    folder.mkdir()
    (folder / "train.csv").write_text(lines(*GOOD, "A plain text,positive"), encoding="utf-8")
    test = [f"another {n},{label}" for n, label in enumerate(("positive", "negative"))]
    (folder / "test.csv").write_text(lines(*test, f"{copy},positive"), encoding="utf-8")
    assert exit_code_of(lambda: prepared.prepare(params_for(folder))) == 3
    said = capfd.readouterr().err
    assert f"{folder}/test.csv:4 and {folder}/train.csv:102: one text in two splits" in said


def test_row_40_one_text_with_two_labels_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    said = prepare(lines(*GOOD, "Twice,positive", "twice,negative"), capfd)
    assert "mine.csv:102 and" in said
    assert "mine.csv:103: one text with two labels" in said


@pytest.mark.usefixtures("project")
def test_row_41_training_opens_no_test_row() -> None:
    hook = """
import sys
def watch(event, arguments):
    if event == "open" and str(arguments[0]).endswith("test.parquet"):
        print("OPENED", arguments[0], flush=True)
sys.addaudithook(watch)
open("data/test.parquet").close()
print("from here on", flush=True)
"""
    done = Run(hook + run_of("train_lora")).finish()
    assert done.returncode == 0, done.stdout
    before, _, after = done.stdout.partition("from here on")
    assert "OPENED data/test.parquet" in before  # the hook sees it
    assert "OPENED" not in after


def test_row_42_a_word_that_gives_the_label_away_is_told(params: Params) -> None:
    rows = [(f"{text} {label}ish", label) for text, label in table(classes=2)]
    save_table(rows)
    save_params(params)
    assert stage("prepare").returncode == 0
    done = stage("evaluate_tfidf")
    assert done.returncode == 0, done.stdout
    assert "warning: the word negativeish alone tells negative" in done.stdout
    assert "100.0 %" in done.stdout


def test_row_42_words_of_an_honest_text_are_not(params: Params) -> None:
    save_table(table(classes=2))
    save_params(params)
    assert stage("prepare").returncode == 0
    assert "warning" not in stage("evaluate_tfidf").stdout


def grouped(groups: list[str]) -> list[str]:
    return [f"{row},{group}" for row, group in zip(GOOD, groups, strict=True)]


def test_row_43_a_group_in_two_splits_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    folder = paths.RAW / "mine"
    folder.mkdir()
    header = "text,label,film"
    rows = grouped([f"film {number // 4}" for number in range(100)])
    (folder / "train.csv").write_text(lines(*rows[:82], header=header), encoding="utf-8")
    (folder / "test.csv").write_text(lines(*rows[82:], header=header), encoding="utf-8")
    params = params_for(folder, group_column="film")
    assert exit_code_of(lambda: prepared.prepare(params)) == 3
    said = capfd.readouterr().err
    assert "data.group_column: film: 1 group is in two splits: film 20" in said
    assert exit_code_of(lambda: prepared.prepare(params_for(folder))) == 0


def test_row_43_a_group_is_drawn_whole() -> None:
    import pandas as pd

    groups = [f"film {number // 4}" for number in range(100)]
    MINE.write_text(lines(*grouped(groups), header="text,label,film"), encoding="utf-8")
    prepared.prepare(params_for(MINE, group_column="film", test_fraction=0.2))
    of = dict(zip((text for text, _ in table(classes=2)), groups, strict=True))
    splits = [
        {of[text] for text in pd.read_parquet(path)["text"]}
        for path in (paths.TRAIN, paths.VALIDATION, paths.TEST)
    ]
    assert not splits[0] & splits[1]
    assert not splits[0] & splits[2]
    assert not splits[1] & splits[2]
    assert len(splits[2]) == 5  # a fifth of 25 films


def test_row_43_a_row_without_a_group_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    rows = grouped(["film"] * 99 + [""])
    said = prepare(lines(*rows, header="text,label,film"), capfd, group_column="film")
    assert "line 101: no group" in said
    said = prepare(lines(*GOOD), capfd, group_column="film")
    assert "no column film" in said


@pytest.mark.usefixtures("project")
def test_row_47_a_link_out_of_the_repository_is_replaced_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    kept = {}
    for path in (paths.TRAIN, paths.LABELS, paths.DATA_SUMMARY):
        target = outside / path.name
        target.write_text("not ours", encoding="utf-8")
        kept[target] = sha256_of(target)
        path.unlink()
        path.symlink_to(target)
    elsewhere = outside / "base"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("not ours", encoding="utf-8")
    kept[elsewhere / "precious"] = sha256_of(elsewhere / "precious")
    shutil.rmtree(paths.BASE_MODEL)
    paths.BASE_MODEL.symlink_to(elsewhere)
    for name in ("prepare", "fetch_base"):
        done = stage(name)
        assert done.returncode == 0, done.stdout
    assert {path: sha256_of(path) for path in kept} == kept
    assert len(list(outside.rglob("*"))) == len(kept) + 1
    for path in (paths.TRAIN, paths.LABELS, paths.DATA_SUMMARY, paths.BASE_MODEL):
        assert not path.is_symlink()


ESCAPES = "\x1b[2J\x1b[1;31m", "\r", "\u202e", "\x07", "\x9b2J", "\u2066"


@pytest.mark.parametrize("place", ["text", "label"])
def test_row_50_nothing_of_the_data_moves_the_cursor(place: str) -> None:
    evil = "".join(ESCAPES) + "[ERROR] fake"
    row = {"text": "a", "label": "b", place: f"{evil} "}
    rows = [{"text": t, "label": n} for t, n in table(classes=2)]
    rows += [{**row, "text": f"{row['text']}{n}"} for n in range(3)] + [{**row, "label": 0.5}]
    path = paths.RAW / f"{evil}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    code = (
        "import sys, json; sys.path.insert(0, '.')\n"
        "from pathlib import Path\n"
        "from tests.support.tiny import params_for\n"
        "from stages import prepare\n"
        "from stages.running.exit_codes import exit_code_of\n"
        f"sys.exit(exit_code_of(lambda: prepare.prepare(params_for(Path({str(path)!r})))))"
    )
    done = Run(code).finish()
    assert done.returncode == 3, done.stdout
    assert all(c.isprintable() or c == "\n" for c in done.stdout), ascii(done.stdout)
    assert not any(line.startswith("[ERROR]") for line in done.stdout.splitlines())
    assert "\\x1b[2J" in done.stdout
