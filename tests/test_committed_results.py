"""The committed metrics have the agreed form, agree with each other, and show a real gain."""

import json
from typing import Any

import pytest

from stages.rows.splits import COUNTS
from tests.support.tiny import ROOT

NAMES = ("base", "adapter", "comparison", "data")


def text_of(name: str) -> str:
    return (ROOT / "metrics" / f"{name}.json").read_text(encoding="utf-8")


def metrics(name: str) -> Any:
    return json.loads(text_of(name))


def test_base_and_adapter_have_the_same_flat_numeric_keys() -> None:
    base, adapter = metrics("base"), metrics("adapter")
    assert base.keys() == adapter.keys()
    assert set(base) == {"accuracy", "f1_macro", "log_loss"}
    for value in [*base.values(), *adapter.values()]:
        assert isinstance(value, float)


@pytest.mark.parametrize("name", NAMES)
def test_files_are_written_in_the_agreed_form(name: str) -> None:
    content = metrics(name)
    assert text_of(name) == json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert "NaN" not in text_of(name)


def test_comparison_agrees_with_the_scores() -> None:
    comparison, rows = metrics("comparison"), metrics("data")["rows_test"]
    assert comparison["rows"] == rows
    assert comparison["accuracy_base"] == metrics("base")["accuracy"]
    assert comparison["accuracy_adapter"] == metrics("adapter")["accuracy"]
    assert comparison["accuracy_tfidf"] == metrics("tfidf")["accuracy"]
    for over in ("", "_tfidf"):
        net = comparison[f"fixed{over}"] - comparison[f"broken{over}"]
        assert comparison[f"accuracy_gain{over}"] == pytest.approx(net / rows, abs=1e-6)
    assert metrics("gain")["gain"] == comparison["accuracy_gain"]


def test_the_gain_is_real() -> None:
    comparison = metrics("comparison")
    assert comparison["accuracy_gain_low"] > 0
    assert comparison["mcnemar_p"] < 0.001
    assert comparison["accuracy_base"] > metrics("details")["floors"]["majority"] + 0.1


def test_no_row_is_lost_between_the_source_and_the_splits() -> None:
    data = metrics("data")
    left_out = sum(
        data[f"rows_{why}"]  # "source" is the first
        for why in COUNTS[1:]
    )
    kept = sum(data[f"rows_{split}"] for split in ("train", "validation", "test"))
    assert kept + left_out == data["rows_source"]
