"""Stage compare: hand-computed cases, known statistics, and pairs that are none."""

from __future__ import annotations

import json
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy.stats import binomtest

from stages.compare import RESAMPLES, compare, compare_pairs, pair, read_predictions, verdict
from stages.shared import paths
from stages.shared.errors import DataError, HostError, ModelError, UserError
from stages.shared.params import Params, load_params

HEADER = "id,label,predicted,p_no,p_yes\n"
BASE = ["a,no,no,0.9,0.1", "b,yes,no,0.6,0.4", "c,yes,no,0.7,0.3", "d,no,yes,0.2,0.8"]
ADAPTER = ["a,no,yes,0.4,0.6", "b,yes,yes,0.1,0.9", "c,yes,yes,0.3,0.7", "d,no,yes,0.1,0.9"]


@pytest.fixture
def params() -> Params:
    return load_params(ROOT / "params.yaml")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths.BASE_PREDICTIONS.parent.mkdir(parents=True)
    save(BASE, ADAPTER)


def save(base: list[str], adapter: list[str], header: str = HEADER) -> None:
    for path, lines in ((paths.BASE_PREDICTIONS, base), (paths.ADAPTER_PREDICTIONS, adapter)):
        path.write_text(header + "".join(f"{line}\n" for line in lines), encoding="utf-8")


def result(params: Params) -> dict[str, float]:
    compare(params)
    content: dict[str, float] = json.loads(paths.COMPARISON.read_text(encoding="utf-8"))
    return content


def refused(params: Params, error: type[UserError], message: str) -> None:
    with pytest.raises(error) as caught:
        compare(params)
    assert message in str(caught.value)
    assert "dvc repro -f " in str(caught.value)
    assert not paths.COMPARISON.exists()


def outcomes(both: int, fixed: int, broken: int, neither: int) -> tuple[pd.Series, pd.Series]:
    base = [True] * both + [False] * fixed + [True] * broken + [False] * neither
    adapter = [True] * both + [True] * fixed + [False] * broken + [False] * neither
    return pd.Series(base), pd.Series(adapter)


def test_a_small_case_by_hand(params: Params) -> None:
    found = result(params)
    low, high = found.pop("accuracy_gain_low"), found.pop("accuracy_gain_high")
    assert found == {
        "accuracy_base": 0.25,
        "accuracy_adapter": 0.5,
        "accuracy_gain": 0.25,
        "rows": 4,
        "fixed": 2,
        "broken": 1,
        "mcnemar_p": 1.0,
    }
    assert (low, high) == (-0.5, 1.0)


def test_the_order_of_the_rows_does_not_matter(params: Params) -> None:
    found = result(params)
    save(BASE, ADAPTER[::-1])
    assert result(params) == found


def test_equal_predictions_are_no_gain(params: Params) -> None:
    save(BASE, BASE)
    found = result(params)
    assert [found[f"accuracy_gain{part}"] for part in ("", "_low", "_high")] == [0, 0, 0]
    assert found["mcnemar_p"] == 1


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (5, 0), (3, 9), (30, 12), (400, 90)])
def test_mcnemar_is_the_exact_binomial_test(fixed: int, broken: int) -> None:
    found = compare_pairs(*outcomes(50, fixed, broken, 20), seed=1)["mcnemar_p"]
    flipped, fewer = fixed + broken, min(fixed, broken)
    tail = sum(comb(flipped, k) for k in range(fewer + 1)) / 2**flipped
    assert found == pytest.approx(min(1, 2 * tail), rel=5e-3)  # three digits are kept
    if flipped:
        assert found == pytest.approx(binomtest(fixed, flipped).pvalue, rel=5e-3)


