"""What a training shows while it runs: a line for each evaluation step, and a bar in a terminal."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerCallback


class EvaluationLines(TrainerCallback):
    """One plain line for each evaluation step, above the progress bar where there is one."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Print step, validation loss and accuracy."""
        latest = state.log_history[-1]
        tqdm.write(
            f"step {state.global_step} of {state.max_steps}: "
            f"validation loss {latest['eval_loss']:.4f}, accuracy {latest['eval_accuracy']:.4f}"
        )


class LossBar(ProgressCallback):
    """The Trainer's progress bar without its dump of every log entry; the bar shows the loss."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Show the training loss in the bar."""
        if self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{float(logs['loss']):.3f}")
