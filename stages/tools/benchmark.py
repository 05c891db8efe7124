"""Time our training and scoring beside what people use, on the same rows, in one run.

The contenders take turns, so that a slow moment of the machine hits all of them; what counts is
the ratio within a turn. Beside them stands the physical limit: how fast this machine multiplies
matrices, and how many multiplications the work needs at the least.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

from stages.shared import paths
from stages.shared.artefacts import write_json
from stages.shared.params import Params, load_params
from stages.shared.run import set_environment

if TYPE_CHECKING:  # heavy libraries are imported once the options are known to be right
    from torch import nn

    from stages.shared.compute import Compute
    from stages.shared.model import Classifier
    from stages.shared.splits import Split

WARM_UP = 3  # optimiser steps that are not timed
TUTORIAL_BATCH = 32  # rows of an evaluation batch, where a Trainer scores
# Weights that are looked up, or used once a row and not once a token: too little to count.
ONCE_A_ROW = ("embeddings", "pooler", "classifier")
NAMES = {
    "tutorial": "PEFT and Trainer as tutorials do it: padded to max_length, fp32, random batches",
    "tuned": "PEFT and Trainer, tuned: dynamic padding, batches of like length, bf16",
    "full": "full fine-tuning with the tuned Trainer",
    "ours": "this pipeline's own code path",
}


@dataclass(frozen=True)
class Request:
    """What the user asks for; see `bert-lora benchmark --help`."""

    steps: int = 20
    repeats: int = 3


@dataclass(frozen=True)
class Setting:
    """What all contenders share."""

    params: Params
    hardware: Compute
    labels: list[str]
    train: Split
    validation: Split


def benchmark(request: Request) -> None:
    """Print the contenders' speed and write it to metrics/benchmark.json.

    Raises:
        HostError: if the data or the base model are missing.
    """
    params = load_params()
    set_environment(params.compute)
    from stages.shared import compute, splits

    hardware = compute.set_up(params.compute)
    labels = splits.read_labels()
    setting = Setting(
        params,
        hardware,
        labels,
        splits.read_split(paths.TRAIN, labels),
        splits.read_split(paths.VALIDATION, labels),
    )
    results = measure(setting, request)
    write_json(paths.BENCHMARK, results)
    print(table_of(results))


def measure(setting: Setting, request: Request) -> dict[str, Any]:
    """Return examples per second of each contender: one figure a repeat, their median, ratios."""
    training: dict[str, list[float]] = {name: [] for name in NAMES}
    scoring: dict[str, list[float]] = {name: [] for name in NAMES if name != "full"}
    for repeat in range(request.repeats):
        for name in NAMES:
            print(f"repeat {repeat + 1} of {request.repeats}: {name}", flush=True)
            train_speed, score_speed = time_one(name, setting, request.steps, repeat)
            training[name].append(train_speed)
            if name in scoring:
                scoring[name].append(score_speed)
    rate = multiplication_rate(setting)
    work = least_work(setting)
    return {
        "rows_per_step": setting.params.train.batch_size,
        "steps": request.steps,
        "precision": "bf16" if setting.hardware.bf16 else "fp32",
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


def time_one(name: str, setting: Setting, steps: int, seed: int) -> tuple[float, float]:
    """Return a contender's rows per second in training and in scoring the validation rows."""
    trainer, score = CONTENDERS[name](setting, steps, seed)
    marks: list[float] = []
    trainer.add_callback(_stopwatch(marks))
    with _silence():
        trainer.train()
    timed = len(marks) - 1 - WARM_UP
    train_speed = timed * setting.params.train.batch_size / (marks[-1] - marks[WARM_UP])
    start = time.perf_counter()
    with _silence():
        score()
    return train_speed, len(setting.validation.ids) / (time.perf_counter() - start)


def _stopwatch(marks: list[float]) -> Any:
    from transformers import TrainerCallback

    class Stopwatch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(time.perf_counter())

    return Stopwatch()


@contextmanager
def _silence() -> Iterator[None]:
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield


def make_ours(setting: Setting, steps: int, seed: int) -> tuple[Any, Callable[[], object]]:
    """Return our Trainer, stopped after so many steps, and our scoring."""
    from stages.shared import adapter, scoring
    from stages.shared.training import make_trainer

    params = setting.params
    classifier = adapter.attach_lora(_fresh(setting, seed), params.lora)
    trainer = make_trainer(
        classifier,
        (setting.train, setting.validation),
        params.data,
        params.train.model_copy(update={"patience": 0}),  # there is no look at validation
        seed,
        setting.hardware,
    )
    trainer.args.max_steps = steps + WARM_UP
    trainer.args.eval_strategy = trainer.args.save_strategy = "no"
    trainer.args.load_best_model_at_end = False

    def score() -> object:
        return scoring.predict_logits(
            classifier, setting.validation.texts, params.data.max_length, setting.hardware, "x"
        )

    return trainer, score


