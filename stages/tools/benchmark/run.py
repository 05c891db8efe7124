"""Time our training and scoring beside what people use, on the same rows, in one run.

The contenders take turns, so that a slow moment of the machine hits all of them; what counts is
the ratio within a turn. Beside them stands the physical limit: how fast this machine multiplies
matrices, and how many multiplications the model needs at the least.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core import paths
from stages.core.artefacts import write_json
from stages.core.errors import HostError, printable
from stages.running.provenance import precision_of
from stages.tools.benchmark.contenders import WARM_UP, Setting, fresh, read_setting, steps_of

# Weights that are looked up, or used once a row and not once a token: too little to count.
ONCE_A_ROW = ("embeddings", "pooler", "classifier")
NAMES = {
    "tutorial": "PEFT and Trainer as tutorials do it: padded to max_length, fp32, random batches",
    "tuned": "PEFT and Trainer, tuned: dynamic padding, batches of like length, bf16",
    "adapters": "the AdapterHub library with LoRA, tuned likewise, in an environment of its own",
    "full": "full fine-tuning with the tuned Trainer",
    "ours": "this pipeline's own code path",
}
# Padded to one length, every step takes the same time: fewer of them do.
SHARE_OF_STEPS = {"tutorial": 0.2}
# The tutorial's loop sees the same rows in another order, and takes hours.
TRAINED_THROUGH = ("tuned", "adapters", "full", "ours")
ADAPTERHUB = Path(__file__).with_name("adapterhub.py")


@dataclass(frozen=True)
class Request:
    """What the user asks for; see `bert-lora benchmark --help`."""

    steps: int = 50  # one round of batches of like length, from long to short
    repeats: int = 3
    accuracy: bool = False
    adapters: Path | None = None
    seeds: int = 3

    def contenders(self) -> list[str]:
        """Return who takes part."""
        return [name for name in NAMES if name != "adapters" or self.adapters]


def benchmark(request: Request) -> None:
    """Print the contenders' speed and write it to metrics/benchmark.json.

    Raises:
        HostError: if the data or the base model are missing, a contender fails, or there is no
            repeat and nothing measured before.
    """
    results: dict[str, Any] = {}
    if paths.BENCHMARK.exists():  # what is not measured anew is kept
        results = json.loads(paths.BENCHMARK.read_text(encoding="utf-8"))
    elif not request.repeats:
        raise HostError("benchmark: no speeds are measured yet", "give --repeats 1 or more")
    setting = read_setting(tuned_process=True)
    if request.repeats:
        results |= measure(setting, request)
    if request.accuracy:
        results["accuracy"] = {
            "precision": precision_of(setting.hardware),
            "validation": trained_through(setting, request),
        }
    write_json(paths.BENCHMARK, results)
    print(table_of(results))


def run_contender(
    name: str, steps: int, seed: int, setting: Setting, request: Request
) -> dict[str, float]:
    """Return what a contender measured in a process of its own; see contenders.time_one.

    Raises:
        HostError: if it fails, with its last line.
    """
    if name == "adapters":
        return run_adapterhub(str(request.adapters), steps, seed, setting)
    return _run(
        name,
        [
            sys.executable,
            "-m",
            "stages.tools.benchmark.contenders",
            name,
            str(steps),
            str(seed),
        ],
    )


def run_adapterhub(python: str, steps: int, seed: int, setting: Setting) -> dict[str, float]:
    """Return what the AdapterHub library measured, run by a Python that has it.

    Raises:
        HostError: if it fails, with its last line.
    """
    params = setting.params
    with tempfile.TemporaryDirectory() as folder:
        job = {
            "folder": folder,
            "model": str(paths.BASE_MODEL.absolute()),
            "classes": len(setting.labels),
            "max_length": params.data.max_length,
            "batch_size": params.train.batch_size,
            "epochs": params.train.epochs,
            "learning_rate": params.train.learning_rate,
            "r": params.lora.r,
            "alpha": params.lora.lora_alpha,
            "dropout": params.lora.lora_dropout,
            "warm_up": WARM_UP,
            "max_steps": steps + WARM_UP if steps else -1,
            "warmup_steps": round(params.train.warmup_fraction * steps_of(setting)),
            "seed": seed,
            "bf16": setting.hardware.bf16,
            "cpu": setting.hardware.device.type == "cpu",
            "threads": int(os.environ["OMP_NUM_THREADS"]),
            **{
                name: {"texts": rows.texts, "targets": list(rows.targets)}
                for name, rows in (("train", setting.train), ("validation", setting.validation))
            },
        }
        write_json(Path(folder) / "job.json", job, decimals=None)
        return _run("adapters", [python, str(ADAPTERHUB), f"{folder}/job.json"])


def _run(name: str, command: list[str]) -> dict[str, float]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise HostError(
            f"benchmark: {command[0]}: {printable(error.strerror)}", "give the path of a Python"
        ) from None
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise HostError(f"benchmark: {name}: {printable(last, 200)}", f"run: {' '.join(command)}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def trained_through(setting: Setting, request: Request) -> dict[str, list[float]]:
    """Return the validation accuracy after all epochs, one figure a seed, of those that compete."""
    names = [name for name in TRAINED_THROUGH if name in request.contenders()]
    accuracy: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(1, request.seeds + 1):
        for name in names:
            print(f"training through, seed {seed} of {request.seeds}: {name}", flush=True)
            found = run_contender(name, 0, seed, setting, request)["accuracy"]
            print(f"validation accuracy {100 * found:.2f} %", flush=True)
            accuracy[name].append(found)
    return accuracy


def measure(setting: Setting, request: Request) -> dict[str, Any]:
    """Return examples per second of each contender: one figure a repeat, their median, ratios."""
    names = request.contenders()
    training: dict[str, list[float]] = {name: [] for name in names}
    scoring: dict[str, list[float]] = {name: [] for name in names if name != "full"}
    rates = []
    for repeat in range(request.repeats):
        rates.append(multiplication_rate(setting))
        for name in names:
            print(f"repeat {repeat + 1} of {request.repeats}: {name}", flush=True)
            steps = max(2, round(request.steps * SHARE_OF_STEPS.get(name, 1)))
            found = run_contender(name, steps, repeat, setting, request)
            training[name].append(found["training"])
            if name in scoring:
                scoring[name].append(found["scoring"])
    rate = statistics.median(rates)
    work = least_work(setting)
    return {
        "rows_per_step": setting.params.train.batch_size,
        "steps": request.steps,
        "precision": precision_of(setting.hardware),
        "multiplication_gflops": rate / 1e9,
        "training_gflop_per_row": work["training"] / 1e9,
        "scoring_gflop_per_row": work["scoring"] / 1e9,
        "training": {n: summary(n, training, rate / work["training"]) for n in training},
        "scoring": {n: summary(n, scoring, rate / work["scoring"]) for n in scoring},
    }


def summary(name: str, speeds: dict[str, list[float]], limit: float) -> dict[str, Any]:
    """Return a contender's rows per second, its ratios to the peers turn by turn, its share."""

    def ratio(peer: str) -> dict[str, float]:
        found = [own / other for own, other in zip(speeds[name], speeds[peer], strict=True)]
        return {"median": statistics.median(found), "low": min(found), "high": max(found)}

    median = statistics.median(speeds[name])
    return {
        "rows_per_second": speeds[name],
        "median": median,
        "share_of_limit": median / limit,
        "to_tutorial": ratio("tutorial"),
        "to_tuned": ratio("tuned"),
    }


