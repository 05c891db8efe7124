"""A classifier's two halves, encoder and head: how the head is reached, and whether that is so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.core.errors import ModelError, printable
from stages.model.classifier import Classifier, encoder_of, features, head_logits
from stages.model.pooling import set_pooling
from stages.model.tokens import encode, padded
from stages.model.unchanged import restore, state_of, unchanged, undo_switches

LONGEST = 32  # tokens
PROBE = ["a", "a longer text"]
ANOTHER = "choose an architecture from the table in README.md"
# What the forward pass of a model raises that is no encoder, or has inputs or outputs of its own.
FAILURES = (
    *(AttributeError, AssertionError, IndexError, KeyError, NotImplementedError),
    *(RuntimeError, TypeError, ValueError),
)


def probe_batch(tokenizer: Any, texts: list[str] | None = None) -> dict[str, Tensor]:
    """Return a few short texts as a batch: input_ids and attention_mask, (texts, tokens)."""
    encoded = encode(tokenizer, texts or PROBE, LONGEST)
    return padded([encoded[row] for row in range(len(encoded))], tokenizer.pad_token_id)


def find_halves(classifier: Classifier, folder: Path, bf16: bool) -> Classifier:
    """Return the classifier with the path from encoder to head, which is checked on a few texts.

    Where a batch changes the encoder for the batches that follow, this is undone from now on.

    Args:
        classifier: as it was loaded, with its pooling set.
        folder: where it was loaded from, for the error.
        bf16: whether it will compute in bfloat16.

    Raises:
        ModelError: if encoder and head, run apart, do not give the model's own logits, or if the
            architecture cannot compute in bfloat16 and should.
    """
    batch, model = probe_batch(classifier.tokenizer), classifier.model
    encoder, name = encoder_of(model), type(model).__name__
    state = state_of(encoder)
    with unchanged(model):
        model.eval()
        try:
            with torch.no_grad():
                together = model(**batch).logits
        except FAILURES as error:
            raise _unreadable(classifier, error, folder) from error
        finally:
            switches = restore(state)
        if not bool(torch.isfinite(together).all()):
            raise ModelError(
                f"{folder}: {name} gives logits that are not finite numbers, on a text of one word",
                "choose another checkpoint: the weights of this one are damaged",
            )
        classifier = replace(classifier, pooler=_pooler_of(classifier, batch))
        if not _same(classifier, batch, together):
            raise _unsupported(classifier, batch, folder)
        if bf16 and not _computes_in_bf16(model, batch):
            raise ModelError(
                f"{folder}: {name} cannot compute in bf16 in this version of Transformers",
                "set compute.precision to fp32",
            )
    if switches:
        undo_switches(encoder)
    return replace(classifier, switches=switches)


def _pooler_of(classifier: Classifier, batch: dict[str, Tensor]) -> tuple[str, ...]:
    """Return the encoder's children that make the pooled state from the last one, in their order.

    They are found by following the pooled state back through the modules that made it.
    """
    encoder = encoder_of(classifier.model)
    calls: list[tuple[str, Any, Any]] = []
    hooks = [
        child.register_forward_hook(
            lambda _, given, made, name=name: calls.append((name, given[0] if given else 0, made))
        )
        for name, child in encoder.named_children()
    ]
    with torch.no_grad():
        output = encoder(**batch)
    for hook in hooks:
        hook.remove()
    steps: list[str] = []
    state = getattr(output, "pooler_output", None)
    for name, given, made in reversed(calls):
        if state is not None and made is state and made is not output.last_hidden_state:
            steps.insert(0, name)
            state = given
    return tuple(steps)


def _same(classifier: Classifier, batch: dict[str, Tensor], together: Tensor) -> bool:
    """Return whether encoder and head, run apart, give these logits."""
    try:
        with torch.no_grad():
            apart = head_logits(classifier, *features(classifier, batch))
    except FAILURES:
        return False
    return together.shape == apart.shape and torch.allclose(together, apart, rtol=1e-4, atol=1e-5)


def _computes_in_bf16(model: Any, batch: dict[str, Tensor]) -> bool:
    """Return whether the model, which is still on the CPU, runs with products in bfloat16."""
    try:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            return bool(torch.isfinite(model(**batch).logits).all())
    except FAILURES:
        return False


def _unreadable(classifier: Classifier, error: Exception, folder: Path) -> ModelError:
    name = type(classifier.model).__name__
    if classifier.pooling == "mean":
        return ModelError(
            f"{folder}: model.pooling: mean: {name} does not give one state for each token",
            "set model.pooling to auto",
        )
    return ModelError(f"{folder}: {name} cannot read a text: {printable(error, 150)}", ANOTHER)


def _unsupported(classifier: Classifier, batch: dict[str, Tensor], folder: Path) -> ModelError:
    """Return the refusal, with another pooling as the remedy where that works."""
    name, fix = type(classifier.model).__name__, ANOTHER
    if classifier.pooling == "auto":
        set_pooling(classifier.model, "mean")
        try:
            with torch.no_grad():
                together = classifier.model(**batch).logits
            if _same(replace(classifier, pooling="mean", pooler=()), batch, together):
                fix = "set model.pooling to mean or first"
        except FAILURES:
            pass
    what = "its head reads more of a text than one state of the encoder"
    return ModelError(f"{folder}: {name} is not supported: {what}", fix)
