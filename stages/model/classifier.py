"""The classifier: encoder, head and tokenizer together, and how its two halves run apart."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.random import fork_rng
from transformers.modeling_outputs import BaseModelOutputWithPooling

from stages.core.errors import ModelError, printable
from stages.model.tokens import encode, padded


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Restore the model's mode and torch's random numbers at the end."""
    training = model.training
    with fork_rng():
        try:
            yield
        finally:
            model.train(training)


def undo_switches(encoder: Any) -> None:
    """Let every batch find the encoder as it was loaded: BigBird's stays full after a short one."""
    if hasattr(encoder, "set_attention_type"):
        kind = encoder.attention_type
        encoder.register_forward_hook(lambda *_: encoder.set_attention_type(kind), always_call=True)


Pooling = Literal["auto", "first", "mean"]
# The names that configurations give to a pooling: ModernBERT's, and EuroBERT's "bos".
OF_CONFIG: dict[str | None, Pooling] = {"cls": "first", "bos": "first", "mean": "mean"}


def set_pooling(model: Any, pooling: Pooling) -> Pooling:
    """Let the model's head read the chosen state, and return what `auto` means for this model.

    Pooling other than the architecture's own does without its pooler, a dense layer on the first
    token's state. Where the configuration names a pooling, it is kept in step.

    Args:
        model: a Transformers sequence classifier, as it was loaded; changed in place.
        pooling: first = the first token's state; mean = the mean of the states of all tokens but
            padding; auto = what the configuration or else the architecture's classifier reads.
    """
    named = getattr(model.config, "classifier_pooling", None)
    if pooling == "auto":
        pooling = OF_CONFIG.get(named, "auto")
    if pooling == "auto":
        return pooling
    if named is not None:
        first = "bos" if model.config.model_type == "eurobert" else "cls"
        model.config.classifier_pooling = "mean" if pooling == "mean" else first
    encoder = getattr(model, model.base_model_prefix)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = nn.Identity()  # some architectures call it even where it is None
    encoder.register_forward_hook(_POOL[pooling], with_kwargs=True)
    return pooling


def _first(_: Any, __: Any, ___: Any, output: Any) -> BaseModelOutputWithPooling:
    first = output.last_hidden_state[:, :1].float()
    return BaseModelOutputWithPooling(last_hidden_state=first, pooler_output=first[:, 0])


def _mean(_: Any, __: Any, inputs: dict[str, Any], output: Any) -> BaseModelOutputWithPooling:
    mask = inputs["attention_mask"].unsqueeze(-1).float()
    mean = (output.last_hidden_state.float() * mask).sum(1, keepdim=True)
    mean = mean / mask.sum(1, keepdim=True)
    return BaseModelOutputWithPooling(last_hidden_state=mean, pooler_output=mean[:, 0])


_POOL: dict[str, Callable[..., BaseModelOutputWithPooling]] = {"first": _first, "mean": _mean}


@dataclass(frozen=True)
class Classifier:
    """A sequence classifier, its tokenizer, and which of its modules are the head.

    Attributes:
        model: a Transformers model with a sequence-classification head, or one that PEFT wraps.
        tokenizer: the tokenizer that belongs to it.
        head: module paths that the checkpoint lacks or that are outside the encoder.
        labels: class names in the order of the logits.
        pooling: the state that the head reads, as `set_pooling` returned it.
        pooler: the encoder's modules that make the pooled state of the last one, in their order.
    """

    model: Any
    tokenizer: Any
    head: tuple[str, ...]
    labels: tuple[str, ...]
    pooling: Pooling = "auto"
    pooler: tuple[str, ...] = ()

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

    The former (rows, 1, hidden) is the first token's, or the mean over all: see `set_pooling`.
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


LONGEST = 32  # tokens
PROBE = ["a", "a longer text"]
ANOTHER = "choose an architecture from the table in models/README.md"
# What the forward pass of a model raises that is no encoder, or has inputs or outputs of its own.
FAILURES = (
    *(AttributeError, AssertionError, IndexError, KeyError, NotImplementedError),
    *(RuntimeError, TypeError, ValueError),
)


def probe_batch(tokenizer: Any, texts: list[str] | None = None) -> dict[str, Tensor]:
    """Return a few short texts as a batch: input_ids and attention_mask, (texts, tokens)."""
    return padded(list(encode(tokenizer, texts or PROBE, LONGEST)), tokenizer.pad_token_id)


def find_halves(classifier: Classifier, folder: Path, bf16: bool) -> Classifier:
    """Return the classifier with the path from encoder to head, which is checked on a few texts.

    Args:
        classifier: as it was loaded, with its pooling set.
        folder: where it was loaded from, for the error.
        bf16: whether it will compute in bfloat16.

    Raises:
        ModelError: if encoder and head, run apart, do not give the model's own logits, or if the
            architecture cannot compute in bfloat16 and should.
    """
    batch, model = probe_batch(classifier.tokenizer), classifier.model
    name = type(model).__name__
    with unchanged(model):
        model.eval()
        try:
            with torch.no_grad():
                together = model(**batch).logits
        except FAILURES as error:
            raise _unreadable(classifier, error, folder) from error
        if not bool(torch.isfinite(together).all()):
            raise ModelError(
                f"{folder}: {name} gives logits that are not finite numbers, on a text of one word",
                "choose another checkpoint: the weights of this one are damaged",
            )
        classifier = replace(classifier, pooler=_pooler_of(classifier, batch))
        if not _same(classifier, batch, together):
            other = "set model.pooling to mean or first, or " * (classifier.pooling == "auto")
            raise ModelError(
                f"{folder}: {name} is not supported: its head reads more of a text than one state "
                "of the encoder",
                other + ANOTHER,
            )
        if bf16 and not computes_in_bf16(model, batch):
            raise ModelError(
                f"{folder}: {name} cannot compute in bf16 in this version of Transformers",
                "set compute.precision to fp32",
            )
    return classifier


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


def computes_in_bf16(model: Any, batch: dict[str, Tensor]) -> bool:
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
