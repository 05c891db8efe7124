"""Read what the earlier stages wrote, pair it row by row, and compute what the report shows."""

from typing import Any

import pandas as pd

from stages.core import artefacts, paths
from stages.core.errors import DataError
from stages.core.params import Params
from stages.reporting import details, ladder, search
from stages.reporting.records import exports_of, records_of_run
from stages.reporting.results import MODELS, Results, caveats, verdict
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

AGAIN = "score both again: dvc repro -f evaluate_base evaluate_adapter"


def gather(params: Params) -> Results:
    """Return everything that the report shows of base and adapter; nothing is written.

    Raises:
        HostError: if a file is missing.
        DataError: if a file cannot be read, or the predictions are of other rows.
        ModelError: if the classes of base and adapter differ.
    """
    base, adapter = read_both()
    labels, targets = labels_of(base), targets_of(base)
    tables = {"base": probabilities_of(base), "adapter": probabilities_of(adapter)}
    right = [(frame["label"] == frame["predicted"]).to_numpy() for frame in (base, adapter)]
    gain = paired_gain(right[0], right[1], params.seed)
    metrics = read_metrics()
    records = records_of_run(base, params)
    manifest = artefacts.read_object(paths.ADAPTER_MANIFEST, "base", "files", "kept")
    hashes = read_hashes(manifest)
    data = artefacts.read_object(paths.DATA_SUMMARY, "rows_train", "rows_validation")
    return Results(
        labels=labels,
        gain=gain,
        verdict=verdict(gain, MODELS),
        caveats=caveats(gain, data, len(labels), manifest["kept"]),
        details={
            name: details.scores_of(tables[name], targets, labels, metrics[name]["temperature"])
            for name in MODELS
        },
        ladder=ladder.build_ladder(
            metrics["base"],
            metrics["tfidf"],
            gain.second,
            params.train.method,
            gain.rows,
            records,
        ),
        against_full=ladder.against_full(records, params.train.method),
        flips=details.find_flips(base, adapter, read_test_rows(base), params.seed),
        curves=details.trace_curves(
            tables, targets, gain, params.seed, *read_training_curves(paths.TRAINING_CURVES)
        ),
        data=data,
        seeds=records.get(params.train.method),
        search=search.search_of_run(params, hashes["data"]),
        exports=exports_of(manifest["files"]),
        hashes=hashes,
        params=params,
    )


def read_metrics() -> dict[str, dict[str, Any]]:
    """Return the metrics of base (with `l2`, the penalty of its head), adapter and TF-IDF.

    Raises:
        HostError: if a file is missing.
        DataError: if a file is damaged or lacks a key that the report needs.
    """
    floors = ("majority", "untrained", "untrained_sd")
    base = artefacts.read_object(paths.BASE_METRICS, "accuracy", "temperature", *floors)
    return {
        "base": base | artefacts.read_object(paths.HEAD_FIT, "l2"),
        "adapter": artefacts.read_object(paths.ADAPTER_METRICS, "temperature"),
        "tfidf": artefacts.read_object(paths.TFIDF_METRICS, "accuracy", "ngrams", "c"),
    }


def read_both() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the predictions of base and adapter, row by row of the same test row.

    Raises:
        HostError: if a file is missing.
        DataError: if a file cannot be read, or the two hold other rows.
        ModelError: if their classes differ.
    """
    read = [
        read_predictions(artefacts.require(path), str(path), artefacts.remake(path))
        for path in (paths.BASE_PREDICTIONS, paths.ADAPTER_PREDICTIONS)
    ]
    names = (str(paths.BASE_PREDICTIONS), str(paths.ADAPTER_PREDICTIONS))
    return aligned(read[0], read[1], names, AGAIN)


def read_test_rows(base: pd.DataFrame) -> pd.DataFrame:
    """Return the prepared test rows: id, text, label, and rating where the data has it.

    Raises:
        DataError: if the predictions are of other rows.
    """
    split = splits.read_split(paths.TEST, splits.read_labels())
    if set(split.ids) != set(base["id"]):
        raise DataError(f"{paths.BASE_PREDICTIONS}: its rows are not those of {paths.TEST}", AGAIN)
    return pd.read_parquet(paths.TEST)


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
