"""Pair adapter, base and TF-IDF row by row: the gains, what they are worth, and the report."""

from stages.core import artefacts, paths
from stages.core.params import Params
from stages.reporting import card, details, figure_style, figures, ladder, page, search
from stages.reporting.answer import answer
from stages.reporting.gather import gather
from stages.reporting.ladder import comparison_figures
from stages.reporting.results import Results

# The columns of DVC's tables, beside those of metrics/adapter.json, and where they come from.
TABLE = {
    "base": "accuracy_base",
    "tfidf": "accuracy_tfidf",
    "gain": "accuracy_gain",
}


def compare(params: Params) -> None:
    """Write the comparison, the details, the ladder, the flips and the report to metrics/."""
    results = gather(params)
    write(results)
    print(results.verdict)
    for question, said in answer(results):
        print(f"{question} {'. '.join(said)}")
    for warning in results.warnings:
        print(f"note: {warning}")
    print(f"report: {paths.REPORT_HTML}")
    print('try it:  bert-lora predict "a text"')
    print(f"keep it: git add {paths.LOCK} {paths.PARAMS} {paths.COMPARISON.parent}")


def write(results: Results) -> None:
    """Write the files of `metrics/`, and the model card next to the adapter."""
    drawn = figures.draw(results)
    texts = {paths.REPORT_MD: page.report_md(results), paths.MODEL_CARD: card.model_card(results)}
    found = comparison_figures(results.gain, results.over_tfidf)
    floors = {r.key: r.accuracy for r in results.ladder if r.key in ("majority", "untrained")}
    artefacts.write_json(paths.COMPARISON, found, decimals=None)
    artefacts.write_json(paths.GAIN, {name: found[key] for name, key in TABLE.items()})
    own = {"floors": floors, "made_of": results.made_of}
    artefacts.write_json(paths.DETAILS, results.details | own)
    ladder.write_ladder(results.ladder, paths.LADDER)
    details.write_rows(results.flips.rows, paths.FLIPS)
    details.write_rows(results.flips.suspects, paths.SUSPECTS)
    trials = search.history(results.search[0] if results.search else [])
    details.write_curves(results.curves, {"search": trials}, paths.CURVES)
    with artefacts.replacing(paths.FIGURES) as folder:
        figure_style.save_pngs(drawn, folder)
    page.write_page(results, drawn, paths.REPORT_HTML)
    for path, text in texts.items():
        with artefacts.replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