def multiplication_rate(setting: Setting) -> float:
    """Return the floating-point operations a second of this machine's matrix products.

    Best of several products of 2,048 x 2,048 matrices in the precision in use.
    """
    import torch

    dtype = torch.bfloat16 if setting.hardware.bf16 else torch.float32
    size = 2048
    left, right = (torch.randn(size, size, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def least_work(setting: Setting) -> dict[str, float]:
    """Return the floating-point operations that the model takes for a row, without any padding.

    This is the measure for all contenders; one that skips work without effect saves some of it.

    A linear layer of so many weights takes two operations a weight and token, forward and again
    for the gradient of its inputs; weights that train take as much once more. Attention takes
    4 x tokens x hidden size a token and layer. Everything else is left out.
    """
    from stages.model import lora as adapter
    from stages.model import tokens as dataset

    classifier = adapter.attach_lora(fresh(setting, 0), setting.params.lora)
    texts = setting.train.texts
    lengths = dataset.encode(
        classifier.tokenizer, texts, setting.params.data.max_length
    ).lengths.tolist()
    tokens = statistics.mean(lengths)
    squares = statistics.mean(length * length for length in lengths)
    matrices = [
        (parameter.numel(), parameter.requires_grad)
        for name, parameter in classifier.model.named_parameters()
        if parameter.ndim == 2 and not any(part in name for part in ONCE_A_ROW)
    ]
    config = classifier.model.config
    attention = 4 * squares * config.hidden_size * config.num_hidden_layers
    frozen = 2 * tokens * sum(size for size, trains in matrices if not trains)
    trained = 2 * tokens * sum(size for size, trains in matrices if trains)
    return {
        "scoring": frozen + attention,  # LoRA can be merged into the weights
        "training": 2 * frozen + 3 * trained + 3 * attention,
    }


def table_of(results: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        f"| {results['precision']}, {results['multiplication_gflops']:.0f} GFLOP/s in matrix "
        "products | rows a second | times *tutorial* | times *tuned* | share of the limit |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for what in ("training", "scoring"):
        for name in NAMES:
            if (found := results[what].get(name)) is None:
                continue
            ratios = [found[f"to_{peer}"] for peer in ("tutorial", "tuned")]
            shown = [f"{r['median']:.1f} ({r['low']:.1f} to {r['high']:.1f})" for r in ratios]
            lines.append(
                f"| {what}: *{name}* | {found['median']:.0f} | {shown[0]} | {shown[1]} "
                f"| {100 * found['share_of_limit']:.0f} % |"
            )
    if accuracy := results.get("accuracy"):
        found = accuracy["validation"]
        seeds = max(len(one) for one in found.values())
        shown = [
            f"*{name}* {100 * statistics.mean(one):.1f} % ({100 * min(one):.1f} to "
            f"{100 * max(one):.1f})"
            for name, one in sorted(found.items())
        ]
        lines += [
            "",
            f"Validation accuracy after all epochs in {accuracy['precision']}, the mean of "
            f"{seeds} seeds: {', '.join(shown)}.",
        ]
    return "\n".join(lines)
