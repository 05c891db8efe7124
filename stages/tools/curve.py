"""`bert-lora curve`: how much more labels would help, from trainings on parts of the rows.

Each part holds the smaller ones and has the classes in the proportion of the whole. A finished
training is a line of metrics/records/curve.csv, and is not made again.
"""

import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core import artefacts, paths
from stages.core.params import Params
from stages.evaluate_adapter import evaluate_adapter
from stages.evaluate_base import evaluate_base
from stages.evaluate_tfidf import evaluate_tfidf
from stages.model.device import set_up
from stages.model.saved import base_identity
from stages.reporting.records import (
    CURVE_COLUMNS,
    curve_advice,
    curve_name,
    identity_of,
    read_curve,
)
from stages.running.provenance import recorded
from stages.train_lora import train_lora
from stages.training.checkpoints import made_of

FEWEST = 4  # rows a class, on average, of the smallest part


def curve(params: Params, sizes: int, seeds: int) -> None:
    """Train on parts of the training rows, halved again and again, and record the test accuracies.

    The validation rows stay what they are.

    Args:
        params: of params.yaml.
        sizes: how many parts at most, the whole among them.
        seeds: how many seeds each part is trained with.

    Raises:
        HostError: if data or base are missing.
    """
    rows = pd.read_parquet(artefacts.require(paths.TRAIN))
    artefacts.require(paths.BASE_MODEL)
    identity = identity_of({"base": base_identity(paths.BASE_MODEL), "made_of": made_of()})
    name = curve_name(params, identity, set_up(params.compute).precision)
    counts = parts(len(rows), FEWEST * rows["label"].nunique(), sizes)
    done = read_curve(name)
    known = set(zip(done["rows"], done["seed"], strict=True))
    wanted = [(count, (params.seed + place) % 2**32) for place in range(seeds) for count in counts]
    missing = [each for each in wanted if each not in known]
    whole = recorded().get("train_lora", {}).get("seconds", 0)
    minutes = sum(count for count, _ in missing) / len(rows) * whole / 60
    print(
        f"{len(wanted) - len(missing)} trainings done before, {len(missing)} to come"
        + (f"; about {minutes:.0f} min, more for small parts" if whole else ""),
        flush=True,
    )
    order = nested_order(rows["label"], params.data.split_seed)
    for count, seed in missing:
        part = rows.iloc[np.sort(order[:count])]
        line = {"curve": name, "rows": count, "seed": seed}
        line |= figures(part, params.model_copy(update={"seed": seed}))
        paths.CURVE.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame([line], columns=list(CURVE_COLUMNS)).to_csv(
            paths.CURVE, mode="a", header=not paths.CURVE.exists(), index=False, lineterminator="\n"
        )
        accuracies = ", ".join(f"{key} {line[key]:.4f}" for key in ("tfidf", "base", "adapter"))
        print(f"{count:,} rows, seed {seed}: {accuracies}, {line['seconds']} s", flush=True)
    print(f"{curve_advice(read_curve(name))}\n{paths.CURVE} holds this; dvc repro compare shows it")


def parts(rows: int, fewest: int, sizes: int) -> list[int]:
    """Return the sizes of the parts, smallest first: the whole, its half, its quarter, ..."""
    halves = [rows >> place for place in range(sizes)]
    return [rows, *(half for half in halves[1:] if half >= fewest)][::-1]


def nested_order(labels: "pd.Series[str]", seed: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Return the places of the rows in an order of which every beginning is a stratified part."""
    shuffled = labels.sample(frac=1, random_state=seed)
    place = shuffled.groupby(shuffled).cumcount() + 0.5
    share = place / shuffled.groupby(shuffled).transform("size")
    return share.sort_values(kind="stable").index.to_numpy()


def figures(part: pd.DataFrame, params: Params) -> dict[str, Any]:
    """Return what the stages measure when they train on a part, in a folder of its own."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for path in (paths.VALIDATION, paths.TEST, paths.LABELS, paths.DATA_SUMMARY):
            (folder / path).parent.mkdir(exist_ok=True)
            shutil.copy(path, folder / path)
        (folder / paths.MODELS).mkdir()
        (folder / paths.BASE_MODEL).symlink_to(paths.BASE_MODEL.resolve())
        part.to_parquet(folder / paths.TRAIN, index=False)
        with contextlib.chdir(folder), contextlib.redirect_stdout(None):
            return measured(params)


def measured(params: Params) -> dict[str, float]:
    """Run the stages on the rows and the base of the working folder.

    Returns:
        The accuracy of each method on the test rows, and the seconds of train_lora.
    """
    evaluate_tfidf(params)
    evaluate_base(params)
    start = time.perf_counter()
    train_lora(params)
    seconds = round(time.perf_counter() - start)
    evaluate_adapter(params)
    files = (paths.TFIDF_METRICS, paths.BASE_METRICS, paths.ADAPTER_METRICS)
    found = {file.stem: artefacts.read_object(file, "accuracy")["accuracy"] for file in files}
    return {**found, "seconds": seconds}
