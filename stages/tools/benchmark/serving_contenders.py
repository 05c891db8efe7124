"""One way to answer texts, timed in a process of its own.

    python -m stages.tools.benchmark.serving_contenders NAME FOLDER TEXTS

prints one line of JSON: rows_per_second over all texts, p50_ms and p99_ms of single ones. NAME is
of NAMES in `serving`, FOLDER an export or the project, TEXTS a JSON file.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.params import ComputeParams, load_params
from stages.running.environment import set_environment, threads_of
from stages.running.exit_codes import exit_code_of

WARM_UP = 20  # texts
SINGLES = 300  # texts that are timed alone
Classify = Callable[[list[str]], Any]


def load_pipeline(folder: Path, compute: ComputeParams) -> Any:
    """Return Transformers' pipeline on a merged folder, as its documentation makes it."""
    import torch
    from transformers import pipeline

    torch.set_num_threads(threads_of(compute))
    return pipeline("text-classification", str(folder), device="cpu")


def make_pipeline(folder: Path, compute: ComputeParams) -> tuple[Classify, Classify]:
    """Return the pipeline with its defaults: one text after another."""
    pipe = load_pipeline(folder, compute)
    return pipe, pipe


def make_batched_pipeline(folder: Path, compute: ComputeParams) -> tuple[Classify, Classify]:
    """Return the pipeline with 32 texts in a batch."""
    pipe = load_pipeline(folder, compute)
    return partial(pipe, batch_size=32), pipe


def make_predict(folder: Path, compute: ComputeParams) -> tuple[Classify, Classify]:
    """Return what `bert-lora predict` computes, without its start."""
    from stages.tools.predictor import open_predictor

    with chdir(folder):
        predictor = open_predictor(compute=compute)
    return predictor.probabilities, predictor.probabilities


def make_export(folder: Path, compute: ComputeParams) -> tuple[Classify, Classify]:
    """Return an export as `bert-lora predict --model` and the server run it."""
    from stages.tools.predictor import open_predictor

    predictor = open_predictor(folder, compute)
    return predictor.logits, predictor.logits


MAKERS: dict[str, Callable[[Path, ComputeParams], tuple[Classify, Classify]]] = {
    "pipeline": make_pipeline,
    "pipeline in batches": make_batched_pipeline,
    "predict": make_predict,
    "onnx": make_export,
    "onnx int8": make_export,
}


def time_one(name: str, folder: Path, texts: list[str], compute: ComputeParams) -> dict[str, float]:
    """Return rows_per_second, p50_ms and p99_ms of a contender."""
    classify, single = MAKERS[name](folder, compute)
    for text in texts[:WARM_UP]:
        single([text])
    start = time.perf_counter()
    classify(texts)
    seconds = time.perf_counter() - start
    times = []
    for text in texts[:SINGLES]:
        before = time.perf_counter()
        single([text])
        times.append(time.perf_counter() - before)
    p50, p99 = 1000 * np.percentile(times, [50, 99])
    return {"rows_per_second": len(texts) / seconds, "p50_ms": float(p50), "p99_ms": float(p99)}


def main() -> None:
    """Do what the module says, with the process's arguments."""
    name, folder, given = sys.argv[1:]
    compute = load_params().compute
    set_environment(compute)
    texts = json.loads(Path(given).read_text(encoding="utf-8"))
    print(json.dumps(time_one(name, Path(folder), texts, compute)))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
