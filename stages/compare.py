"""Pair base and adapter row by row: the gain, its significance, where it lies, and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.core import artefacts, paths
from stages.core.params import Params
from stages.rows.source_changed import warn_if_source_changed
from stages.running.run import run_stage

if TYPE_CHECKING:  # heavy libraries are imported once the params have been checked
    from stages.reporting.results import Results


def compare(params: Params) -> None:
    """Write the comparison, the details, the ladder, the flips and the report to metrics/."""
    from stages.reporting.gather import gather

    results = gather(params)
    write(results)
    print(results.verdict)
    for caveat in results.caveats:
        print(f"note: {caveat}")


def write(results: Results) -> None:
    """Write the files of `metrics/`, and the model card next to the adapter."""
    from stages.reporting import card, curves, figure_style, figures, flips, ladder, page
    from stages.reporting.comparison import comparison_figures

    drawn = figures.draw(results)
    texts = {paths.REPORT_MD: page.report_md(results), paths.MODEL_CARD: card.model_card(results)}
    artefacts.write_json(paths.COMPARISON, comparison_figures(results.gain), decimals=None)
    artefacts.write_json(paths.DETAILS, results.details)
    ladder.write_ladder(results.ladder, paths.LADDER)
    flips.write_rows(results.flips.rows, paths.FLIPS)
    flips.write_rows(results.flips.suspects, paths.SUSPECTS)
    curves.write_curves(results.curves, paths.CURVES)
    with artefacts.replacing(paths.FIGURES) as folder:
        figure_style.save_pngs(drawn, folder)
    page.write_page(results, drawn, paths.REPORT_HTML)
    for path, text in texts.items():
        with artefacts.replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    run_stage(compare, before=warn_if_source_changed)
