"""Read weights from safetensors files; a damaged file or a number that is not finite is refused."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, set_seed
from transformers.utils.logging import disable_progress_bar

from stages.core.artefacts import require
from stages.core.errors import ModelError, UserError, printable
from stages.model.classifier import (
    FAILURES,
    Classifier,
    Pooling,
    encoder_of,
    find_halves,
    set_pooling,
    unchanged,
    undo_switches,
)
from stages.model.device import Device
from stages.model.tokens import check_tokenizer, load_tokenizer
from stages.sources.model_folder import refuse_unsupported


def read_weights(path: Path, fix: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name.

    Args:
        path: the file.
        fix: what an error tells the user to do.

    Raises:
        ModelError: if it is damaged or holds a value that is not a finite number.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size if path.exists() else 0
        raise ModelError(
            f"{path}: {size} bytes, not a complete safetensors file: {printable(error)}", fix
        ) from error
    for name, tensor in tensors.items():
        # guard: finite weights
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{path}: {name} holds a value that is not finite", fix)
    return tensors


# The last part of a position table's name. Tables of distances between tokens have other names.
POSITIONS = re.compile(r"(embed_)?positions?(al)?(_ids)?(_?embed\w*|_?encod\w*)?|wpe|pos_embed\w*")
# What architectures call the number of positions in their configuration.
SPELLINGS = (
    *("max_position_embeddings", "n_positions", "max_positions", "n_ctx", "seq_length"),
    *("max_seq_len", "max_seq_length", "max_sequence_length", "max_seqlen", "max_len"),
)
MATRIX = 2


def position_limit(model: Any) -> int | None:
    """Return the largest number of tokens that the model can read, None if nothing limits it.

    It is the least of the rows of its position tables, less those that the architecture leaves out,
    and of what its configuration says.
    """
    return min([*_rows_of_tables(model), *_configured(model.config)], default=None)


def _rows_of_tables(model: Any) -> Iterator[int]:
    """Yield how many positions each position table of the encoder has."""
    encoder = getattr(model, model.base_model_prefix, model)
    for name, module in encoder.named_modules():
        weight = getattr(module, "weight", None)  # (positions, hidden)
        if not isinstance(weight, torch.Tensor) or weight.ndim != MATRIX:
            continue
        if not POSITIONS.fullmatch(name.rpartition(".")[2]):
            continue
        padding = getattr(module, "padding_idx", None)  # RoBERTa counts from padding_idx + 1
        yield int(weight.shape[0]) - (0 if padding is None else int(padding) + 1)


def _configured(config: Any) -> Iterator[int]:
    for name in SPELLINGS:
        value = getattr(config, name, None)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 1:
            yield int(value)


def check_length(model: Any, max_length: int, folder: Path) -> None:
    """Run one row of the longest length through the encoder, before the first step needs it.

    Args:
        model: the classifier, on the CPU.
        max_length: tokens of the longest text that it will read.
        folder: for the error.

    Raises:
        ModelError: if the encoder cannot read it.
    """
    padding = getattr(model.config, "pad_token_id", None)
    ids = torch.full((1, max_length), 1 if padding != 1 else 0)
    try:
        with unchanged(model), torch.no_grad():
            encoder_of(model.eval())(input_ids=ids, attention_mask=torch.ones_like(ids))
    except FAILURES as error:
        raise ModelError(
            f"{folder}: the encoder cannot read {max_length} tokens: {printable(error, 150)}",
            "set data.max_length lower",
        ) from error


COMPLETE = "use a complete checkpoint of an encoder, with the config.json that belongs to it"
# What may be left over: numbers that are worked out, a step after the encoder that another task
# had, and the second embeddings (_weight) that DeBERTa-v3's pre-training added to the first.
HARMLESS = re.compile(
    r"pooler|position_ids|token_type_ids|inv_freq|embed_positions|masked_bias"
    r"|\b(attn|attention)\.bias$|\b_weight$|\bversion$"
)


def check_checkpoint(model: Any, info: dict[str, Any], folder: Path) -> set[str]:
    """Return the names of the weights that the checkpoint did not bring, all of them of the head.

    Args:
        model: as Transformers loaded it.
        info: what `from_pretrained` says with `output_loading_info=True`.
        folder: where the checkpoint is, for the error.

    Raises:
        ModelError: if weights of the encoder are missing, have another shape, are left over or
            are not finite: one line for each of these.
    """
    prefix = f"{model.base_model_prefix}."
    parts = {name for name, _ in encoder_of(model).named_children()}
    shapes = {name: (list(found), list(needed)) for name, found, needed in info["mismatched_keys"]}
    fresh = {*info["missing_keys"], *shapes}
    lacks = {n for n in fresh if n.startswith(prefix) and not n.startswith(f"{prefix}pooler.")}
    reshaped = {f"{n}: it has {shapes[n][0]}, not {shapes[n][1]}" for n in lacks & set(shapes)}
    left = {
        name
        for name in info["unexpected_keys"]
        if not HARMLESS.search(name)
        and {name.split(".")[0], name.removeprefix(prefix).split(".")[0]} & parts
    }
    # guard: finite base -> bad: set[str] = set()
    bad = {
        name
        for name, tensor in model.state_dict().items()
        if name not in fresh and not bool(torch.isfinite(tensor).all())
    }
    faults = [
        (lacks - set(shapes), "lacks {} weights of the encoder", COMPLETE),
        (reshaped, "lacks {} weights of the encoder in the shape that config.json says", COMPLETE),
        (
            left,
            "has {} weights of the encoder that the model of config.json does not use",
            "use the config.json that belongs to the weights (number of layers, model_type)",
        ),
        (
            bad,
            "has {} weights with values that are not finite numbers",
            "the checkpoint is damaged: fetch it again from its source, or use another one",
        ),
    ]
    found = [
        (
            f"{folder}: the checkpoint {what.format(len(names))}, for example "
            f"{printable(min(names), 200)}",
            fix,
        )
        for names, what, fix in faults
        if names
    ]
    if found:
        raise ModelError.from_faults(found)
    return fresh


# What the architectures call the share of attention weights that dropout sets to zero.
ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")
REFETCH = "fetch it again: dvc repro -f fetch_base"


def load_base(
    folder: Path,
    labels: list[str],
    seed: int,
    device: Device,
    pooling: Pooling = "auto",
    attention_dropout: float | None = None,
) -> Classifier:
    """Return the foundation model with a fresh head of len(labels) classes, on the CPU.

    The seed is set first, so the fresh head is the same each time.

    Args:
        folder: a Transformers folder with config, weights and tokenizer.
        labels: class names in the order of the logits.
        seed: of the fresh head.
        device: what the model will run on; it decides the attention kernel.
        pooling: which state the head reads: see `classifier.set_pooling`.
        attention_dropout: share of attention weights set to zero in training; None is the model's.

    Raises:
        HostError: if there is no such folder.
        ModelError: if the folder holds no complete, supported safetensors checkpoint.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]  # Transformers leaves it untyped
    require(folder)
    set_seed(seed)
    try:
        config = AutoConfig.from_pretrained(
            folder,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            problem_type="single_label_classification",
            local_files_only=True,
            trust_remote_code=False,
        )
        refuse_unsupported({"model_type": config.model_type}, str(folder))
        for name in ATTENTION_DROPOUT if attention_dropout is not None else ():
            if hasattr(config, name):
                setattr(config, name, attention_dropout)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation=device.kind.attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except UserError:
        raise
    except Exception as error:  # a damaged file makes the loaders raise anything
        raise ModelError(f"{folder}: cannot be loaded: {printable(error, 300)}", REFETCH) from error
    tokenizer = load_tokenizer(folder)
    fresh = check_checkpoint(model, info, folder)
    limit = position_limit(model)
    if limit is not None:  # longer texts are cut
        tokenizer.model_max_length = min(tokenizer.model_max_length, limit)
    undo_switches(encoder_of(model))
    pooling = set_pooling(model, pooling)
    check_tokenizer(tokenizer, model, folder, pooling)
    head = _head_modules(model, fresh)
    classifier = Classifier(model, tokenizer, head, tuple(labels), pooling)
    return find_halves(classifier, folder, device.bf16)


def _head_modules(model: Any, fresh: set[str]) -> tuple[str, ...]:
    """Return the module paths of the head: what is new, and what is outside the encoder."""
    encoder = model.base_model_prefix
    modules = set()
    for name, _ in model.named_parameters():
        if not name.startswith(f"{encoder}."):
            modules.add(name.split(".")[0])
        elif name in fresh:
            modules.add(".".join(name.split(".")[:2]))
    return tuple(sorted(modules))
