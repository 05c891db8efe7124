"""The AdapterHub library as a contender of the benchmark, in an environment of its own.

It needs another release of Transformers than this project, so this file imports nothing of the
project's: `PYTHON stages/tools/benchmark/adapterhub.py JOB.json` prints one line of JSON. See
processes.run_adapterhub for what a job holds.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any


def library(name: str) -> Any:
    """Return a library of that environment, whose types this project's mypy does not know."""
    return importlib.import_module(name)


def encoded(tokenizer: Any, rows: dict[str, Any], max_length: int) -> list[dict[str, Any]]:
    """Return each row as input_ids, attention_mask and labels, not padded."""
    columns = tokenizer(rows["texts"], truncation=True, max_length=max_length)
    keys = ("input_ids", "attention_mask")
    return [
        {"labels": target, **{key: columns[key][number] for key in keys}}
        for number, target in enumerate(rows["targets"])
    ]


def make_trainer(job: dict[str, Any], tokenizer: Any) -> Any:
    """Return the library's trainer with LoRA on query, key and value, tuned as it allows."""
    adapters, torch, transformers = map(library, ("adapters", "torch", "transformers"))
    torch.set_num_threads(job["threads"])
    transformers.set_seed(job["seed"])
    model = adapters.AutoAdapterModel.from_pretrained(job["model"])
    model.add_classification_head("task", num_labels=job["classes"])
    matrices = ["q", "k", "v"]
    lora = adapters.LoRAConfig(
        r=job["r"], alpha=job["alpha"], dropout=job["dropout"], attn_matrices=matrices
    )
    model.add_adapter("task", config=lora)
    model.train_adapter("task")
    return adapters.AdapterTrainer(
        model=model,
        args=make_arguments(job),
        train_dataset=encoded(tokenizer, job["train"], job["max_length"]),
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
    )


def make_arguments(job: dict[str, Any]) -> Any:
    """Return the arguments of the library's trainer."""
    return library("transformers").TrainingArguments(
        output_dir=job["folder"],
        max_steps=job["max_steps"],
        num_train_epochs=job["epochs"],
        warmup_steps=job["warmup_steps"],
        per_device_train_batch_size=job["batch_size"],
        per_device_eval_batch_size=job["batch_size"],
        learning_rate=job["learning_rate"],
        bf16=job["bf16"],
        bf16_full_eval=job["bf16"],
        group_by_length=True,
        use_cpu=job["cpu"],
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=1000,
        dataloader_pin_memory=False,
        seed=job["seed"],
    )


def main(job: dict[str, Any]) -> dict[str, float]:
    """Return rows per second in training and scoring, and validation accuracy."""
    transformers = library("transformers")
    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["model"])
    trainer = make_trainer(job, tokenizer)
    marks: list[float] = []

    def on_step_end(*_: Any, **__: Any) -> None:
        marks.append(time.perf_counter())

    bases = (transformers.TrainerCallback,)
    trainer.add_callback(type("Stopwatch", bases, {"on_step_end": on_step_end}))
    trainer.train()
    warm_up = job["warm_up"]
    timed = len(marks) - 1 - warm_up
    held_out = encoded(tokenizer, job["validation"], job["max_length"])
    start = time.perf_counter()
    output = trainer.predict(held_out)  # grouped by length, so in another order than the rows
    seconds = time.perf_counter() - start
    right = output.predictions.argmax(-1) == output.label_ids
    return {
        "training": timed * job["batch_size"] / (marks[-1] - marks[warm_up]),
        "scoring": len(right) / seconds,
        "accuracy": float(right.mean()),
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
