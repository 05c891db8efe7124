"""Pair adapter, base and TF-IDF row by row: the gains, what they are worth, and the report."""

from pathlib import Path

import pandas as pd

from stages.core import artefacts, paths
from stages.core.params import Params
from stages.reporting import card, figures, page
from stages.reporting.answer import answer
from stages.reporting.gather import gather
from stages.reporting.ladder import comparison_figures
from stages.reporting.records import history
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
    texts = {
        paths.REPORT_HTML: page.report_html(results, drawn),
        paths.REPORT_MD: page.report_md(results),
        paths.MODEL_CARD: card.model_card(results),
    }
    found = comparison_figures(results.gain, results.over_tfidf)
    artefacts.write_json(paths.COMPARISON, found, decimals=None)
    artefacts.write_json(paths.GAIN, {name: found[key] for name, key in TABLE.items()})
    floors = {key: results.ladder.at[key, "accuracy"] for key in ("majority", "untrained")}
    own = {"floors": floors, "made_of": results.made_of}
    artefacts.write_json(paths.DETAILS, results.details | own)
    tables = {
        paths.LADDER: results.ladder.drop(columns="cost"),
        paths.FLIPS: results.flips,
        paths.SUSPECTS: results.suspects,
    }
    for path, table in tables.items():
        with artefacts.replacing(path) as temporary:
            write_table(table, temporary)
    with artefacts.replacing(paths.CURVES) as folder:
        folder.mkdir()
        for name, table in (results.curves | {"search": history(results.search)}).items():
            write_table(table, folder / f"{name}.csv")
    with artefacts.replacing(paths.FIGURES) as folder:
        figures.save_pngs(drawn, folder)
    for path, text in texts.items():
        with artefacts.replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, figures with six digits, the same bytes for the same content."""
    table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
