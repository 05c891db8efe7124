"""params.yaml as one frozen object: read once, checked before anything heavy is imported.

YAML 1.2 as DVC reads it, so that both see the same value in `1e-5`. This module only reads and
checks; it computes nothing, so a stage's result depends on it through the values alone. What an
error says is in `params_errors`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from stages.core import paths
from stages.core.params_errors import explained, parse_yaml, read_text
from stages.core.params_fields import (
    Fraction,
    Layers,
    Name,
    OnFault,
    OnlyTrue,
    Positive,
    Section,
    field,
)


class DataParams(Section):
    """What is classified, and how it is split."""

    source: Name = field("a catalogue name, owner/name@revision, or a path", "movie-reviews")
    text_column: Name = field("the name of a column", "text")
    label_column: Name = field("the name of a column", "label")
    # With a default, since the params of older commits, which people compare with, lack it.
    group_column: Name | None = field("the name of a column, or null", "film", default=None)
    limit: Annotated[int, Field(ge=20)] | None = field("an integer >= 20, or null", 300)
    max_length: int = field("an integer from 8 to 8192", 128, ge=8, le=8192)
    split_seed: int = field("an integer from 0 to 4294967295", 42, ge=0, le=2**32 - 1)
    validation_fraction: Fraction = field("a number above 0 and below 0.9", 0.1)
    test_fraction: Fraction = field("a number above 0 and below 0.9", 0.1)
    on_leak: OnFault = field("refuse or drop", "refuse")
    on_conflict: OnFault = field("refuse or drop", "refuse")
    on_incomplete: OnFault = field("refuse or drop", "refuse")

    @model_validator(mode="after")
    def _agree(self) -> DataParams:
        if self.validation_fraction + self.test_fraction >= 0.9:
            raise ValueError(
                "data.validation_fraction + data.test_fraction: "
                "expected a sum below 0.9, so that rows are left to train on",
                "lower one of the two",
            )
        if self.text_column == self.label_column:
            raise ValueError(
                "data.label_column: expected another column than data.text_column",
                "set each to the name of its own column",
            )
        if self.group_column in (self.text_column, self.label_column):
            raise ValueError(
                "data.group_column: expected another column than that of text or label",
                "set it to the column of what the rows of a group share, or to null",
            )
        return self


class ModelParams(Section):
    """Which foundation model."""

    source: Name = field("a catalogue name, owner/name@revision, or a path", "all-MiniLM-L6-v2")
    # With a default, since the params of older commits, which people compare with, lack it.
    pooling: Literal["auto", "first", "mean"] = field("auto, first or mean", "auto", default="auto")


class HeadParams(Section):
    """How the head of the base is fitted."""

    l2: list[Positive] = field("a list of numbers above 0", [0.001, 0.01], min_length=1)


class TfidfParams(Section):
    """How the bag-of-words baseline is fitted."""

    ngrams: list[Annotated[int, Field(ge=1, le=5)]] = field(
        "a list of integers from 1 to 5", [1, 2], min_length=1
    )
    c: list[Positive] = field("a list of numbers above 0", [1, 10], min_length=1)


class LoraParams(Section):
    """The fields of peft.LoraConfig, under their own names."""

    r: int = field("an integer from 1 to 1024", 8, ge=1, le=1024)
    lora_alpha: Positive = field("a number above 0", 16)
    target_modules: Literal["attention", "mlp", "all-linear"] | list[Name] = field(
        "attention, mlp, all-linear, or a list of module names", "attention", min_length=1
    )
    lora_dropout: float = field("a number from 0 to below 1", 0.1, ge=0, lt=1)
    bias: Literal["none", "all", "lora_only"] = field("none, all or lora_only", "none")
    task_type: Literal["SEQ_CLS"] = field("SEQ_CLS", "SEQ_CLS")
    inference_mode: bool = field("true or false", False)
    use_rslora: bool = field("true or false", False)
    use_dora: bool = field("true or false", False)
    init_lora_weights: OnlyTrue | Literal["gaussian", "pissa", "olora", "orthogonal"] = field(
        "true, gaussian, pissa, olora or orthogonal", True
    )
    modules_to_save: list[Name] | None = field("a list of module names, or null", None)
    layers_to_transform: Layers | None = field("a list of layer numbers from 0, or null", [3, 4, 5])
    rank_pattern: dict[Name, Annotated[int, Field(ge=1, le=1024)]] = field(
        "a mapping from module names to integers from 1 to 1024", {}
    )
    alpha_pattern: dict[Name, Positive] = field("a mapping from module names to numbers > 0", {})


class TrainParams(Section):
    """How the adapter is trained."""

    method: Literal["lora", "full", "head"] = field("lora, full or head", "lora")
    start: Literal["means", "base"] = field("means or base", "means")
    epochs: Literal["auto"] | Annotated[int, Field(ge=0, le=1000)] = field(
        "auto, or an integer from 0 to 1000", 3
    )
    learning_rate: float = field("a number above 0 and at most 10", 0.001, gt=0, le=10)
    full_learning_rate: float = field("a number above 0 and at most 10", 0.0001, gt=0, le=10)
    batch_size: int = field("an integer from 1 to 4096", 32, ge=1, le=4096)
    weight_decay: float = field("a number from 0 to 1", 0.01, ge=0, le=1)
    # With a default, since the params of older commits, which people compare with, lack it.
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] | None = field(
        "a number from 0 to below 1, or null", 0.1, default=0.0
    )
    warmup_fraction: float = field("a number from 0 to 1", 0.06, ge=0, le=1)
    schedule: Literal["linear", "cosine", "constant"] = field(
        "linear, cosine or constant", "linear"
    )
    label_smoothing: float = field("a number from 0 to below 1", 0.1, ge=0, lt=1)
    contrastive: Literal["auto"] | Annotated[float, Field(ge=0, le=100)] = field(
        "auto, or a number from 0 to 100", 0.5
    )
    # With a default, since the params of older commits lack it.
    ema_decay: float = field("a number from 0 to below 1", 0.99, default=0.0, ge=0, lt=1)
    select_by: Literal["loss", "scaled_loss"] = field("loss or scaled_loss", "loss", default="loss")
    max_grad_norm: Positive = field("a number above 0", 1.0)
    evaluations: int = field("an integer from 1 to 1000", 6, ge=1, le=1000)
    patience: int = field("an integer >= 0", 4, ge=0)


class ComputeParams(Section):
    """What the work runs on."""

    device: Literal["auto", "cpu", "cuda", "mps", "xpu"] = field(
        "auto, cpu, cuda, mps or xpu", "auto"
    )
    precision: Literal["auto", "bf16", "fp32"] = field("auto, bf16 or fp32", "auto")
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = field(
        "auto, or an integer from 1 to 1024", "auto"
    )
    # With a default, since the params of older commits, which people compare with, lack it.
    processes: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = field(
        "auto, or an integer from 1 to 1024", 1, default=1
    )


class Params(Section):
    """All of params.yaml."""

    seed: int = field("an integer from 0 to 4294967295", 42, ge=0, le=2**32 - 1)
    data: DataParams
    model: ModelParams
    tfidf: TfidfParams
    head: HeadParams
    lora: LoraParams
    train: TrainParams
    compute: ComputeParams
    # Read by `bert-lora search` alone, which checks it; no stage depends on it.
    search: dict[Name, dict[str, Any]] = field(
        "a mapping from params to ranges or choices", {}, default={}
    )

    @model_validator(mode="after")
    def _train_what_can_train(self) -> Params:
        trains_lora = self.train.method == "lora" and self.train.epochs != 0
        if self.lora.inference_mode and trains_lora:
            raise ValueError(
                "lora.inference_mode: true freezes the adapter, so it cannot be trained",
                "set lora.inference_mode to false, or train.epochs to 0",
            )
        return self


def load_params(path: Path = paths.PARAMS) -> Params:
    """Return the checked params.

    Raises:
        ParamsError: naming every faulty key with file, line, what was expected and a remedy.
    """
    return parse_params(read_text(path), path)


def parse_params(text: str, path: Path) -> Params:
    """Return the checked params in `text`; `path` is what an error calls it.

    Raises:
        ParamsError: naming every faulty key with file, line, what was expected and a remedy.
    """
    content = parse_yaml(text, path)
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise explained(error, Params, content, text, path) from None