@pytest.mark.parametrize(
    "counts", [(700, 60, 30, 210), (80, 10, 10, 0), (0, 40, 0, 60), (10, 2, 1, 7), (0, 30, 20, 0)]
)
def test_the_interval_is_that_of_resampled_rows(counts: tuple[int, int, int, int]) -> None:
    base, adapter = outcomes(*counts)
    gains = adapter.to_numpy().astype(int) - base.to_numpy().astype(int)
    drawn = np.random.default_rng(99).integers(len(gains), size=(RESAMPLES, len(gains)))
    plain = np.percentile(gains[drawn].mean(axis=1), [2.5, 97.5])
    found = compare_pairs(base, adapter, seed=1)
    error = max(1 / len(gains), 4 * gains.std() / len(gains) ** 0.5 * 0.03)  # of a percentile
    assert found["accuracy_gain_low"] == pytest.approx(plain[0], abs=error + 1e-9)
    assert found["accuracy_gain_high"] == pytest.approx(plain[1], abs=error + 1e-9)
    assert found["accuracy_gain"] == pytest.approx(gains.mean(), abs=1e-6)


def test_the_seed_alone_decides_the_interval() -> None:
    pairs = outcomes(300, 80, 40, 83)
    first, again, other = (compare_pairs(*pairs, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("base", "adapter", "error", "message"),
    [
        (BASE, ADAPTER[1:], DataError, "1 rows stand in one of base.csv and adapter.csv only"),
        (BASE[:2], ADAPTER, DataError, "2 rows stand in one of"),
        (BASE, [*ADAPTER[:3], "e,no,no,0.9,0.1"], DataError, "2 rows stand in one of"),
        (BASE, ["a,yes,yes,0.4,0.6", *ADAPTER[1:]], DataError, "disagree on labels"),
        (BASE, [*ADAPTER, ADAPTER[1]], DataError, "adapter.csv: line 6: its id stands twice"),
        ([*BASE, BASE[0]], ADAPTER, DataError, "base.csv: line 6: its id stands twice"),
        (BASE, ["a,no,no,nan,0.1", *ADAPTER[1:]], DataError, "adapter.csv: line 2: a probability"),
        ([*BASE[:3], "d,no,no,0.1,inf"], ADAPTER, DataError, "base.csv: line 5: a probability is"),
        ([*BASE[:3], "d,no,no,0.1,x"], ADAPTER, DataError, "base.csv: cannot be read"),
        ([*BASE[:3], "d,no,no,0.1,"], ADAPTER, DataError, "base.csv: "),
        ([*BASE[:3], "d,no,no,0.1,0.9,7"], ADAPTER, DataError, "base.csv: cannot be read"),
        (BASE, [], DataError, "adapter.csv: holds no predictions"),
    ],
)
def test_pairs_that_are_none_are_refused(
    params: Params, base: list[str], adapter: list[str], error: type[UserError], message: str
) -> None:
    save(base, adapter)
    refused(params, error, message)


@pytest.mark.parametrize(
    "header", ["id,label,predicted,p_no,p_maybe", "id,label,predicted,p_yes,p_no"]
)
def test_other_classes_are_refused(params: Params, header: str) -> None:
    lines = paths.ADAPTER_PREDICTIONS.read_text(encoding="utf-8").splitlines()
    paths.ADAPTER_PREDICTIONS.write_text("\n".join([header, *lines[1:]]) + "\n", encoding="utf-8")
    refused(params, ModelError, "base and adapter have other classes: ['p_no', 'p_yes'] and")


@pytest.mark.parametrize("lost", range(5))
def test_a_missing_column_is_refused(params: Params, lost: int) -> None:
    lines = [HEADER.strip(), *BASE]
    cut = [",".join(f for n, f in enumerate(line.split(",")) if n != lost) for line in lines]
    paths.BASE_PREDICTIONS.write_text("\n".join(cut) + "\n", encoding="utf-8")
    refused(params, DataError, "metrics/predictions/base.csv: ")


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00", b"id\n", b'"'])
def test_a_damaged_file_is_refused(params: Params, content: bytes) -> None:
    paths.BASE_PREDICTIONS.write_bytes(content)
    refused(params, DataError, "metrics/predictions/base.csv: ")


def test_a_missing_file_names_the_stage_that_makes_it(params: Params) -> None:
    paths.ADAPTER_PREDICTIONS.unlink()
    with pytest.raises(HostError, match="dvc repro evaluate_adapter"):
        compare(params)


@pytest.mark.parametrize(
    "names", [("0", "1"), ("01", "x"), ("1.0", "true"), ("NA", "null"), ("1e3", "")]
)
def test_labels_are_strings_whatever_they_look_like(params: Params, names: tuple[str, str]) -> None:
    header = f"id,label,predicted,p_{names[0]},p_{names[1]}\n"
    base = [f"{n},{names[n % 2]},{names[0]},0.9,0.1" for n in range(4)]  # always the first
    adapter = [f"{n},{names[n % 2]},{names[n % 2]},0.9,0.1" for n in range(4)]
    save(base, adapter, header)
    found = result(params)
    assert (found["accuracy_base"], found["accuracy_adapter"]) == (0.5, 1)
    assert (found["fixed"], found["broken"]) == (2, 0)


def test_ids_are_strings_whatever_they_look_like(params: Params) -> None:
    save(["1e5,no,no,0.9,0.1", "100000,no,no,0.9,0.1"], ["1e5,no,no,0.9,0.1", "100000,no,yes,0,1"])
    assert result(params)["broken"] == 1


def test_a_pair_says_which_of_the_two_is_right() -> None:
    pairs = pair(
        read_predictions(paths.BASE_PREDICTIONS), read_predictions(paths.ADAPTER_PREDICTIONS)
    )
    assert pairs["id"].tolist() == ["a", "b", "c", "d"]
    assert pairs["right_base"].tolist() == [True, False, False, False]
    assert pairs["right_adapter"].tolist() == [False, True, True, False]


def comparison(**changes: float) -> dict[str, float | int]:
    return {
        "accuracy_base": 0.75,
        "accuracy_adapter": 0.8125,
        "accuracy_gain": 0.0625,
        "accuracy_gain_low": 0.031,
        "accuracy_gain_high": 0.094,
        "rows": 1057,
        "fixed": 100,
        "broken": 34,
        "mcnemar_p": 0.0042,
        **changes,
    }


def test_a_clear_gain_in_one_sentence() -> None:
    assert verdict(comparison()) == (
        "base 75.00 %, adapter 81.25 %: gain +6.25 points, 95 % interval 3.10 to 9.40, p = 0.004 "
        "on 1,057 rows (100 fixed, 34 broken)"
    )


@pytest.mark.parametrize(
    ("low", "high", "clear"),
    [
        (0.01, 0.02, True),
        (-0.02, -0.01, True),
        (-0.01, 0.01, False),
        (0, 0.01, False),
        (0, 0, False),
    ],
)
def test_an_interval_that_holds_zero_is_called_so(low: float, high: float, clear: bool) -> None:
    sentence = verdict(comparison(accuracy_gain_low=low, accuracy_gain_high=high))
    assert sentence.endswith("broken)" if clear else "not distinguishable from zero")


def test_a_loss_is_shown_as_one() -> None:
    lost = comparison(accuracy_gain=-0.0625, accuracy_gain_low=-0.094, accuracy_gain_high=-0.031)
    assert "gain -6.25 points, 95 % interval -9.40 to -3.10," in verdict(lost)


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (1.0, "p = 1.000"),
        (0.001, "p = 0.001"),
        (0.00099, "p < 1e-3"),
        (3e-9, "p < 1e-8"),
        (1e-300, "p < 1e-15"),
        (0.0, "p < 1e-15"),
    ],
)
def test_a_small_p_is_bounded_from_above(p: float, shown: str) -> None:
    assert f", {shown} on " in verdict(comparison(mcnemar_p=p))


def test_the_stage_prints_the_verdict(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    compare(params)
    assert capsys.readouterr().out.startswith("base 25.00 %, adapter 50.00 %: gain +25.00 points")
