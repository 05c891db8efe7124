"""An exponential moving average of the weights that train: what is scored, kept and saved.

Averaging over steps reaches what a falling learning rate reaches, earlier and with less noise
(Polyak & Juditsky 1992; for language models Lu et al. 2022, arXiv 2212.05956).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from stages.core import paths
from stages.running import processes

FILE = "average.safetensors"


class WeightAverage(TrainerCallback):
    """The average, updated after each optimiser step; it is one of a checkpoint's files.

    In the first steps it follows more closely: at step t the decay is at most (1 + t) / (10 + t),
    as in TensorFlow's ExponentialMovingAverage.

    Args:
        model: what trains; its weights that take gradients are averaged.
        decay: share of the average that a step keeps, 0 to below 1; 0 is no average.
    """

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.own = {n: p for n, p in model.named_parameters() if p.requires_grad and decay}
        self.average = {name: own.detach().clone() for name, own in self.own.items()}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Go where the Trainer has moved the weights by now."""
        for name, own in self.own.items():
            self.average[name] = self.average[name].to(own.device)

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Move the average towards the weights."""
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        if self.own:
            torch._foreach_lerp_(list(self.average.values()), list(self.own.values()), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average in the place of the weights while the context lasts."""
        weights = {name: own.detach().clone() for name, own in self.own.items()}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(weights)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Write the average into the checkpoint's folder."""
        folder = paths.CHECKPOINTS / f"checkpoint-{state.global_step}"
        if self.own and processes.leads():
            save_file({name: each.cpu() for name, each in self.average.items()}, folder / FILE)

    def resume(self, checkpoint: Path) -> None:
        """Continue from the average of a checkpoint."""
        if self.own:
            saved = load_file(checkpoint / FILE)  # in the order of the names
            self.average = {name: saved[name] for name in self.own}

    def finish(self, best: Path) -> None:
        """Leave the average of a checkpoint as the weights."""
        self.resume(best)
        self._put(self.average)

    @torch.no_grad()
    def _put(self, weights: dict[str, torch.Tensor]) -> None:
        for name, own in self.own.items():
            own.copy_(weights[name])
