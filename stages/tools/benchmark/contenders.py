"""The benchmark's contenders, each timed in a process of its own.

`python -m stages.tools.benchmark.contenders NAME STEPS SEED` prints one line of JSON; with STEPS 0
it trains for all epochs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from typing import Any

from transformers import TrainerCallback

from stages.core import paths
from stages.model.fast.layer import speed_up
from stages.model.head import load_head
from stages.model.lora import attach_lora
from stages.running.exit_codes import exit_code_of
from stages.scoring.logits import predict_logits
from stages.tools.benchmark.plain_trainer import Scored, plain_trainer
from stages.tools.benchmark.setting import WARM_UP, Setting, fresh_base, read_setting
from stages.training.trainer import make_trainer


def make_ours(setting: Setting, steps: int, seed: int) -> tuple[Any, Scored]:
    """Return this project's Trainer, stopped after so many steps, and its scoring."""
    setting = setting.with_seed(seed)
    # There is no evaluation step, so nothing can stop early.
    train = setting.params.train.model_copy(update={"patience": 0})
    params = setting.params.model_copy(update={"train": train})
    base = fresh_base(setting, seed)
    load_head(base, paths.HEAD)
    classifier = attach_lora(base, params.lora)
    speed_up(classifier, setting.device, seed)
    trainer = make_trainer(classifier, (setting.train, setting.validation), params, setting.device)
    trainer.args.max_steps = steps + WARM_UP if steps else -1
    trainer.args.eval_strategy = trainer.args.save_strategy = "no"
    trainer.args.load_best_model_at_end = False

    def score() -> tuple[Any, Any]:
        logits = predict_logits(
            classifier,
            setting.validation.texts,
            params.data.max_length,
            setting.device,
            "validation",
        )
        return logits, setting.validation.targets

    return trainer, score


CONTENDERS: dict[str, Callable[[Setting, int, int], tuple[Any, Scored]]] = {
    "tutorial": partial(plain_trainer, tuned=False, lora=True),
    "tuned": partial(plain_trainer, tuned=True, lora=True),
    "full": partial(plain_trainer, tuned=True, lora=False),
    "ours": make_ours,
}


def time_one(name: str, setting: Setting, steps: int, seed: int) -> dict[str, float]:
    """Return a contender's rows per second in training and scoring, and validation accuracy.

    With 0 steps it trains for all epochs.
    """
    trainer, score = CONTENDERS[name](setting, steps, seed)
    marks: list[float] = []
    trainer.add_callback(_stopwatch(marks))
    with _silence():
        trainer.train()
    timed = len(marks) - 1 - WARM_UP
    train_speed = timed * setting.params.train.batch_size / (marks[-1] - marks[WARM_UP])
    start = time.perf_counter()
    with _silence():
        logits, labels = score()
    score_speed = len(logits) / (time.perf_counter() - start)
    right = sum(int(row.argmax()) == int(label) for row, label in zip(logits, labels, strict=True))
    return {"training": train_speed, "scoring": score_speed, "accuracy": right / len(labels)}


def _stopwatch(marks: list[float]) -> Any:
    class Stopwatch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(time.perf_counter())

    return Stopwatch()


@contextmanager
def _silence() -> Iterator[None]:
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield


def main(name: str, steps: str, seed: str) -> None:
    """Time one contender and print what was measured as a line of JSON."""
    setting = read_setting(tuned_process=name == "ours")
    print(json.dumps(time_one(name, setting, int(steps), int(seed))))


if __name__ == "__main__":
    sys.exit(exit_code_of(lambda: main(*sys.argv[1:])))
