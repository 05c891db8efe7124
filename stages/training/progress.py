"""What a training shows while it runs: a line for each evaluation step, and a bar in a terminal."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerCallback

LEARNED = 0.1  # nats; a training loss below leaves little gradient


class EvaluationLines(TrainerCallback):
    """One plain line for each evaluation step, above the progress bar where there is one."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Print step, validation loss and accuracy."""
        latest = state.log_history[-1]
        tqdm.write(
            f"step {state.global_step} of {state.max_steps}: "
            f"validation loss {latest['eval_loss']:.4f}, accuracy {latest['eval_accuracy']:.4f}"
        )


class LastStep(TrainerCallback):
    """Evaluate and save the last step, wherever the interval ends."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Ask for both after the last step."""
        if state.global_step == state.max_steps:
            control.should_evaluate = True
            control.should_save = args.save_strategy != "no"


class FirstLoss(TrainerCallback):
    """Say once if the first loss leaves little to learn: then the start is at fault."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Look at the first entry with a training loss."""
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        if logs and "loss" in logs and len(losses) == 1 and losses[0] < LEARNED:
            tqdm.write(
                f"warning: the training loss is {losses[0]:.3f} in the first steps: the head knows "
                "the training rows already, so little is left to learn. Fix: train.start: means"
            )


class LossBar(ProgressCallback):
    """The Trainer's progress bar without its dump of every log entry; the bar shows the loss."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        """Show the training loss in the bar."""
        if self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{float(logs['loss']):.3f}")
