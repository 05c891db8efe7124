"""Stage prepare: what it writes, what it leaves out, and what it refuses."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages import prepare as stage
from stages.core.errors import DataError
from stages.prepare import prepare
from stages.sources.locate import DataSource
from tests.support.tables import OUTPUTS, Rows, assert_not_prepared, official, summary, table
from tests.support.tiny import params_for

SPLITS = ("train", "validation", "test")
TWO: Rows = [(f"text {number}", "pos" if number % 3 else "neg") for number in range(60)]
INCOMPLETE: Rows = [*TWO, ("", "pos"), (" \t", "neg"), ("no label", "")]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def labels() -> list[str]:
    content: list[str] = json.loads(Path("data/labels.json").read_text(encoding="utf-8"))
    return content


def split(name: str) -> pd.DataFrame:
    return pd.read_parquet(f"data/{name}.parquet")


def written() -> dict[str, Any]:
    return {name: split(name).set_index("text")["label"].to_dict() for name in SPLITS}


def bytes_written() -> list[bytes]:
    return [path.read_bytes() for path in [*OUTPUTS, Path("metrics/data.json")]]


def prepared(source: Path, **changes: Any) -> dict[str, Any]:
    """Prepare the source, check that each of its rows is counted, and return the splits."""
    prepare(params_for(source, **changes))
    counts = {name: value for name, value in summary().items() if name.startswith("rows_")}
    del counts["rows_truncated_at_least"]
    assert counts.pop("rows_source") == sum(counts.values())
    return written()


def test_every_row_lands_in_one_split_with_its_label_and_the_shares_are_kept() -> None:
    parts = prepared(table(TWO))
    assert {name: len(rows) for name, rows in parts.items()} == dict(
        zip(SPLITS, (48, 6, 6), strict=True)
    )
    assert parts["train"] | parts["validation"] | parts["test"] == dict(TWO)
    shares = {name: rows["neg"] for name, rows in summary()["share"].items()}
    assert shares == {name: pytest.approx(1 / 3, abs=1e-6) for name in SPLITS}
    train = split("train")
    assert list(train.columns) == ["id", "text", "label"]
    hashes = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in train["text"]]
    assert train["id"].tolist() == hashes  # of the text alone


def test_texts_are_written_as_they_are() -> None:
    odd = ["=cmd()", " Padded  twice ", "ﬁne", "zero\u200bwidth", "two\r\nlines", "e\u0301"]
    parts = prepared(table([*TWO, *((text, "pos") for text in odd)], "mine.jsonl"))
    assert set(odd) <= set().union(*parts.values())


def test_official_splits_are_kept_and_validation_is_drawn_from_train_alone() -> None:
    test: Rows = [("new 1", "pos"), ("new 2", "neg")]
    parts = prepared(official(train=TWO, test=test))
    assert parts["test"] == dict(test)
    assert parts["train"] | parts["validation"] == dict(TWO)
    assert set(parts["validation"].values()) == {"pos", "neg"}
    parts = prepared(official(train=TWO, validation=[("v", "pos")], test=[("t", "neg")]))
    assert parts == {"train": dict(TWO), "validation": {"v": "pos"}, "test": {"t": "neg"}}


def test_a_rating_gives_the_label_by_its_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    ratings = ["0", "-0.0", *(["1.25", "-0.5"] * 15)]
    lines = [f"{number}\t{rating}\ttext {number}" for number, rating in enumerate(ratings)]
    Path("rated.txt").write_text("\r\n".join(lines), encoding="utf-8")
    source = DataSource(
        {"all": (Path("rated.txt"),)}, "0" * 64, ("id", "rating", "text"), "rating", ("bad", "good")
    )
    monkeypatch.setattr(stage, "locate_data", lambda *_: source)
    prepared(Path("rated"))
    assert labels() == ["bad", "good"]
    assert (summary()["rows_source"], summary()["rows_neutral"]) == (32, 2)
    assert summary()["source_sha256"] == "0" * 64
    rated = pd.concat([split(name) for name in SPLITS])
    assert set(zip(rated["rating"], rated["label"], strict=True)) == {(1.25, "good"), (-0.5, "bad")}


@pytest.mark.guard("text in two splits")
@pytest.mark.parametrize("end", ["", "\u200e", " ", "\u00a0\n"])
def test_texts_that_a_tokenizer_reads_alike_are_one_text(end: str) -> None:
    rows = [*TWO, *((text.upper() + end, label) for text, label in TWO)]
    parts = prepared(table(rows, "mine.jsonl"))
    assert summary()["rows_repeated"] == 60
    assert sum(map(len, parts.values())) == 60
    fault = assert_refused(official(train=TWO, test=[("new", "neg"), (f"text 7{end}", "pos")]))
    assert "mine/train.csv:9" in fault
    assert "mine/test.csv:3" in fault
    assert "data.on_leak to drop" in fault


def assert_refused(source: Path, **changes: Any) -> str:
    """Check that the source is refused, and that the old outputs are as they were."""
    before = bytes_written()
    with pytest.raises(DataError) as caught:
        prepare(params_for(source, **changes))
    assert bytes_written() == before
    assert not [path for path in Path("data").iterdir() if ".tmp" in path.name]
    return str(caught.value)


def test_dropping_leaks_keeps_test_over_validation_over_train() -> None:
    train: Rows = [*TWO, ("shared a", "pos"), ("shared b", "neg")]
    validation: Rows = [("Shared A", "pos"), ("Shared B", "neg"), ("v", "pos")]
    source = official(train=train, validation=validation, test=[("SHARED A", "pos"), ("t", "neg")])
    assert prepared(source, on_leak="drop") == {
        "test": {"SHARED A": "pos", "t": "neg"},
        "validation": {"Shared B": "neg", "v": "pos"},
        "train": dict(TWO),
    }
    assert summary()["rows_leaked"] == 3


CONTRADICTED: Rows = [*TWO, ("Text 1", "neg"), ("text  1", "pos"), ("Text 2", "neg")]


@pytest.mark.guard("text with two labels")
@pytest.mark.parametrize(
    ("on_conflict", "gone", "figures"),
    [("drop", {"text 1", "text 2"}, (5, 0, 0)), ("majority", {"text 2"}, (2, 1, 1))],
)
def test_rows_that_contradict_each_other_are_decided_and_counted(
    on_conflict: str, gone: set[str], figures: tuple[int, int, int]
) -> None:
    fault = assert_not_prepared(table(CONTRADICTED))
    assert "mine.csv:3 and mine.csv:62; mine.csv:4 and mine.csv:64: one text with two" in fault
    parts = prepared(table(CONTRADICTED), on_conflict=on_conflict)
    kept = set().union(*parts.values())
    assert set(dict(TWO)) - kept == gone
    counts = ("rows_conflict", "rows_outvoted", "rows_repeated")
    assert tuple(summary()[name] for name in counts) == figures
    assert summary()["agreement"] == 0.6  # three of the five labels of the two texts
    assert summary()["notes"][0].startswith("5 labels are of texts that have several; 60.0 %")


@pytest.mark.parametrize("spelled", ["Film {} ", "Film {}\u200b", "\uff26ilm {}", " FILM   {}"])
def test_groups_that_look_alike_are_one_group(spelled: str) -> None:
    lines = ["text,label,film"]
    for number in range(200):
        film = (spelled if number % 2 else "Film {}").format(number // 2 % 40)
        lines.append(f"text {number},{'ab'[number % 3 > 0]},{film}")
    Path("mine.csv").write_text("\n".join(lines), encoding="utf-8")
    prepare(params_for("mine.csv", group_column="film"))
    films = [{int(text.split()[1]) // 2 % 40 for text in split(name)["text"]} for name in SPLITS]
    assert sum(map(len, films)) == 40
    assert set().union(*films) == set(range(40))


def test_incomplete_rows_are_refused_by_line_or_counted() -> None:
    fault = assert_not_prepared(table(INCOMPLETE))
    assert "mine.csv: lines 62, 63: empty text" in fault
    assert "mine.csv: line 64: no label" in fault
    assert "data.on_incomplete to drop" in fault
    parts = prepared(table(INCOMPLETE), on_incomplete="drop")
    assert summary()["rows_incomplete"] == 3
    assert set().union(*parts.values()) == set(dict(TWO))
    assert_refused(table(INCOMPLETE))


def test_the_summary_names_no_place_and_has_every_note_that_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [f"text {n};['{'ab'[n % 2]}']" for n in range(60)]
    Path("mine.csv").write_text("\n".join(["sep=;", "text;label", *rows]), encoding="utf-8")
    prepare(params_for("mine.csv"))
    content = Path("metrics/data.json").read_text(encoding="utf-8")
    assert str(Path.cwd()) not in content
    assert "mine.csv" not in content
    assert summary()["source_sha256"] == hashlib.sha256(Path("mine.csv").read_bytes()).hexdigest()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "read: mine.csv (csv separated by semicolons, UTF-8)"
    notes = [line.removeprefix("note: ") for line in printed if line.startswith("note: ")]
    assert summary()["notes"] == notes
    starts = ["60 of 60 labels are lists wri", "the test set of 6"]
    assert [note[: len(start)] for note, start in zip(notes, starts, strict=True)] == starts
