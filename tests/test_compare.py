"""Stage compare: a case by hand, what it writes, and pairs that are none."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.compare import compare
from stages.core import paths
from stages.core.artefacts import read_json
from stages.core.errors import DataError, ModelError, UserError
from stages.core.params import Params
from stages.reporting.details import comparison_figures
from stages.reporting.records import identity_of
from stages.reporting.significance import paired_gain
from tests.support.tiny import new_process

pytestmark = pytest.mark.usefixtures("project")
FILES = (paths.BASE_PREDICTIONS, paths.ADAPTER_PREDICTIONS)
WRITTEN = [
    paths.COMPARISON,
    paths.DETAILS,
    paths.LADDER,
    paths.FLIPS,
    paths.SUSPECTS,
    paths.REPORT_HTML,
    paths.REPORT_MD,
    paths.MODEL_CARD,
]


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"id": str, "label": str, "predicted": str})


def result(params: Params) -> dict[str, float]:
    compare(params)
    content: dict[str, float] = json.loads(paths.COMPARISON.read_text(encoding="utf-8"))
    return content


def answer(path: Path, right: list[bool]) -> None:
    """Rewrite a prediction file so that just these rows are right."""
    frame = read(path)
    classes = [name.removeprefix("p_") for name in frame.columns[3:]]
    other = dict(zip(classes, reversed(classes), strict=True))
    frame["predicted"] = [
        label if good else other[label] for label, good in zip(frame["label"], right, strict=True)
    ]
    for name in classes:
        frame[f"p_{name}"] = [0.75 if said == name else 0.25 for said in frame["predicted"]]
    frame.to_csv(path, index=False)


def renamed(of: pd.DataFrame) -> pd.DataFrame:
    return of.assign(id=["new", *of["id"][1:]])


def hashes() -> dict[str, str]:
    files = [path for path in Path("metrics").rglob("*") if path.is_file()]
    return {
        str(file): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in [*files, paths.MODEL_CARD]
        if file not in FILES
    }


def refused(params: Params, error: type[UserError], message: str) -> None:
    before = hashes()
    with pytest.raises(error) as caught:
        compare(params)
    assert message in str(caught.value)
    assert "dvc repro" in str(caught.value)
    assert hashes() == before  # nothing half-written


def test_a_case_by_hand(params: Params) -> None:
    rows = len(read(FILES[0]))
    answer(FILES[0], [number < 10 for number in range(rows)])
    answer(FILES[1], [number >= 2 for number in range(rows)])
    found = result(params)
    assert found["rows"] == rows == 20
    assert (found["fixed"], found["broken"]) == (10, 2)
    assert (found["accuracy_base"], found["accuracy_adapter"]) == (0.5, 0.9)
    assert found["accuracy_gain"] == 0.4
    assert found["mcnemar_p"] == pytest.approx(2 * (1 + 12 + 66) / 2**12, rel=5e-3)
    assert 0 < found["accuracy_gain_low"] < 0.4 < found["accuracy_gain_high"] < 1
    # 12 flipped rows: 10 to 2 are significant, 9 to 3 are not.
    assert found["accuracy_gain_smallest"] == 8 / 20
    assert found["accuracy_base_low"] == pytest.approx(0.299, abs=1e-3)  # Wilson, 10 of 20
    assert found["accuracy_base_high"] == pytest.approx(0.701, abs=1e-3)
    tfidf = read(paths.TFIDF_PREDICTIONS)
    right = (tfidf["label"] == tfidf["predicted"]).to_numpy()
    assert found["accuracy_tfidf"] == right.mean()
    assert found["accuracy_gain_tfidf"] == pytest.approx(0.9 - right.mean())
    assert found["broken_tfidf"] == right[:2].sum()


def test_a_small_p_is_not_rounded_to_zero() -> None:
    gain = paired_gain(np.zeros(100, dtype=bool), np.ones(100, dtype=bool))
    assert 0 < comparison_figures(gain, gain)["mcnemar_p"] < 1e-29


def test_everything_is_written_and_the_same_each_time(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in WRITTEN:
        path.unlink()
    compare(params)
    assert capsys.readouterr().out.startswith("base ")
    first = hashes()
    assert {str(path) for path in WRITTEN} <= set(first)
    assert {"metrics/figures/ladder.png", "metrics/curves/answered_base.csv"} <= set(first)
    compare(params)
    assert hashes() == first


def test_details_have_the_same_keys_for_both(params: Params) -> None:
    compare(params)
    details = json.loads(paths.DETAILS.read_text(encoding="utf-8"))
    assert details["base"].keys() == details["adapter"].keys()
    assert details["adapter"]["accuracy"] == result(params)["accuracy_adapter"]
    assert details["made_of"] == identity_of(read_json(paths.ADAPTER_MANIFEST))


def test_the_ladder_ends_with_this_run(params: Params) -> None:
    found = result(params)
    ladder = pd.read_csv(paths.LADDER)
    assert ladder["rung"].iloc[-1] == "LoRA"
    assert ladder["accuracy"].iloc[-1] == pytest.approx(found["accuracy_adapter"])


def test_flipped_rows_stand_in_a_file_with_their_texts(params: Params) -> None:
    found = result(params)
    flips = pd.read_csv(paths.FLIPS)
    changes = flips["change"].value_counts()
    assert changes.get("fixed", 0) == found["fixed"]
    assert changes.get("broken", 0) == found["broken"]
    texts = pd.read_parquet(paths.TEST).set_index("id")["text"]
    assert (flips["text"] == texts[flips["id"]].to_numpy()).all()


def test_equal_predictions_are_no_gain(params: Params) -> None:
    FILES[1].write_bytes(FILES[0].read_bytes())
    found = result(params)
    assert found["accuracy_gain"] == 0
    # No row of 20 flipped: up to 1 - 0.025 ** (1 / 20) of all rows may (Clopper-Pearson).
    assert (
        found["accuracy_gain_high"] == -found["accuracy_gain_low"] == pytest.approx(0.168, abs=1e-3)
    )
    assert found["mcnemar_p"] == 1
    assert "not distinguishable from zero" in paths.REPORT_MD.read_text(encoding="utf-8")


SWAPPED = {"negative": "positive", "positive": "negative"}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda of: of[1:], DataError, "1 rows are in one of the two only"),
        (lambda of: renamed(of), DataError, "2 rows are in one of the two only"),
        (lambda of: pd.concat([of, of[:1]]), DataError, "adapter.csv: line 22: its id occurs twi"),
        (lambda of: of.assign(label=of["label"].map(SWAPPED)), DataError, "disagree on the true l"),
        (lambda of: of.assign(p_positive=np.inf), DataError, "line 2: a probability is not finite"),
        (lambda of: of.rename(columns={"p_positive": "p_x"}), ModelError, "is no class of the fil"),
    ],
)
def test_pairs_that_are_none_are_refused(
    params: Params, change: Any, error: type[UserError], message: str
) -> None:
    change(read(FILES[1])).to_csv(FILES[1], index=False)
    refused(params, error, message)


def test_a_test_set_of_one_class_is_refused(params: Params) -> None:
    for path in FILES:
        read(path).assign(label="positive").to_csv(path, index=False)
    refused(params, DataError, "every test row is of the class positive")


def test_predictions_of_other_rows_than_the_test_rows_are_refused(params: Params) -> None:
    for path in (*FILES, paths.TFIDF_PREDICTIONS):
        renamed(read(path)).to_csv(path, index=False)
    refused(params, DataError, "its rows are not those of data/test.parquet")


def test_the_stage_imports_no_torch() -> None:
    code = "import sys, stages.compare as c; from stages.core.params import load_params\n"
    code += "c.compare(load_params()); assert not {'torch', 'transformers'} & set(sys.modules)"
    process = new_process(code)
    output, _ = process.communicate()
    assert process.returncode == 0, output
