"""Time training and answering beside what people use: same rows, same base model, in turns.

    python .ci/benchmark.py training             # metrics/records/benchmark.json
    python .ci/benchmark.py training --seeds 3   # trains for all epochs too, which takes hours
    python .ci/benchmark.py serving models/merged models/onnx  # metrics/records/serving.json

Each turn of a contender has a process of its own, so that none helps another. What counts is the
ratio within a turn, since a slow moment of the machine affects all of them. SetFit takes part where
it is installed: pip install 'setfit>=1.2,<2'. The folders of `serving` are what `bert-lora export`
writes; the first is a merged one, which Transformers' pipeline reads too.
"""

import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import transformers
import typer
from datasets import Dataset
from peft import get_peft_model

from stages.core import paths
from stages.core.artefacts import write_json
from stages.core.errors import HostError, exit_code_of, printable
from stages.core.params import Params, load_params
from stages.model.classifier import Classifier
from stages.model.device import Device, resolve, set_up
from stages.model.fast import speed_up
from stages.model.head import load_head, put_head, read_head
from stages.model.load import load_base
from stages.model.lora import attach_lora, lora_config
from stages.rows import prepared
from stages.rows.prepared import Split
from stages.running.run import set_environment, threads_of
from stages.scoring.logits import predict_logits
from stages.training.data import plan_of
from stages.training.trainer import ClassifierTrainer

WARM_UP = 3  # optimiser steps that are not timed
SINGLES = 300  # texts that are timed alone
Json = dict[str, Any]
Score = Callable[[], tuple[Any, Any]]  # logits (rows, classes) and label numbers (rows,)


@dataclass(frozen=True)
class Setting:
    """What all contenders share: params with the turn's seed, device, class names and rows."""

    params: Params
    device: Device
    labels: list[str]
    train: Split
    validation: Split

    @property
    def all_steps(self) -> int:
        """Optimiser steps of a whole training."""
        return plan_of(self.params.train, self.train.targets, len(self.validation.ids)).steps

    def base(self) -> Classifier:
        """Return the base model with a fresh head, as stage train_lora loads it."""
        pooling, dropout = self.params.model.pooling, self.params.train.attention_dropout
        seed = self.params.seed
        return load_base(paths.BASE_MODEL, self.labels, seed, self.device, pooling, dropout)


def read_setting(seed: int, ours: bool) -> Setting:
    """Return what all contenders share; `ours` sets up torch as the stages do."""
    params = load_params().model_copy(update={"seed": seed})
    device = set_up(params.compute) if ours else resolve(params.compute)
    labels = prepared.read_labels()
    splits = [prepared.read_split(path, labels) for path in (paths.TRAIN, paths.VALIDATION)]
    return Setting(params, device, labels, *splits)


def make_plain(setting: Setting, steps: int, tuned: bool) -> tuple[Any, Score]:
    """Return Trainer and PEFT as the libraries give them, and their scoring.

    Args:
        setting: what all contenders share.
        steps: after which it stops; -1 trains for all epochs.
        tuned: dynamic padding, batches of similar length, bf16 where the machine has it; else
            every row is padded to max_length, in fp32, in random batches, as tutorials do it.
    """
    params, train = setting.params, setting.params.train
    base = setting.base()
    model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
        paths.BASE_MODEL, num_labels=len(setting.labels), local_files_only=True
    )

    def encoded(split: Split) -> Any:
        columns = base.tokenizer(
            split.texts,
            truncation=True,
            max_length=params.data.max_length,
            padding=False if tuned else "max_length",
        )
        lengths = [sum(mask) for mask in columns["attention_mask"]]
        return Dataset.from_dict({**columns, "labels": split.targets, "length": lengths})

    bf16 = tuned and setting.device.bf16
    trainer = transformers.Trainer(
        model=get_peft_model(model, lora_config(base, params.lora)),
        args=transformers.TrainingArguments(
            output_dir=str(paths.CHECKPOINTS),
            max_steps=steps if steps > 0 else setting.all_steps,
            warmup_steps=round(train.warmup_fraction * setting.all_steps),
            per_device_train_batch_size=train.batch_size,
            per_device_eval_batch_size=32,
            learning_rate=train.learning_rate,
            bf16=bf16,
            bf16_full_eval=bf16,
            train_sampling_strategy="group_by_length" if tuned else "random",
            length_column_name="length",
            use_cpu=setting.device.is_cpu,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=1000,
            dataloader_pin_memory=False,
            seed=params.seed,
        ),
        train_dataset=encoded(setting.train),
        data_collator=transformers.DataCollatorWithPadding(base.tokenizer) if tuned else None,
    )
    held_out = encoded(setting.validation)

    def score() -> tuple[Any, Any]:
        output = trainer.predict(held_out)  # grouped by length, so in another order than the rows
        return output.predictions, output.label_ids

    return trainer, score


