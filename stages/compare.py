"""Pair adapter, base and TF-IDF row by row: the gains, what they are worth, and the report."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open

from stages.core import artefacts, paths
from stages.core.errors import DataError
from stages.core.params import Params
from stages.reporting import details, figures, page, records
from stages.reporting.answer import answer, caveats
from stages.reporting.contenders import draw_contenders, read_contenders
from stages.reporting.results import MODELS, Results, headline, percent
from stages.reporting.significance import paired_gain
from stages.rows import prepared as splits
from stages.scoring.predictions import (
    aligned,
    labels_of,
    probabilities_of,
    read_predictions,
    targets_of,
)
from stages.training.curves import read_training_curves

# The columns of DVC's tables, beside those of metrics/adapter.json, and where they come from.
TABLE = {
    "base": "accuracy_base",
    "tfidf": "accuracy_tfidf",
    "gain": "accuracy_gain",
}
MAJORITY = 0.5  # share of the commonest class above which the verdict names macro F1
CUT = 0.1  # share of the rows that are cut, likewise
AGAIN = "score all again: dvc repro -f evaluate_tfidf evaluate_base evaluate_adapter"
PREDICTIONS = {
    "base": paths.BASE_PREDICTIONS,
    "adapter": paths.ADAPTER_PREDICTIONS,
    "tfidf": paths.TFIDF_PREDICTIONS,
}
FIT = ("l2", "temperature", "majority", "untrained", "untrained_sd")  # of the base's head
MANIFEST = ("base", "files", "kept", "made_of", "precision", "temperature")


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


def gather(params: Params) -> Results:
    """Return everything that the report shows of base and adapter; nothing is written.

    Raises:
        HostError: if a file is missing.
        DataError: if a file cannot be read or lacks a key, or the predictions are of other rows.
        ModelError: if the classes of base and adapter differ.
    """
    read = artefacts.read_object
    frames = read_aligned()
    predictions = {name: frames[name] for name in MODELS}
    test = splits.read_split(paths.TEST, splits.read_labels())
    if set(test.ids) != set(frames["base"]["id"]):
        raise DataError(f"{paths.BASE_PREDICTIONS}: its rows are not those of {paths.TEST}", AGAIN)
    rows = details.describe_rows(predictions, pd.read_parquet(paths.TEST))
    labels, targets = labels_of(frames["base"]), targets_of(frames["base"])
    tables = {name: probabilities_of(of) for name, of in predictions.items()}
    right = {name: (f["label"] == f["predicted"]).to_numpy() for name, f in frames.items()}
    gain = paired_gain(right["base"], right["adapter"])
    over_tfidf = paired_gain(right["tfidf"], right["adapter"])
    base = read(paths.BASE_METRICS, "accuracy") | read(paths.HEAD_FIT, *FIT)
    tfidf = read(paths.TFIDF_METRICS, "accuracy", "ngrams", "c", "warnings")
    manifest = read(paths.ADAPTER_MANIFEST, *MANIFEST)
    data = read(paths.DATA_SUMMARY, "rows_train", "rows_validation", "notes", "source_sha256")
    tokens = read(paths.TOKENS, "lengths", "notes", "warnings")
    temperatures = {"base": base["temperature"], "adapter": manifest["temperature"]}
    scores = {
        name: details.scores_of(table, targets, labels, temperatures[name])
        for name, table in tables.items()
    }
    identity, precision = records.identity_of(manifest), manifest["precision"]
    method, size = params.train.method, read_size()
    cost = f"{size['trained']:,} parameters, {size['bytes'] / 1e6:.1f} MB"
    seeds, notes = records.records_of_run(frames["base"], params, precision, identity)
    training, validation = read_training_curves(paths.TRAINING_CURVES)
    return Results(
        labels=labels,
        predictions=predictions,
        gain=gain,
        over_tfidf=over_tfidf,
        verdict=headline(gain, over_tfidf, beside_accuracy(scores, tokens)),
        details=scores,
        ladder=details.build_ladder(base, tfidf, gain.second, method, gain.rows, seeds, cost),
        against_full=details.against_full(seeds, method),
        rows=rows,
        groups=details.count_groups(rows),
        curves=details.trace_curves(tables, targets, temperatures["adapter"]),
        confused=details.confused_pairs(predictions),
        training=training,
        validation=validation,
        data=data,
        warnings=[
            *caveats(gain, data, len(labels), manifest["kept"]),
            *data["notes"],
            *tfidf["warnings"],
            *tokens["warnings"],
            *(note.partition(": ")[2] for note in tokens["notes"]),
            *notes,
        ],
        kept=manifest["kept"],
        size=size,
        seeds=seeds.get(method),
        search=records.search_of_run(params, data["source_sha256"]),
        curve=records.read_curve(records.curve_name(params, identity, precision)),
        contenders=read_contenders(),
        exports=records.exports_of(manifest["files"]),
        made_of=identity,
        params=params,
    )


def beside_accuracy(scores: dict[str, dict[str, Any]], tokens: dict[str, Any]) -> list[str]:
    """Return what the verdict says beside accuracies.

    That is macro F1 where one class has more than half of the test rows, and how many rows are cut
    where they are more than a tenth.

    Args:
        scores: of base and adapter, as `details.scores_of` returns them.
        tokens: of metrics/tokens.json.
    """
    counts = [of["rows"] for of in scores["adapter"]["by_class"].values()]
    cut, said = tokens["lengths"][0], []
    if max(counts) > MAJORITY * sum(counts):
        base, adapter = (scores[name]["f1_macro"] for name in ("base", "adapter"))
        said.append(f"macro F1 {adapter:.3f}, base {base:.3f}")
    if cut["rows_cut"] > CUT:
        said.append(f"{cut['max_length']} tokens cut {percent(cut['rows_cut'])} of the rows")
    return said


def read_aligned() -> dict[str, pd.DataFrame]:
    """Return the predictions of base, adapter and TF-IDF, row by row of the same test row."""
    frames = {
        name: read_predictions(artefacts.require(path), str(path), artefacts.remake(path))
        for name, path in PREDICTIONS.items()
    }
    for name in ("adapter", "tfidf"):
        both = (str(PREDICTIONS["base"]), str(PREDICTIONS[name]))
        frames["base"], frames[name] = aligned(frames["base"], frames[name], both, AGAIN)
    return frames


def read_size() -> dict[str, int]:
    """Return bytes and parameters of what was trained, and the parameters of the base."""

    def parameters(file: Path) -> int:
        with safe_open(file, framework="numpy") as weights:
            names = weights.keys()
            return sum(math.prod(weights.get_slice(name).get_shape()) for name in names)

    adapter = artefacts.require(paths.ADAPTER_WEIGHTS)
    base = sorted(artefacts.require(paths.BASE_MODEL).glob("*.safetensors"))
    return {
        "bytes": adapter.stat().st_size,
        "trained": parameters(adapter),
        "base": sum(parameters(file) for file in base),
    }


def write(results: Results) -> None:
    """Write the files of `metrics/`, and the model card next to the adapter."""
    drawn = figures.draw(results)
    if len(results.contenders):
        with figures.style():
            drawn["methods"] = draw_contenders(results.contenders)
    texts = {
        paths.REPORT_HTML: page.report_html(results, drawn),
        paths.REPORT_MD: page.report_md(results),
        paths.MODEL_CARD: page.model_card(results),
    }
    found = details.comparison_figures(results.gain, results.over_tfidf)
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
        for name, table in (results.curves | {"search": records.history(results.search)}).items():
            write_table(table, folder / f"{name}.csv")
    with artefacts.replacing(paths.FIGURES) as folder:
        figures.save_pngs(drawn, folder)
    for path, text in texts.items():
        with artefacts.replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, figures with six digits, the same bytes for the same content."""
    table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
