"""Figures: one style, the same bytes each time, and readable whatever the labels are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from stages.core.params import Params, load_params
from stages.reporting import figure_style, figures
from tests.support.example_results import HOSTILE, example
from tests.support.tiny import ROOT


@pytest.fixture(scope="module")
def own() -> Params:
    return load_params(ROOT / "params.yaml")


@pytest.mark.parametrize("labels", [["no", "yes"], HOSTILE, ["日本", "русский", "🙂"]])
@pytest.mark.filterwarnings("error")
def test_figures_are_the_same_bytes_each_time(
    own: Params, tmp_path: Path, labels: list[str]
) -> None:
    results = example(own, labels)
    for folder in ("one", "two"):
        figure_style.save_pngs(figures.draw(results), tmp_path / folder)
    names = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert names == [f"{name}.png" for name in sorted(figures.draw(results))]
    for name in names:
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "two" / name).read_bytes()
        assert content.startswith(b"\x89PNG")


@pytest.mark.parametrize(("classes", "numbers"), [(3, True), (12, False)])
def test_confusion_shows_numbers_or_a_scale(own: Params, classes: int, numbers: bool) -> None:
    figure = figures.draw_confusion(example(own, [f"class {n}" for n in range(classes)]))
    assert bool(figure.axes[0].texts) is numbers
    assert len(figure.axes) == (2 if numbers else 4)  # a colour bar beside each


def test_a_cell_holds_share_and_count_of_true_and_predicted(own: Params) -> None:
    results = example(own, ["no", "yes"])
    table = results.curves.confusion["base"]
    texts = {tuple(cell.get_position()): cell.get_text() for cell in
             figures.draw_confusion(results).axes[0].texts}  # fmt: skip
    share = 100 * table[0, 1] / table[0].sum()
    assert texts[(1, 0)] == f"{share:.1f} %\n{table[0, 1]}"  # x: predicted, y: true


def test_labels_that_are_alike_when_cut_are_told_apart(own: Params) -> None:
    axes = figures.draw_confusion(example(own, [f"a very long class {n}" for n in range(3)])).axes
    names = [tick.get_text() for tick in axes[0].get_yticklabels()]
    assert names == ["1: a very ...", "2: a very ...", "3: a very ..."]


def test_a_test_set_of_one_class_has_no_area_to_show(own: Params) -> None:
    results = example(own, ["no", "yes"])
    details = {name: scores | {"roc_auc": None} for name, scores in results.details.items()}
    legend = figures.draw_roc(replace(results, details=details)).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["chance", "base", "adapter"]


def test_no_axis_label_is_cut_off(own: Params) -> None:
    for name, figure in figures.draw(example(own, ["no", "yes"])).items():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib left it untyped
        for axes in figure.axes:
            for label in (axes.xaxis.label, axes.yaxis.label):
                box = label.get_window_extent()
                inside = figure.bbox.padded(0.5).count_contains(box.corners()) == 4
                assert inside or not label.get_text(), (name, label.get_text())