def make_tutorial(setting: Setting, steps: int, seed: int) -> tuple[Any, Callable[[], object]]:
    """Return PEFT and Trainer as course notebooks use them."""
    return _plain(setting, steps, seed, tuned=False, lora=True)


def make_tuned(setting: Setting, steps: int, seed: int) -> tuple[Any, Callable[[], object]]:
    """Return PEFT and Trainer with the options that make them fast."""
    return _plain(setting, steps, seed, tuned=True, lora=True)


def make_full(setting: Setting, steps: int, seed: int) -> tuple[Any, Callable[[], object]]:
    """Return full fine-tuning with the tuned Trainer."""
    return _plain(setting, steps, seed, tuned=True, lora=False)


CONTENDERS = {
    "tutorial": make_tutorial,
    "tuned": make_tuned,
    "full": make_full,
    "ours": make_ours,
}


def _plain(
    setting: Setting, steps: int, seed: int, tuned: bool, lora: bool
) -> tuple[Any, Callable[[], object]]:
    """Return a Trainer as the library gives it, without a line of ours in the loop."""
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    from stages.shared.adapter import resolve_targets

    params = setting.params
    base = _fresh(setting, seed)
    targets = resolve_targets(base, params.lora.target_modules)
    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(
        paths.BASE_MODEL, num_labels=len(setting.labels), local_files_only=True
    )
    if lora:
        config = LoraConfig(
            r=params.lora.r,
            lora_alpha=int(params.lora.lora_alpha),
            lora_dropout=params.lora.lora_dropout,
            target_modules=targets,
            task_type="SEQ_CLS",
        )
        model = get_peft_model(model, config)
    padding = False if tuned else "max_length"

    def encoded(split: Split) -> Any:
        columns = base.tokenizer(
            split.texts, truncation=True, max_length=params.data.max_length, padding=padding
        )
        lengths = [sum(mask) for mask in columns["attention_mask"]]
        return Dataset.from_dict({**columns, "labels": split.targets, "length": lengths})

    arguments = TrainingArguments(
        output_dir=str(paths.CHECKPOINTS),
        max_steps=steps + WARM_UP,
        per_device_train_batch_size=params.train.batch_size,
        per_device_eval_batch_size=TUTORIAL_BATCH,
        learning_rate=params.train.learning_rate if lora else params.train.full_learning_rate,
        bf16=tuned and setting.hardware.bf16,
        bf16_full_eval=tuned and setting.hardware.bf16,
        train_sampling_strategy="group_by_length" if tuned else "random",
        length_column_name="length",
        use_cpu=setting.hardware.device.type == "cpu",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=1000,
        dataloader_pin_memory=False,
        seed=seed,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=encoded(setting.train),
        data_collator=DataCollatorWithPadding(base.tokenizer) if tuned else None,
    )
    held_out = encoded(setting.validation)
    return trainer, lambda: trainer.predict(held_out)


def _fresh(setting: Setting, seed: int) -> Classifier:
    from stages.shared.model import load_base

    return load_base(paths.BASE_MODEL, setting.labels, seed)


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
    """Return the floating-point operations that a row needs at the least, without any padding.

    A linear layer of so many weights takes two operations a weight and token, forward and again
    for the gradient of its inputs; weights that train take as much once more. Attention takes
    4 x tokens x hidden size a token and layer. Everything else is left out.
    """
    from stages.shared import adapter, dataset

    classifier = adapter.attach_lora(_fresh(setting, 0), setting.params.lora)
    texts = setting.train.texts
    lengths = [
        len(ids)
        for ids in dataset.encode(classifier.tokenizer, texts, setting.params.data.max_length)
    ]
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
        for name, found in results[what].items():
            ratios = [found[f"to_{peer}"] for peer in ("tutorial", "tuned")]
            shown = [f"{r['median']:.1f} ({r['low']:.1f} to {r['high']:.1f})" for r in ratios]
            lines.append(
                f"| {what}: *{name}* | {found['median']:.0f} | {shown[0]} | {shown[1]} "
                f"| {100 * found['share_of_limit']:.0f} % |"
            )
    return "\n".join(lines)
