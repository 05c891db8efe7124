"""Pair base and adapter row by row: the gain, its significance, where it lies, and the report."""

from stages.core import artefacts, paths
from stages.core.params import Params
from stages.reporting import card, details, figure_style, figures, ladder, page
from stages.reporting.gather import gather
from stages.reporting.ladder import comparison_figures
from stages.reporting.results import Results


def compare(params: Params) -> None:
    """Write the comparison, the details, the ladder, the flips and the report to metrics/."""
    results = gather(params)
    write(results)
    print(results.verdict)
    for caveat in results.caveats:
        print(f"note: {caveat}")


def write(results: Results) -> None:
    """Write the files of `metrics/`, and the model card next to the adapter."""
    drawn = figures.draw(results)
    texts = {paths.REPORT_MD: page.report_md(results), paths.MODEL_CARD: card.model_card(results)}
    artefacts.write_json(paths.COMPARISON, comparison_figures(results.gain), decimals=None)
    artefacts.write_json(paths.DETAILS, results.details)
    ladder.write_ladder(results.ladder, paths.LADDER)
    details.write_rows(results.flips.rows, paths.FLIPS)
    details.write_rows(results.flips.suspects, paths.SUSPECTS)
    details.write_curves(results.curves, paths.CURVES)
    with artefacts.replacing(paths.FIGURES) as folder:
        figure_style.save_pngs(drawn, folder)
    page.write_page(results, drawn, paths.REPORT_HTML)
    for path, text in texts.items():
        with artefacts.replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
