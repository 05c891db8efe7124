"""The benchmark's contenders, each timed in a process of its own.

`python -m stages.tools.benchmark.contenders NAME STEPS SEED` prints one line of JSON; with STEPS 0
it trains for all epochs.
"""

from __future__ import annotations

import json
import math
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
from stages.tools.benchmark.setting import WARM_UP, Setting, fresh_base, read_setting, steps_of
from stages.training.trainer import make_trainer

TARGET = 0.85  # share of the validation rows
LOOKS = 8  # scorings an epoch on the way there


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
        with trainer.average.in_place():
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


def time_one(name: str, setting: Setting, steps: int, seed: int) -> dict[str, Any]:
    """Return a contender's rows per second in training and scoring, and validation accuracy.

    With 0 steps it trains for all epochs; `seconds_to_target` is then the time of training until
    validation accuracy is TARGET at one of LOOKS scorings an epoch, which do not count; None if it
    never is.
    """
    trainer, score = CONTENDERS[name](setting, steps, seed)
    marks: list[float] = []
    until = Until(score, math.ceil(steps_of(setting) / setting.params.train.epochs / LOOKS))
    trainer.add_callback(_stopwatch(marks))
    if not steps:
        trainer.add_callback(until)
    with _silence():
        trainer.train()
    timed = len(marks) - 1 - WARM_UP
    train_speed = timed * setting.params.train.batch_size / (marks[-1] - marks[WARM_UP])
    start = time.perf_counter()
    with _silence():
        logits, labels = score()
    score_speed = len(logits) / (time.perf_counter() - start)
    return {
        "training": train_speed,
        "scoring": score_speed,
        "accuracy": _accuracy(logits, labels),
        "seconds_to_target": until.seconds,
    }


def _accuracy(logits: Any, labels: Any) -> float:
    right = sum(int(row.argmax()) == int(label) for row, label in zip(logits, labels, strict=True))
    return right / len(labels)


class Until(TrainerCallback):
    """Score now and then while training, and note when validation accuracy is TARGET.

    Args:
        score: gives logits and labels of the validation rows.
        interval: optimiser steps between two scorings.
    """

    def __init__(self, score: Scored, interval: int) -> None:
        self.score, self.interval = score, interval
        self.trained, self.since = 0.0, time.perf_counter()
        self.seconds: float | None = None

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.since = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Score with the clock stopped, unless it is known already."""
        if self.seconds is None and state.global_step % self.interval == 0:
            self.trained += time.perf_counter() - self.since
            if _accuracy(*self.score()) >= TARGET:
                self.seconds = self.trained
            self.since = time.perf_counter()


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
