"""params.yaml as one frozen object: read once, checked before anything heavy is imported.

YAML 1.2 as DVC reads it, so that both see the same value in `1e-5`. This module only reads and
checks; it computes nothing, so a stage's result depends on it through the values alone.
"""

import difflib
import json
import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError

from stages.core import paths
from stages.core.errors import ParamsError, printable


def _only_true(value: bool) -> bool:
    if not value:
        raise PydanticCustomError("only_true", "false is not offered")
    return value


OnlyTrue = Annotated[bool, AfterValidator(_only_true)]
Layers = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
OnFault = Literal["refuse", "drop"]
Fraction = Annotated[float, Field(gt=0, lt=0.9)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
# No control character, line separator or direction override: a name is shown to people.
PLAIN = r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+$"
Name = Annotated[str, Field(min_length=1, max_length=1000, pattern=PLAIN)]
# A column without a name has a number, from 1; YAML and `-S data.text_column=2` give it as one.
Column = Annotated[Name, BeforeValidator(lambda v: str(v) if type(v) is int and v > 0 else v)]


def field(expected: str, example: Any, **limits: Any) -> Any:
    """Return a required field whose error reads "expected {expected}" with an example."""
    return Field(description=expected, examples=[example], **limits)


class Section(BaseModel):
    """A part of params.yaml: strict types, no unknown key, immutable."""

    # guard: unknown key
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        ParamsError: if there is no such file, or it is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise ParamsError(f"{path}: not found", "run from the repository root") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ParamsError(
            f"{path}:{line}: byte {error.start} is not UTF-8", "save the file as UTF-8"
        ) from None


def parse_yaml(text: str, path: Path) -> dict[str, Any]:
    """Return the sections of a YAML 1.2 text, not checked yet.

    Raises:
        ParamsError: if it is not YAML, or holds no sections.
    """
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        if conflict := re.search(r"(?m)^<<<<<<< ", text):
            line = text[: conflict.start()].count("\n") + 1
            what = f"{path}:{line}: the mark of a merge conflict"
            raise ParamsError(what, f"keep one side of each, then run: git add {path}") from None
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ParamsError(
            f"{place}: not valid YAML 1.2: {printable(error.problem or error.context)}",
            "correct that line or one above it; git diff shows what changed",
        ) from None
    except Exception as error:  # a tag can make the parser raise anything: !!bool x is a KeyError
        position = getattr(error, "position", None)
        place = str(path) if position is None else f"{path}:{text[:position].count(chr(10)) + 1}"
        raise ParamsError(
            f"{place}: not valid YAML 1.2: {printable(str(error).partition(chr(10))[0])}",
            f"correct it: git diff {path} shows what changed",
        ) from None
    if not isinstance(content, dict):
        raise ParamsError(
            f"{path}:1: expected sections of keys, got {_shown(content)}",
            f"correct it: git diff {path} shows what changed",
        )
    return content


def _explain(fault: Any, content: Any) -> tuple[list[Any], str, str]:
    """Return the key by its parts, what is wrong and a remedy for a fault that pydantic found."""
    if fault["type"] == "value_error":
        what, fix = fault["ctx"]["error"].args
        return what.partition(":")[0].split(" + ")[0].split("."), what, fix
    names = [part for part in fault["loc"] if isinstance(part, str)]
    known: list[str] = []  # of them, those that the schema has
    section: type[BaseModel] | None = Params
    found, got = None, content
    while section is not None and names[len(known) :] and names[len(known)] in section.model_fields:
        found = section.model_fields[names[len(known)]]
        got = got.get(names[len(known)]) if isinstance(got, dict) else None
        known.append(names[len(known)])
        kind = found.annotation
        section = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
    key, keys = ".".join(known), list(section.model_fields) if section else []
    example = None
    if found and found.examples:
        value = found.examples[0]
        example = json.dumps(value) if value is None or isinstance(value, bool) else str(value)
    if fault["type"] in ("extra_forbidden", "invalid_key") and example is None:
        wrong = ".".join([*known, printable(fault["loc"][-1])])
        what = "a key is a name, not a value"
        if fault["type"] == "extra_forbidden":
            close = difflib.get_close_matches(names[-1], keys, n=1)
            what = f"unknown key{f', did you mean {close[0]}?' if close else ''}"
        return [*known, fault["loc"][-1]], f"{wrong}: {what}", f"use one of {', '.join(keys)}"
    if fault["type"] == "missing":
        fix = f"a section with the keys {', '.join(keys)}" if example is None else key
        fix += "" if example is None else f", for example {example}"
        return known, f"{key}: missing", f"add {fix}"
    if found is None or example is None:
        what = f"{key}: expected a section, got {_shown(got)}"
        return known, what, f"give it the keys {', '.join(keys)}"
    what = f"{key}: expected {found.description}, got {_shown(got)}"
    return known, what, f"set {key} to what you want, for example {example}"


def _shown(value: Any) -> str:
    """Return a short repr even of a value that aliases make endless."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 80
    try:
        return printable(short.repr(value))
    except ValueError:  # Python writes out no integer of more than 4,300 digits
        return "a number of thousands of digits"


def _line_of(document: Any, key: list[Any]) -> int:
    """Return the key's line in what ruamel has loaded, or that of the section which lacks it."""
    line = 0
    for name in key:
        if not isinstance(document, CommentedMap) or name not in document:
            break
        line, document = document.lc.key(name)[0], document[name]
    return line + 1


# Fields with a default are those that the params of older commits lack, which people compare with.


class DataParams(Section):
    """What is classified, and how it is split."""

    source: Name = field("a catalogue name, owner/name@revision, or a path", "movie-reviews")
    text_column: Column = field("the name or the number of a column", "text")
    label_column: Column | Annotated[list[Column], Field(min_length=2)] = field(
        "the name or the number of a column, or a list of several", "label"
    )
    group_column: Column | None = field("the name of a column, or null", "film", default=None)
    header: bool = field("true or false", False, default=True)
    label_names: Annotated[list[Name], Field(min_length=2)] | Name | None = field(
        "a list of names, the path of a file with one name a line, or null",
        "[negative, positive]",
        default=None,
    )
    limit: Annotated[int, Field(ge=20)] | None = field("an integer >= 20, or null", 300)
    max_length: int = field("an integer from 8 to 8192", 128, ge=8, le=8192)
    split_seed: int = field("an integer from 0 to 4294967295", 42, ge=0, le=2**32 - 1)
    validation_fraction: Fraction = field("a number above 0 and below 0.9", 0.1)
    test_fraction: Fraction = field("a number above 0 and below 0.9", 0.1)
    on_leak: OnFault = field("refuse or drop", "refuse")
    on_conflict: Literal["refuse", "drop", "majority"] = field("refuse, drop or majority", "refuse")
    on_incomplete: OnFault = field("refuse or drop", "refuse")
    on_rare: Literal["refuse", "drop", "merge"] = field(
        "refuse, drop or merge", "refuse", default="refuse"
    )
    rare_class: Name = field("the name of a class", "other", default="other")

    @property
    def label_columns(self) -> list[str]:
        """The columns with labels, of which several raters fill one each."""
        return [self.label_column] if isinstance(self.label_column, str) else self.label_column

    @model_validator(mode="after")
    def _agree(self) -> "DataParams":
        if self.validation_fraction + self.test_fraction >= 0.9:
            raise ValueError(
                "data.validation_fraction + data.test_fraction: "
                "expected a sum below 0.9, so that rows are left to train on",
                "lower one of the two",
            )
        if self.text_column in self.label_columns:
            raise ValueError(
                "data.label_column: expected another column than data.text_column",
                "set each to the name of its own column",
            )
        if len(set(self.label_columns)) < len(self.label_columns):
            raise ValueError("data.label_column: a column occurs twice", "name each column once")
        if self.group_column in (self.text_column, *self.label_columns):
            raise ValueError(
                "data.group_column: expected another column than that of text or label",
                "set it to the column of what the rows of a group share, or to null",
            )
        return self


class ModelParams(Section):
    """Which foundation model."""

    source: Name = field("a catalogue name, owner/name@revision, or a path", "all-MiniLM-L6-v2")
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


class PeftParams(Section):
    """A method of PEFT: its type, and fields of its configuration under their own names."""

    # Further fields are those of the type's class in PEFT; `model.any_peft` checks them by it.
    model_config = ConfigDict(extra="allow")

    type: Name = field("the type of a PEFT method", "IA3", default="IA3")
    target_modules: Literal["auto", "attention", "mlp", "all-linear"] | list[Name] = field(
        "auto, attention, mlp, all-linear, or a list of module names",
        "auto",
        default="auto",
        min_length=1,
    )


class TrainParams(Section):
    """How the adapter is trained."""

    method: Literal["lora", "peft", "bias", "full", "head"] = field(
        "lora, peft, bias, full or head", "lora"
    )
    start: Literal["means", "base"] = field("means or base", "means")
    epochs: Literal["auto"] | Annotated[int, Field(ge=0, le=1000)] = field(
        "auto, or an integer from 0 to 1000", 3
    )
    learning_rate: float = field("a number above 0 and at most 10", 0.001, gt=0, le=10)
    full_learning_rate: float = field("a number above 0 and at most 10", 0.0001, gt=0, le=10)
    batch_size: int = field("an integer from 1 to 4096", 32, ge=1, le=4096)
    weight_decay: float = field("a number from 0 to 1", 0.01, ge=0, le=1)
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] | None = field(
        "a number from 0 to below 1, or null", 0.1, default=0.0
    )
    warmup_fraction: float = field("a number from 0 to 1", 0.06, ge=0, le=1)
    schedule: Literal["linear", "cosine", "constant"] = field(
        "linear, cosine or constant", "linear"
    )
    label_smoothing: float = field("a number from 0 to below 1", 0.1, ge=0, lt=1)
    class_weight: Literal["none", "balanced"] = field("none or balanced", "none", default="none")
    contrastive: Literal["auto"] | Annotated[float, Field(ge=0, le=100)] = field(
        "auto, or a number from 0 to 100", 0.5
    )
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
    peft: PeftParams = field("a section", {}, default=PeftParams())
    train: TrainParams
    compute: ComputeParams
    # Read by `bert-lora search` alone, which checks it; no stage depends on it.
    search: dict[Name, dict[str, Any]] = field(
        "a mapping from params to ranges or choices", {}, default={}
    )

    @model_validator(mode="after")
    def _train_what_can_train(self) -> "Params":
        trains_lora = self.train.method == "lora" and self.train.epochs != 0
        if self.lora.inference_mode and trains_lora:
            raise ValueError(
                "lora.inference_mode: true freezes the adapter, so it cannot be trained",
                "set lora.inference_mode to false, or train.epochs to 0",
            )
        return self


def load_params(path: Path = paths.PARAMS) -> "Params":
    """Return the checked params.

    Raises:
        ParamsError: naming every faulty key with file, line, what was expected and a remedy.
    """
    return parse_params(read_text(path), path)


def parse_params(text: str, path: Path) -> "Params":
    """Return the checked params in `text`; `path` is what an error calls it.

    Raises:
        ParamsError: naming every faulty key with file, line, what was expected and a remedy.
    """
    content = parse_yaml(text, path)
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        document, faults = YAML(pure=True).load(text), {}  # by key: a union reports each member
        for key, what, fix in (_explain(fault, content) for fault in error.errors()):
            faults[tuple(key)] = (f"{path}:{_line_of(document, key)}: {what}", fix)
        raise ParamsError.from_faults(list(faults.values())) from None
