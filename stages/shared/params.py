"""params.yaml as one frozen object: read once, checked whole, before anything heavy is imported.

YAML 1.2 as DVC reads it, so that both see the same value in `1e-5`. This module only reads and
checks; it computes nothing, so a stage's result depends on it through the values alone.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from stages.shared import paths
from stages.shared.errors import ParamsError, printable

OnFault = Literal["refuse", "drop"]
Fraction = Annotated[float, Field(gt=0, lt=0.9)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
Name = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]


def _field(expected: str, example: Any, **limits: Any) -> Any:
    """Return a required field whose error reads "expected {expected}" with an example."""
    return Field(description=expected, examples=[example], **limits)


class Section(BaseModel):
    """A part of params.yaml: strict types, no unknown key, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class DataParams(Section):
    """What is classified, and how it is split."""

    source: Name = _field("a catalogue name, owner/name@revision, or a path", "movie-reviews")
    text_column: Name = _field("the name of a column", "text")
    label_column: Name = _field("the name of a column", "label")
    limit: Annotated[int, Field(ge=20)] | None = _field("an integer >= 20, or null", 300)
    max_length: int = _field("an integer from 8 to 8192", 128, ge=8, le=8192)
    validation_fraction: Fraction = _field("a number above 0 and below 0.9", 0.1)
    test_fraction: Fraction = _field("a number above 0 and below 0.9", 0.1)
    on_leak: OnFault = _field("refuse or drop", "refuse")
    on_conflict: OnFault = _field("refuse or drop", "refuse")
    on_incomplete: OnFault = _field("refuse or drop", "refuse")

    @model_validator(mode="after")
    def _leave_rows_to_train(self) -> DataParams:
        if self.validation_fraction + self.test_fraction >= 0.9:
            raise ValueError(
                "data.validation_fraction + data.test_fraction: "
                "expected a sum below 0.9, so that rows are left to train on"
            )
        return self


class ModelParams(Section):
    """Which foundation model."""

    source: Name = _field("a catalogue name, owner/name@revision, or a path", "all-MiniLM-L6-v2")


class HeadParams(Section):
    """How the head of the base is fitted."""

    l2: list[Positive] = _field("a list of numbers above 0", [0.001, 0.01], min_length=1)


class LoraParams(Section):
    """The fields of peft.LoraConfig, under their own names."""

    r: int = _field("an integer from 1 to 1024", 8, ge=1, le=1024)
    lora_alpha: Positive = _field("a number above 0", 16)
    target_modules: Literal["attention", "all-linear"] | list[Name] = _field(
        "attention, all-linear, or a list of module names", "attention", min_length=1
    )
    lora_dropout: float = _field("a number from 0 to below 1", 0.1, ge=0, lt=1)
    bias: Literal["none", "all", "lora_only"] = _field("none, all or lora_only", "none")
    task_type: Literal["SEQ_CLS"] = _field("SEQ_CLS", "SEQ_CLS")
    inference_mode: bool = _field("true or false", False)
    use_rslora: bool = _field("true or false", False)
    use_dora: bool = _field("true or false", False)
    init_lora_weights: (
        bool | Literal["gaussian", "pissa", "pissa_niter_16", "olora", "orthogonal"]
    ) = _field("true, gaussian, pissa, pissa_niter_16, olora or orthogonal", True)
    modules_to_save: list[Name] | None = _field("a list of module names, or null", None)
    layers_to_transform: list[Annotated[int, Field(ge=0)]] | None = _field(
        "a list of layer numbers from 0, or null", [3, 4, 5]
    )
    rank_pattern: dict[Name, Annotated[int, Field(ge=1)]] = _field(
        "a mapping from module names to integers >= 1", {}
    )
    alpha_pattern: dict[Name, Positive] = _field("a mapping from module names to numbers > 0", {})


class TrainParams(Section):
    """How the adapter is trained."""

    epochs: int = _field("an integer from 0 to 1000", 3, ge=0, le=1000)
    learning_rate: float = _field("a number above 0 and at most 10", 0.001, gt=0, le=10)
    batch_size: int = _field("an integer from 1 to 4096", 32, ge=1, le=4096)
    weight_decay: float = _field("a number from 0 to 1", 0.01, ge=0, le=1)
    warmup_fraction: float = _field("a number from 0 to 1", 0.06, ge=0, le=1)
    schedule: Literal["linear", "cosine", "constant"] = _field(
        "linear, cosine or constant", "linear"
    )
    max_grad_norm: Positive = _field("a number above 0", 1.0)
    evaluations_per_epoch: int = _field("an integer from 1 to 100", 2, ge=1, le=100)
    patience: int = _field("an integer >= 0", 4, ge=0)


class ComputeParams(Section):
    """What the work runs on."""

    device: Literal["auto", "cpu", "cuda"] = _field("auto, cpu or cuda", "auto")
    precision: Literal["auto", "bf16", "fp32"] = _field("auto, bf16 or fp32", "auto")
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = _field(
        "auto, or an integer from 1 to 1024", "auto"
    )