def make_ours(setting: Setting, steps: int) -> tuple[Any, Score]:
    """Return this project's Trainer, without evaluations on the way, and its scoring."""
    settings = setting.params.train.model_copy(update={"patience": 0})
    params = setting.params.model_copy(update={"train": settings})
    base = setting.base()
    load_head(base, paths.HEAD)
    start = read_head(base, paths.HEAD, paths.HEAD_START.name)
    classifier = attach_lora(base, params.lora)
    speed_up(classifier, setting.device, params.seed)
    put_head(classifier, start)
    splits = (setting.train, setting.validation)
    trainer = ClassifierTrainer(classifier, splits, params, setting.device, checkpointed=False)
    trainer.args.max_steps = steps if steps > 0 else setting.all_steps
    trainer.args.eval_strategy = "no"

    def score() -> tuple[Any, Any]:
        texts, length = setting.validation.texts, params.data.max_length
        with trainer.average.in_place():
            logits = predict_logits(classifier, texts, length, setting.device, "validation")
        return logits, setting.validation.targets

    return trainer, score


def make_setfit(setting: Setting, steps: int) -> tuple[Any, Score]:
    """Return SetFit's Trainer, with as many texts a step and as many steps as the others."""
    import setfit  # most environments lack it

    model = setfit.SetFitModel.from_pretrained(str(paths.BASE_MODEL), labels=setting.labels)
    rows = {"text": setting.train.texts, "label": list(setting.train.targets)}
    arguments = setfit.TrainingArguments(
        output_dir=str(paths.CHECKPOINTS),
        batch_size=setting.params.train.batch_size // 2,  # pairs of texts
        max_steps=steps if steps > 0 else setting.all_steps,
        max_length=setting.params.data.max_length,
        use_amp=setting.device.bf16,
        save_strategy="no",
        report_to="none",
        seed=setting.params.seed,
    )
    trainer = setfit.Trainer(model=model, args=arguments, train_dataset=Dataset.from_dict(rows))
    texts, targets = setting.validation.texts, setting.validation.targets
    return trainer, lambda: (model.predict_proba(texts, as_numpy=True), targets)


MAKERS: dict[str, Callable[[Setting, int], tuple[Any, Score]]] = {
    "tutorial": partial(make_plain, tuned=False),
    "tuned": partial(make_plain, tuned=True),
    "setfit": make_setfit,
    "ours": make_ours,
}
SLOW = "tutorial"  # every step takes the same time, so a fifth is timed; all epochs take hours


class Stopwatch(transformers.TrainerCallback):
    """Note when each step ends."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the time."""
        self.marks.append(time.perf_counter())


def train_one(name: str, steps: int, seed: int) -> Json:
    """Return rows per second in training and scoring, and validation accuracy.

    With 0 steps the contender trains for all epochs.
    """
    setting, watch = read_setting(seed, ours=name == "ours"), Stopwatch()
    trainer, score = MAKERS[name](setting, steps + WARM_UP if steps else -1)
    trainer.add_callback(watch)
    trainer.train()
    timed, seconds = len(watch.marks) - 1 - WARM_UP, watch.marks[-1] - watch.marks[WARM_UP]
    start = time.perf_counter()
    logits, labels = score()
    scored = time.perf_counter() - start
    right = [int(row.argmax()) == int(label) for row, label in zip(logits, labels, strict=True)]
    return {
        "precision": setting.device.precision,
        "training": timed * setting.params.train.batch_size / seconds,
        "scoring": len(right) / scored,
        "accuracy": sum(right) / len(right),
    }


def answer_one(name: str, folder: str) -> Json:
    """Return rows per second over all test texts, and milliseconds of single ones."""
    texts = prepared.read_split(paths.TEST, prepared.read_labels()).texts
    if name == "pipeline":
        answer: Any = transformers.pipeline("text-classification", folder, device="cpu")
    else:
        from stages.tools.predictor import open_predictor  # the pipeline is timed without it

        answer = open_predictor(Path(folder)).logits
    for text in texts[:20]:
        answer([text])
    times = [time.perf_counter()]
    for text in texts[:SINGLES]:
        answer([text])
        times.append(time.perf_counter())
    p50, p99 = 1000 * np.percentile(np.diff(times), [50, 99])
    start = time.perf_counter()
    answer(texts)
    seconds = time.perf_counter() - start
    return {"rows_per_second": len(texts) / seconds, "p50_ms": float(p50), "p99_ms": float(p99)}


JOBS: dict[str, Callable[..., Json]] = {"train": train_one, "answer": answer_one}
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command(hidden=True)
def one(job: str) -> None:
    """Do one job, `[name, argument, ...]`, and print what it measured as the last line."""
    name, *arguments = json.loads(job)
    print(json.dumps(JOBS[name](*arguments)))


