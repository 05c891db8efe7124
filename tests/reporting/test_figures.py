"""Figures: one style, the same bytes each time, and readable whatever the labels are."""

import base64
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle

from stages.reporting import figures
from tests.support.example_results import HOSTILE, example
from tests.support.tiny import shipped


@pytest.mark.parametrize("labels", [HOSTILE, ["日本", "русский", "🙂"]])
@pytest.mark.filterwarnings("error")
def test_figures_are_the_same_bytes_each_time(tmp_path: Path, labels: list[str]) -> None:
    results = example(shipped(), labels)
    for folder in ("one", "two"):
        figures.save_pngs(figures.draw(results), tmp_path / folder)
    names = sorted(file.stem for file in (tmp_path / "one").iterdir())
    assert names == ["answered", "confusion", "ladder", "reliability", "training"]
    for name in names:
        content = (tmp_path / "one" / f"{name}.png").read_bytes()
        assert content == (tmp_path / "two" / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG")


@pytest.mark.parametrize(("classes", "numbers"), [(3, True), (12, False)])
def test_confusion_shows_shares_or_a_scale(classes: int, numbers: bool) -> None:
    results = example(shipped(), [f"class {n}" for n in range(classes)])
    figure = figures.draw_confusion(results)
    cells = {tuple(cell.get_position()): cell.get_text() for cell in figure.axes[0].texts}
    assert len(figure.axes) == (2 if numbers else 4)  # a colour bar beside each
    of = results.predictions["base"]
    said = of["predicted"][of["label"] == "class 0"]
    expected = {(1, 0): f"{(said == 'class 1').mean():.1%}"} if numbers else {}  # predicted, true
    assert {place: cells[place] for place in expected} == expected
    assert bool(cells) is numbers


def test_what_has_no_content_is_left_out() -> None:
    many = example(shipped(), [f"class {number}" for number in range(21)], trained=False)
    assert not {"confusion", "training"} & set(figures.draw(many))


@pytest.mark.parametrize(("kept", "rows", "step"), [("trained", 500, 10), ("trained", 12, 30),
                                                    ("base", 500, None)])  # fmt: skip
def test_the_kept_step_is_marked(kept: str, rows: int, step: int | None) -> None:
    results = example(shipped(), ["no", "yes"])
    results = replace(results, kept=kept, data=results.data | {"rows_validation": rows})
    assert figures.kept_step(results) == step
    labels = figures.draw_training(results).axes[0].get_legend_handles_labels()[1]
    assert ("kept" in labels) is (step is not None)


def test_labels_that_are_alike_when_cut_are_told_apart() -> None:
    results = example(shipped(), [f"a very long class {n}" for n in range(3)])
    names = [tick.get_text() for tick in figures.draw_confusion(results).axes[0].get_yticklabels()]
    assert names == ["1: a very ...", "2: a very ...", "3: a very ..."]


def test_the_reliability_shows_both_models_and_the_adapter_before_its_temperature() -> None:
    results = example(shipped(), ["no", "yes"])
    curves, counts = figures.draw_reliability(results).axes
    titles = [title.split(",")[0] for title in curves.get_legend_handles_labels()[1]]
    assert titles == ["perfect", "base", "adapter", "adapter before its temperature"]
    bars = [bar for bar in counts.patches if isinstance(bar, Rectangle)]
    assert sum(bar.get_height() for bar in bars) == 2 * 200  # the rows of each bin


def test_no_axis_label_is_cut_off() -> None:
    for name, figure in figures.draw(example(shipped(), ["no", "yes"])).items():
        FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]  # matplotlib left it untyped
        for axes in figure.axes:
            for label in (axes.xaxis.label, axes.yaxis.label):
                box = label.get_window_extent()
                inside = figure.bbox.padded(0.5).count_contains(box.corners()) == 4
                assert inside or not label.get_text(), (name, label.get_text())


def test_a_label_is_shown_as_it_is() -> None:
    labels = ["$a", 'b id="x" <i>']
    svg = figures.svg_of(figures.draw_confusion(example(shipped(), labels)))
    texts = ElementTree.fromstring(base64.b64decode(svg)).itertext()  # noqa: S314  # our own
    assert set(labels) <= set(texts)
