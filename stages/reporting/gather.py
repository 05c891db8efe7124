"""Read what the earlier stages wrote, pair it row by row, and compute what the report shows."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open

from stages.core import artefacts, paths
from stages.core.errors import DataError
from stages.core.params import Params
from stages.reporting import details, ladder, search
from stages.reporting.answer import caveats
from stages.reporting.curve import curve_name, read_curve
from stages.reporting.records import exports_of, identity_of, records_of_run
from stages.reporting.results import Results, headline, percent
from stages.reporting.significance import Gain, paired_gain
from stages.rows import prepared as splits
from stages.scoring.predictions import (
    aligned,
    labels_of,
    probabilities_of,
    read_predictions,
    targets_of,
)
from stages.training.curves import read_training_curves

AGAIN = "score all again: dvc repro -f evaluate_tfidf evaluate_base evaluate_adapter"
PREDICTIONS = {
    "base": paths.BASE_PREDICTIONS,
    "adapter": paths.ADAPTER_PREDICTIONS,
    "tfidf": paths.TFIDF_PREDICTIONS,
}
CUT = 0.1  # share of rows that lose text, above which the verdict says so
MAJORITY = 0.5  # share of the commonest class above which accuracy alone misleads


def gather(params: Params) -> Results:
    """Return everything that the report shows of base and adapter; nothing is written.

    Raises:
        HostError: if a file is missing.
        DataError: if a file cannot be read, or the predictions are of other rows.
        ModelError: if the classes of base and adapter differ.
    """
    frames = read_aligned()
    base, adapter = frames["base"], frames["adapter"]
    test_rows = read_test_rows(base)
    labels, targets = labels_of(base), targets_of(base)
    tables = {name: probabilities_of(frames[name]) for name in ("base", "adapter")}
    right = {name: (f["label"] == f["predicted"]).to_numpy() for name, f in frames.items()}
    gain = paired_gain(right["base"], right["adapter"])
    over_tfidf = paired_gain(right["tfidf"], right["adapter"])
    metrics = read_metrics()
    manifest = artefacts.read_object(
        paths.ADAPTER_MANIFEST, "base", "files", "kept", "made_of", "precision", "temperature"
    )
    identity = identity_of(manifest)
    records, notes = records_of_run(base, params, manifest["precision"], identity)
    hashes = read_hashes(manifest)
    data = artefacts.read_object(paths.DATA_SUMMARY, "rows_train", "rows_validation", "notes")
    tokens = artefacts.read_object(paths.TOKENS, "lengths", "notes", "warnings")
    method, size = params.train.method, read_size()
    temperatures = {
        "base": metrics["base"]["temperature"],
        "adapter": manifest["temperature"],
    }
    scores = {
        name: details.scores_of(table, targets, labels, temperatures[name])
        for name, table in tables.items()
    }
    curves = details.trace_curves(
        tables,
        targets,
        temperatures["adapter"],
        *read_training_curves(paths.TRAINING_CURVES),
    )
    return Results(
        labels=labels,
        gain=gain,
        over_tfidf=over_tfidf,
        verdict=headline(gain, over_tfidf, beside_accuracy(scores, gain) + cut_texts(tokens)),
        details=scores,
        ladder=ladder.build_ladder(
            metrics["base"],
            metrics["tfidf"],
            gain.second,
            method,
            gain.rows,
            records,
            f"{size['trained']:,} parameters, {size['bytes'] / 1e6:.1f} MB",
        ),
        against_full=ladder.against_full(records, method),
        flips=details.find_flips(base, adapter, test_rows),
        curves=curves,
        confused=details.confused_pairs(curves.confusion, labels),
        data=data,
        tokens=tokens,
        warnings=[
            *caveats(gain, data, len(labels), manifest["kept"]),
            *data["notes"],
            *metrics["tfidf"]["warnings"],
            *tokens["warnings"],
            *(note.partition(": ")[2] for note in tokens["notes"]),
            *notes,
        ],
        kept=manifest["kept"],
        size=size,
        seeds=records.get(method),
        search=search.search_of_run(params, hashes["data"]),
        curve=read_curve(curve_name(params, identity, manifest["precision"])),
        exports=exports_of(manifest["files"]),
        hashes=hashes,
        made_of=identity,
        params=params,
    )


def beside_accuracy(scores: dict[str, dict[str, Any]], gain: Gain) -> list[str]:
    """Return macro F1 for the verdict where one class has more than half of the test rows."""
    most = max(of["rows"] for of in scores["adapter"]["by_class"].values())
    if most <= MAJORITY * gain.rows:
        return []
    base, adapter = (scores[name]["f1_macro"] for name in ("base", "adapter"))
    return [f"macro F1 {adapter:.3f}, base {base:.3f}"]


def cut_texts(tokens: dict[str, Any]) -> list[str]:
    """Return for the verdict how many rows are cut, where they are more than a tenth."""
    first = tokens["lengths"][0]
    if first["rows_cut"] <= CUT:
        return []
    return [f"{first['max_length']} tokens cut {percent(first['rows_cut'])} of the rows"]


def read_metrics() -> dict[str, dict[str, Any]]:
    """Return the figures of base (with how its head was fitted, and the floors) and of TF-IDF.

    Raises:
        HostError: if a file is missing.
        DataError: if a file is damaged or lacks a key that the report needs.
    """
    fit = ("l2", "temperature", "majority", "untrained", "untrained_sd")
    return {
        "base": artefacts.read_object(paths.BASE_METRICS, "accuracy")
        | artefacts.read_object(paths.HEAD_FIT, *fit),
        "tfidf": artefacts.read_object(paths.TFIDF_METRICS, "accuracy", "ngrams", "c", "warnings"),
    }


def read_aligned() -> dict[str, pd.DataFrame]:
    """Return the predictions of base, adapter and TF-IDF, row by row of the same test row.

    Raises:
        HostError: if a file is missing.
        DataError: if a file cannot be read, or two hold other rows.
        ModelError: if their classes differ.
    """
    frames = {
        name: read_predictions(artefacts.require(path), str(path), artefacts.remake(path))
        for name, path in PREDICTIONS.items()
    }
    for name in ("adapter", "tfidf"):
        both = (str(PREDICTIONS["base"]), str(PREDICTIONS[name]))
        frames["base"], frames[name] = aligned(frames["base"], frames[name], both, AGAIN)
    return frames


def read_test_rows(base: pd.DataFrame) -> pd.DataFrame:
    """Return the prepared test rows: id, text, label, and rating where the data has it.

    Raises:
        DataError: if the predictions are of other rows.
    """
    split = splits.read_split(paths.TEST, splits.read_labels())
    if set(split.ids) != set(base["id"]):
        raise DataError(f"{paths.BASE_PREDICTIONS}: its rows are not those of {paths.TEST}", AGAIN)
    return pd.read_parquet(paths.TEST)


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


def read_hashes(manifest: artefacts.Json) -> dict[str, str]:
    """Return the sha256 of the source of the data, of the base's weights, of the adapter's.

    Args:
        manifest: of the adapter, with the hashes of its files and of its base's.
    """
    summary = artefacts.read_object(paths.DATA_SUMMARY, "source_sha256")
    weights = {name: sha for name, sha in manifest["base"].items() if name.endswith(".safetensors")}
    return {
        "data": summary["source_sha256"],
        **{f"base: {name}": sha for name, sha in sorted(weights.items())},
        **{f"adapter: {name}": sha for name, sha in sorted(manifest["files"].items())},
    }
