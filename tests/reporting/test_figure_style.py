"""The style of the figures: colours of the page in an SVG, and labels left alone."""

from __future__ import annotations

import re

import pytest

from stages.core.params import Params, load_params
from stages.reporting import figure_style, figures
from tests.support.example_results import example
from tests.support.tiny import ROOT


@pytest.fixture(scope="module")
def own() -> Params:
    return load_params(ROOT / "params.yaml")


def test_an_svg_takes_its_colours_from_the_page(own: Params) -> None:
    drawn = figures.draw(example(own, ["no", "yes"]))
    for name, figure in drawn.items():
        svg = figure_style.svg_of(figure)
        assert svg.startswith("<svg ")
        assert not re.search(r'^<svg [^>]*(width|height)="', svg)
        assert "var(--ink)" in svg
        assert not any(colour in svg for colour in figure_style.COLOURS.values()), name
    assert "var(--base)" in figure_style.svg_of(drawn["roc"])


def test_a_label_that_looks_like_a_colour_or_a_name_is_shown_as_it_is(own: Params) -> None:
    labels = [figure_style.COLOURS["base"], 'b id="x"']
    svg = figure_style.svg_of(figures.draw_confusion(example(own, labels)))
    assert all(f">{label}</text>" in svg for label in labels)
