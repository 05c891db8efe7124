"""The only place where models are built: the base classifier, its head, LoRA, a saved adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.logging import disable_progress_bar

from stages.core.artefacts import replacing, require
from stages.core.errors import ModelError, printable

HEAD_FILE = "head.safetensors"
REFETCH = "fetch it again: dvc repro -f fetch_base"


@dataclass(frozen=True)
class Classifier:
    """A sequence classifier, its tokenizer, and which of its parts is the head.

    Attributes:
        model: a Transformers model with a sequence-classification head, or one that PEFT wraps.
        tokenizer: the tokenizer that belongs to it.
        head: module paths that the checkpoint did not bring or that lie outside the body.
        labels: class names in the order of the logits.
    """

    model: Any
    tokenizer: Any
    head: tuple[str, ...]
    labels: tuple[str, ...]

    def head_state(self) -> dict[str, Tensor]:
        """Return the head's tensors by name, on the CPU."""
        return {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in self.model.state_dict().items()
            if within(name, self.head)
        }


def within(name: str, modules: tuple[str, ...]) -> bool:
    """Return whether a parameter or module name lies in one of the modules."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def load_base(folder: Path, labels: list[str], seed: int) -> Classifier:
    """Load the foundation model with a fresh head of len(labels) classes.

    The seed is set first, so the fresh head is the same each time.

    Raises:
        ModelError: if the folder holds no complete, supported safetensors checkpoint.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]  # Transformers leaves it untyped
    require(folder)
    set_seed(seed)
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            problem_type="single_label_classification",
            dtype=torch.float32,
            # On a processor the fused kernel's backward pass costs a third of a training step.
            attn_implementation=None if torch.cuda.is_available() else "eager",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # a damaged file makes the loaders raise anything
        raise ModelError(f"{folder}: cannot be loaded: {printable(error, 300)}", REFETCH) from error
    fresh = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
    _fit_tokenizer(tokenizer, model)
    classifier = Classifier(model, tokenizer, _head_modules(model, fresh), tuple(labels))
    _check_replay(classifier)
    _skip_unread_tokens(model)
    return classifier


def _fit_tokenizer(tokenizer: Any, model: Any) -> None:
    """Cut texts at the last position that the model has a place for.

    Raises:
        ModelError: if the tokenizer cannot pad, or has tokens that the model lacks.
    """
    tokens = max(tokenizer.get_vocab().values(), default=0) + 1
    known = model.get_input_embeddings().num_embeddings
    if tokenizer.pad_token_id is None or tokens > known:
        raise ModelError(
            "models/base: the tokenizer has no padding token"
            if tokenizer.pad_token_id is None
            else f"models/base: the tokenizer has {tokens} tokens, the model only {known}",
            "use an encoder together with its own tokenizer",
        )
    places = getattr(getattr(body_of(model), "embeddings", None), "position_embeddings", None)
    if isinstance(places, nn.Embedding):  # RoBERTa and MPNet count from padding_idx + 1
        before = 0 if places.padding_idx is None else places.padding_idx + 1
        limit = places.num_embeddings - before
        tokenizer.model_max_length = min(tokenizer.model_max_length, limit)


def _head_modules(model: Any, fresh: set[str]) -> tuple[str, ...]:
    """Return the module paths of the head: what is new, and what lies outside the body.

    Raises:
        ModelError: if weights of the body itself are missing.
    """
    body = model.base_model_prefix
    lost = sorted(
        name
        for name in fresh
        if name.startswith(f"{body}.") and not name.startswith(f"{body}.pooler.")
    )
    if lost:
        raise ModelError(
            f"models/base: the checkpoint lacks {len(lost)} weights of the body, "
            f"for example {printable(lost[0])}",
            "use a complete checkpoint of an encoder",
        )
    modules = set()
    for name, _ in model.named_parameters():
        if not name.startswith(f"{body}."):
            modules.add(name.split(".")[0])
        elif name in fresh:
            modules.add(".".join(name.split(".")[:2]))
    return tuple(sorted(modules))


