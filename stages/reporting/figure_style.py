"""The one style of all figures: base orange and dashed, adapter blue and solid; PNG and SVG.

The two differ in brightness and in line style, so they differ in grey print and for colour-blind
readers (colours: Okabe & Ito 2008). matplotlib draws each figure once: as a PNG file, and as
an SVG inside the page, whose colours are CSS variables, so that it suits light and dark.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

# What is drawn, and the name of the CSS variable that takes its place in an SVG.
COLOURS = {
    "ink": "#1b1f24",
    "muted": "#6b7178",
    "grid": "#d5d9de",
    "base": "#e69f00",
    "adapter": "#0072b2",
    "paper": "#fefefe",
}
WIDTH = 5.6  # inches: on a phone the letters of a figure stay legible
LINES = {"base": "--", "adapter": "-"}
MARKERS = {"base": "s", "adapter": "o"}
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.titlecolor": COLOURS["ink"],
    "axes.facecolor": "none",
    "figure.facecolor": COLOURS["paper"],
    "xtick.color": COLOURS["ink"],
    "ytick.color": COLOURS["ink"],
    "text.color": COLOURS["ink"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"],
    "legend.frameon": False,
    "text.parse_math": False,  # a label may hold a dollar sign
    "svg.fonttype": "none",
    "svg.hashsalt": "bert-lora-dvc",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the style of the project while the block runs."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box, and that is it.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        yield


def new_figure(
    width: float, height: float, columns: int = 1, rows: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure of so many inches and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def svg_of(figure: Figure) -> str:
    """Return the figure as an SVG element: transparent, its colours CSS variables."""
    file = io.StringIO()
    with style():
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r"<[^>]*>", lambda tag: _themed(tag[0], used), svg)  # tags alone: not the labels
    # The page says how wide a figure is; its viewBox keeps the proportions.
    opening, rest = svg.split(">", 1)
    return re.sub(r' (width|height)="[^"]*"', "", opening) + ">" + rest


def _themed(tag: str, used: set[str]) -> str:
    """Return an SVG tag with CSS variables for colours, and no name that nothing points at.

    Such a name, for example axes_1, would be in the page once for each figure.
    """
    for name, colour in COLOURS.items():
        tag = tag.replace(colour, f"var(--{name})")
    return re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", tag)


def save_pngs(figures: dict[str, Figure], folder: Path) -> None:
    """Write each figure as a PNG file, 150 dots an inch; the same bytes for the same content."""
    folder.mkdir()
    with style():
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=150, metadata={"Software": None})
