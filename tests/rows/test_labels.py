"""Labels: their order as classes, and what is refused as one."""

from pathlib import Path

import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.rows.labels import label_list
from stages.sources.locate import DataSource
from tests.support.tables import Rows, assert_not_prepared, sizes, table

TWO: Rows = [(f"text {number}", "pos" if number % 2 else "neg") for number in range(60)]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_labels_that_look_like_integers_are_just_labels() -> None:
    assert sum(sizes(table([(f"text {n}", ("-1", "--1")[n % 2]) for n in range(60)]))) == 60


@pytest.mark.parametrize("label", ["\\ud800", "a\\u0000"])
def test_a_label_that_cannot_be_written_is_refused(label: str) -> None:
    lines = [f'{{"text": "t{n}", "label": "{("ok", label)[n % 2]}"}}' for n in range(60)]
    Path("mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
    fault = assert_not_prepared(Path("mine.jsonl"))
    assert "mine.jsonl: lines 2, 4, 6, 8, 10 and 25 more: holds" in fault


def listed(labels: list[str], names: tuple[str, ...] | None = None) -> list[str]:
    rows = pd.DataFrame({"label": labels, "split": "all", "file": "f", "line": range(len(labels))})
    return label_list(rows, DataSource({"all": Path("f")}, "", label_names=names))


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (["b", "a"], None, ["a", "b"]),
        (["10", "9", "-1"], None, ["-1", "9", "10"]),
        (["10", "9", "x"], None, ["10", "9", "x"]),
        (["1", "01"], None, ["01", "1"]),
        (["1" * 30, "2"], None, ["1" * 30, "2"]),
        (["²", "1"], None, ["1", "²"]),
        (["pos", "neg"], ("pos", "other", "neg"), ["pos", "neg"]),
        (["pos", "new"], ("pos", "neg"), ["new", "pos"]),
        (["e", "d", "c", "b", "a"], None, ["a", "b", "c", "d", "e"]),
    ],
)
def test_the_order_of_the_classes(
    labels: list[str], names: tuple[str, ...] | None, expected: list[str]
) -> None:
    assert listed(labels * 3, names) == expected


def test_more_classes_than_anyone_has_are_refused() -> None:
    with pytest.raises(DataError, match="1001 different labels"):
        listed([f"c{number:04}" for number in range(1001)] * 3)


def test_the_rarer_of_two_spellings_is_the_wrong_one() -> None:
    with pytest.raises(DataError) as caught:
        listed(["pos"] * 5 + ["neg"] * 5 + ["POS"])
    assert str(caught.value).startswith(
        "error: f: line 10: label POS differs from another in case only, did you mean pos? Fix: "
    )
