"""The classifier: encoder, head and tokenizer together, and how its two halves run apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from stages.model.pooling import Pooling


@dataclass(frozen=True)
class Classifier:
    """A sequence classifier, its tokenizer, and which of its modules are the head.

    Attributes:
        model: a Transformers model with a sequence-classification head, or one that PEFT wraps.
        tokenizer: the tokenizer that belongs to it.
        head: module paths that the checkpoint lacks or that are outside the encoder.
        labels: class names in the order of the logits.
        pooling: the state that the head reads, as `pooling.set_pooling` returned it.
        pooler: the encoder's modules that make the pooled state of the last one, in their order.
        switches: whether the encoder computes short and long batches in different ways.
    """

    model: Any
    tokenizer: Any
    head: tuple[str, ...]
    labels: tuple[str, ...]
    pooling: Pooling = "auto"
    pooler: tuple[str, ...] = ()
    switches: bool = False

    @property
    def has_new_pooler(self) -> bool:
        """Whether the encoder's pooler is new, and so belongs to the head."""
        prefix = self.model.base_model_prefix
        if hasattr(self.model, "get_base_model"):
            prefix = self.model.get_base_model().base_model_prefix
        return any(module.startswith(f"{prefix}.") for module in self.head)

    def head_state(self) -> dict[str, Tensor]:
        """Return a copy of the head's tensors by name, on the CPU."""
        return {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in self.model.state_dict().items()
            if within(name, self.head)
        }


def within(name: str, modules: tuple[str, ...]) -> bool:
    """Return whether a parameter or module name is in one of the modules."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def encoder_of(model: Any) -> Any:
    """Return the encoder of a classifier, with or without PEFT around it."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(inner, inner.base_model_prefix)


def features(classifier: Classifier, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """Run the encoder: the one state a row that the head reads, and the pooled one, as float32.

    The former (rows, 1, hidden) is the first token's, or the mean over the tokens: see `pooling`.
    The pooled states (rows, hidden) are None where the encoder has no pooler, or where its pooler
    is new and so belongs to the head.
    """
    output = encoder_of(classifier.model)(**batch)
    pooled = getattr(output, "pooler_output", None)
    if classifier.has_new_pooler:
        pooled = None
    first = output.last_hidden_state[:, :1].float()
    return first, None if pooled is None else pooled.float()


def head_logits(classifier: Classifier, first: Tensor, pooled: Tensor | None) -> Tensor:
    """Run the head alone on the encoder's features: logits (rows, classes), in float32.

    The model's own forward pass runs with the encoder replaced by its known output, so each
    architecture's path from encoder to logits is its own.
    """
    encoder = encoder_of(classifier.model)

    def known_output(*_: Any, **__: Any) -> BaseModelOutputWithPooling:
        states = _pool(classifier, first) if classifier.has_new_pooler else pooled
        return BaseModelOutputWithPooling(last_hidden_state=first, pooler_output=states)

    ones = torch.ones(first.shape[:2], dtype=torch.long, device=first.device)
    with _replaced_forward(encoder, known_output):
        logits = classifier.model(input_ids=ones, attention_mask=ones).logits
    return cast(Tensor, logits)


def _pool(classifier: Classifier, first: Tensor) -> Tensor:
    """Return the pooled states (rows, hidden) of the first token's (rows, 1, hidden)."""
    states = first
    for name in classifier.pooler:
        states = encoder_of(classifier.model).get_submodule(name)(states)
    return states[:, 0] if states.ndim == first.ndim else states


@contextmanager
def _replaced_forward(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def count_parameters(classifier: Classifier) -> tuple[int, int]:
    """Return how many parameters train, and how many there are."""
    sizes = [(p.numel(), p.requires_grad) for p in classifier.model.parameters()]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)