class Params(Section):
    """The whole of params.yaml."""

    seed: int = _field("an integer from 0 to 4294967295", 42, ge=0, le=2**32 - 1)
    data: DataParams
    model: ModelParams
    head: HeadParams
    lora: LoraParams
    train: TrainParams
    compute: ComputeParams

    @model_validator(mode="after")
    def _train_what_can_train(self) -> Params:
        if self.lora.inference_mode and self.train.epochs > 0:
            raise ValueError(
                "lora.inference_mode: true freezes the adapter, so it cannot be trained: "
                "expected false, or train.epochs: 0"
            )
        return self


def load_params(path: Path = paths.PARAMS) -> Params:
    """Return the checked params.

    Raises:
        ParamsError: naming every faulty key with file, line, what was expected and a remedy.
    """
    text, content = _read_yaml(path)
    _refuse_secrets(text, path)
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        lines = _line_numbers(text)
        faults = {  # by key, since a union reports each of its members
            key: (f"{path}:{_line_of(lines, key)}: {what}", fix)
            for key, what, fix in (_explain(fault, content) for fault in error.errors())
        }
        raise ParamsError.from_faults(list(faults.values())) from None


def _read_yaml(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = YAML(typ="safe", pure=True).load(text)
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found", "run from the repository root") from None
    except UnicodeDecodeError as error:
        raise ParamsError(
            f"{path}: byte {error.start} is not UTF-8", "save the file as UTF-8"
        ) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ParamsError(
            f"{place}: not valid YAML 1.2: {printable(error.problem or error.context)}",
            "mend that line; git diff shows what changed",
        ) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise ParamsError(
            f"{path}: not valid YAML 1.2: {printable(error)}",
            "restore it with: git checkout params.yaml",
        ) from None
    if not isinstance(content, dict):
        raise ParamsError(
            f"{path}: expected sections of keys, got {printable(repr(content))}",
            "restore it with: git checkout params.yaml",
        )
    return text, content


_SECRET = re.compile(
    r"\b(hf_[A-Za-z0-9]{20,}|ghp_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|sk-[A-Za-z0-9]{20,})"
    r"|BEGIN [A-Z ]*PRIVATE KEY"
)


def _refuse_secrets(text: str, path: Path) -> None:
    """Refuse an access token: what stands in params.yaml ends up in git and in dvc.lock."""
    for number, line in enumerate(text.splitlines(), start=1):
        if _SECRET.search(line):
            raise ParamsError(
                f"{path}:{number}: looks like an access token or key, which git would keep",
                "remove it and set the environment variable HF_TOKEN instead",
            )


def _explain(fault: Any, content: dict[str, Any]) -> tuple[str, str, str]:
    """Return (key, what is wrong, remedy) for one fault that pydantic found."""
    names = [part for part in fault["loc"] if isinstance(part, str)]
    known, field = _resolve(names)
    key = ".".join(known)
    if fault["type"] == "value_error":
        what = str(fault["ctx"]["error"])
        key, _, rest = what.partition(":")
        return key, what, f"change {key.split(' + ')[0]}, {rest.partition('expected ')[2]}"
    if fault["type"] == "extra_forbidden":
        section, wrong = _section(known), printable(names[len(known)])
        close = difflib.get_close_matches(wrong, section, n=1)
        hint = f", did you mean {close[0]}?" if close else ""
        full = ".".join([*known, wrong])
        return full, f"{full}: unknown key{hint}", f"use one of {', '.join(section)}"
    if fault["type"] == "missing":
        example = field.examples[0] if field and field.examples else "..."
        return key, f"{key}: missing", f"add {key}, for example {_yaml(example)}"
    if field is None or not field.examples:
        section = _section(known)
        return key, f"{key}: expected a section", f"give it the keys {', '.join(section)}"
    got = printable(repr(_value(content, known)))
    return (
        key,
        f"{key}: expected {field.description}, got {got}",
        f"set {key} to what you want, for example {_yaml(field.examples[0])}",
    )


def _resolve(names: list[str]) -> tuple[list[str], Any]:
    """Follow `names` through the schema: the part that exists, and the field it ends at."""
    model: Any = Params
    known: list[str] = []
    field = None
    for name in names:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            break
        if name not in model.model_fields:
            break
        known.append(name)
        field = model.model_fields[name]
        model = field.annotation
    return known, field


def _section(known: list[str]) -> list[str]:
    model: Any = Params
    for name in known:
        model = model.model_fields[name].annotation
    return list(model.model_fields)


def _value(content: Any, known: list[str]) -> Any:
    for name in known:
        content = content.get(name) if isinstance(content, dict) else None
    return content


def _yaml(value: Any) -> str:
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if (value is None or isinstance(value, bool))
        else str(value)
    )


def _line_numbers(text: str) -> dict[str, int]:
    """Return the line of each dotted key, counted from 1."""
    lines: dict[str, int] = {}

    def walk(node: Any, prefix: str) -> None:
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            lines[name] = key.start_mark.line + 1
            if value.id == "mapping":
                walk(value, f"{name}.")

    walk(YAML(typ="safe", pure=True).compose(text), "")
    return lines


def _line_of(lines: dict[str, int], key: str) -> int:
    """Return the key's line, or that of the section which lacks it."""
    key = key.split(" + ")[0]
    while key and key not in lines:
        key = key.rpartition(".")[0]
    return lines.get(key, 1)