def body_of(model: Any) -> Any:
    """Return the body of a classifier, with or without PEFT around it."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(inner, inner.base_model_prefix)


def features(classifier: Classifier, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
    """Run the body: the first token's states (rows, 1, hidden) and the pooled ones, as float32.

    The pooled states (rows, hidden) are None where the body has no pooler or its pooler is new
    and so belongs to the head.
    """
    output = body_of(classifier.model)(**batch)
    pooled = getattr(output, "pooler_output", None)
    if any(module.endswith(".pooler") for module in classifier.head):
        pooled = None
    first = output.last_hidden_state[:, :1].float()
    return first, None if pooled is None else pooled.float()


def head_logits(classifier: Classifier, first: Tensor, pooled: Tensor | None) -> Tensor:
    """Run the head alone on the body's features: logits (rows, classes), in float32.

    The model's own forward pass runs with the body replaced by its known output, so every
    architecture's path from the body to the logits is its own.
    """
    body = body_of(classifier.model)

    def known_output(*_: Any, **__: Any) -> BaseModelOutputWithPooling:
        pooler = getattr(body, "pooler", None)
        states = pooler(first) if pooled is None and pooler is not None else pooled
        return BaseModelOutputWithPooling(last_hidden_state=first, pooler_output=states)

    ones = torch.ones(first.shape[:2], dtype=torch.long, device=first.device)
    with _replaced(body, known_output):
        logits = classifier.model(input_ids=ones, attention_mask=ones).logits
    return cast(Tensor, logits)


@contextmanager
def _replaced(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def _check_replay(classifier: Classifier) -> None:
    """Check on two short rows that body and head, run apart, give the model's own logits.

    Raises:
        ModelError: if the head reads more than the first token or the pooled state.
    """
    batch = classifier.tokenizer(["a", "a longer text"], padding=True, return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    classifier.model.eval()
    try:
        with torch.no_grad():
            whole = classifier.model(**inputs).logits
            apart = head_logits(classifier, *features(classifier, inputs))
        same = whole.shape == apart.shape and torch.allclose(whole, apart, rtol=1e-4, atol=1e-5)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        same = False  # no encoder: what it reads or returns is named otherwise
    if not same:
        raise ModelError(
            f"models/base: {type(classifier.model).__name__} is not supported: its head reads more "
            "than the first token's or the pooled state",
            "choose a BERT, RoBERTa, DistilBERT, MPNet, ELECTRA, ALBERT or DeBERTa model",
        )


def _skip_unread_tokens(model: Any) -> None:
    """Let the last layer go on with the first token alone, once its attention has read them all.

    _check_replay has shown that the head reads no other, and three quarters of the layer's work
    lie behind its attention. Layers that are not built as BERT's stay as they are.
    """
    layers = getattr(getattr(body_of(model), "encoder", None), "layer", None)
    if isinstance(layers, nn.ModuleList):
        behind = getattr(getattr(layers[-1], "attention", None), "output", None)
        if isinstance(behind, nn.Module):
            behind.register_forward_pre_hook(
                lambda _, states: tuple(state[:, :1].contiguous() for state in states)
            )


def load_tensors(path: Path, fix: str) -> dict[str, Tensor]:
    """Read a safetensors file, whole and finite.

    Raises:
        ModelError: if it is damaged or holds a value that is not a finite number.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size if path.exists() else 0
        raise ModelError(
            f"{path}: {size} bytes, not a whole safetensors file: {printable(error)}", fix
        ) from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{path}: {name} holds a value that is not finite", fix)
    return tensors


def load_head(classifier: Classifier, folder: Path) -> None:
    """Put the fitted head of stage evaluate_base into the classifier.

    Raises:
        ModelError: if the file does not hold exactly this classifier's head.
    """
    fix = "fit it again: dvc repro -f evaluate_base"
    tensors = load_tensors(require(folder) / HEAD_FILE, fix)
    own = classifier.head_state()
    if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in own.items()}:
        raise ModelError(f"{folder}: belongs to another base model or label list", fix)
    classifier.model.load_state_dict(tensors, strict=False)


def save_head(classifier: Classifier, folder: Path) -> None:
    """Write the head's tensors as a folder with one safetensors file."""
    with replacing(folder) as temporary:
        temporary.mkdir()
        save_file(classifier.head_state(), temporary / HEAD_FILE)


def reset_head(classifier: Classifier, seed: int) -> None:
    """Give the head fresh weights, initialised as the architecture does it."""
    set_seed(seed)
    for name in classifier.head:
        for module in classifier.model.get_submodule(name).modules():
            for parameter in module.parameters(recurse=False):
                parameter._is_hf_initialized = False
            classifier.model._init_weights(module)