def measured(*job: str | int) -> Json:
    """Return what a job of JOBS measures in a process of its own.

    Raises:
        HostError: if it fails, with its last line.
    """
    print(*job, flush=True)
    command = [sys.executable, __file__, "one", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise HostError(f"benchmark: {job[1]}: {printable(last, 200)}", "mend that and run again")
    found: Json = json.loads(done.stdout.splitlines()[-1])
    return found


def summary(turns: list[Json], key: str, name: str, *peers: str) -> Json:
    """Return a contender's rows per second by turn, their median, and its ratios to the peers."""
    speeds = [turn[name][key] for turn in turns]
    found: Json = {"rows_per_second": speeds, "median": statistics.median(speeds)}
    for peer in peers:
        ratios = [turn[name][key] / turn[peer][key] for turn in turns]
        middle = statistics.median(ratios)
        found[f"to_{peer}"] = {"median": middle, "low": min(ratios), "high": max(ratios)}
    return found


@app.command()
def training(
    steps: Annotated[int, typer.Option(min=1, help="Steps that are timed.")] = 50,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each contender.")] = 3,
    seeds: Annotated[int, typer.Option(help="Trainings for all epochs, one a seed.")] = 0,
) -> None:
    """Time training and scoring; write metrics/records/benchmark.json, and print it as a table."""
    params = load_params()
    set_environment(params.compute)
    names = [name for name in MAKERS if name != "setfit" or importlib.util.find_spec("setfit")]
    few = max(2, round(steps / 5))
    turns = [
        {name: measured("train", name, few if name == SLOW else steps, turn) for name in names}
        for turn in range(repeats)
    ]
    precision = turns[0]["ours"]["precision"]
    results: Json = {
        "precision": precision,
        "rows_per_step": params.train.batch_size,
        "steps": steps,
    }
    for what in ("training", "scoring"):
        results[what] = {n: summary(turns, what, n, "tutorial", "tuned") for n in names}
    if seeds:
        through = {
            name: [measured("train", name, 0, seed)["accuracy"] for seed in range(1, seeds + 1)]
            for name in names
            if name != SLOW
        }
        results["accuracy"] = {"precision": precision, "validation": through}
    write_json(paths.BENCHMARK, results)
    print(table_of(results))


@app.command()
def serving(
    folders: Annotated[list[Path], typer.Argument(help="Exports; a merged one comes first.")],
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each contender.")] = 3,
) -> None:
    """Time answers to the test rows; write and print metrics/records/serving.json."""
    compute = load_params().compute
    set_environment(compute)
    checks = {
        folder.name: json.loads((folder / paths.EXPORT_RECORD).read_text("utf-8"))["check"]
        for folder in folders
    }
    places = {"pipeline": folders[0], "adapter": paths.ADAPTER, **{f.name: f for f in folders}}
    turns = [
        {name: measured("answer", name, str(folder)) for name, folder in places.items()}
        for _ in range(repeats)
    ]
    results = {
        "rows": checks[folders[0].name]["rows"],
        "threads": threads_of(compute),
        "contenders": {
            name: summary(turns, "rows_per_second", name, "pipeline")
            | {k: statistics.median(t[name][k] for t in turns) for k in ("p50_ms", "p99_ms")}
            for name in places
        },
        "exports": checks,
    }
    write_json(paths.SERVING, results)
    print(serving_table(results))


def table_of(results: Json) -> str:
    """Return the content of metrics/records/benchmark.json as a Markdown table."""
    named = {
        f"{what}: *{name}*": found
        for what in ("training", "scoring")
        for name, found in results[what].items()
    }
    lines = [table(results["precision"], named, ("tutorial", "tuned"))]
    if through := results.get("accuracy"):
        means = [
            f"*{name}* {100 * statistics.mean(shares):.1f} % ({len(shares)})"
            for name, shares in sorted(through["validation"].items())
        ]
        lines += ["", f"Validation accuracy after all epochs (seeds): {', '.join(means)}."]
    return "\n".join(lines)


def serving_table(results: Json) -> str:
    """Return the content of metrics/records/serving.json as a Markdown table."""
    named = {f"*{name}*": found for name, found in results["contenders"].items()}
    title = f"{results['rows']:,} texts, {results['threads']} threads"
    return table(title, named, ("pipeline",), p50_ms="p50, one text", p99_ms="p99, one text")


def table(title: str, named: dict[str, Json], peers: tuple[str, ...], **times: str) -> str:
    """Return speeds, ratios (smallest and largest over the turns) and milliseconds as a table."""
    heads = [title, "rows a second", *(f"times *{peer}*" for peer in peers), *times.values()]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for name, found in named.items():
        ratios = [found[f"to_{peer}"] for peer in peers]
        cells = [name, f"{found['median']:.0f}"]
        cells += [f"{r['median']:.1f} ({r['low']:.1f} to {r['high']:.1f})" for r in ratios]
        lines.append(cells + [f"{found[key]:.1f} ms" for key in times])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(exit_code_of(partial(app, standalone_mode=False)))
