"""Any method of PEFT that LoRA's own section is not for: its fields, checked, and where it is put.

Saving and loading are those of LoRA, see `model.lora`.
"""

import dataclasses
import difflib
import re
import typing
from dataclasses import replace
from typing import Any

import torch
from peft import PeftConfig, get_peft_model
from peft.config import PromptLearningConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from stages.core.errors import ParamsError, printable
from stages.core.params import PeftParams
from stages.model.classifier import (
    FAILURES,
    Classifier,
    computes_in_bf16,
    probe_batch,
    unchanged,
    within,
)
from stages.model.lora import (
    ADAPTER,
    is_or_ends,
    modules_saved,
    resolve_targets,
    saved_in_full,
)

# Fields that are not the user's to set: what they are follows from the project.
OURS = {field.name for field in dataclasses.fields(PeftConfig)} | {"exclude_modules"}
REFUSED = {
    "LORA": ("it has a section of its own", "set train.method to lora"),
    "ADALORA": (
        "it keeps what it knows of the ranks in memory alone, so that a training which was "
        "stopped could not continue to the same weights",
        "use LORA with train.method: lora, and lora.rank_pattern",
    ),
    "POLY": ("it is made for several tasks at once", "use another type"),
    "SHADOW": (
        "it carries a second state through the layers, which encoders do not",
        "use another type",
    ),
}
LAYER = re.compile(r"\.(\d+)\.")
NORMALISES = re.compile("Norm$")  # LayerNorm, RMSNorm, NoNorm: the end of the class's name
SAME = 1e-4  # of the largest logit: the rounding of another order of sums


def attach_peft(classifier: Classifier, peft: PeftParams, bf16: bool) -> Classifier:
    """Return the classifier with the method's fresh weights and its head ready to be trained.

    Args:
        classifier: the base, on the CPU.
        peft: the method.
        bf16: whether it will compute in bfloat16.

    Raises:
        ParamsError: if the type is none, a field is not one of its fields or has another type, or
            the method cannot work on this model.
    """
    config = peft_config(classifier, peft)
    before = _logits(classifier)
    try:
        attached = replace(classifier, model=get_peft_model(classifier.model, config))
        after = _logits(attached)
    except (*FAILURES, ArithmeticError, ImportError, StopIteration) as error:
        reason = printable(error or type(error).__name__, 250)
        raise _refused(peft.type, reason, "change the field it names, or peft.type") from error
    if bf16 and not computes_in_bf16(attached.model, probe_batch(classifier.tokenizer)):
        why = "on this model it cannot compute in bf16"
        raise _refused(peft.type, why, "set compute.precision to fp32")
    difference = float((after - before).abs().max())
    if not difference <= SAME * float(before.abs().max()):
        print(
            f"note: {peft.type} does not start as the base: its untrained logits differ by up to "
            f"{difference:.2g}, so no epoch, or a training that is not kept, gives other scores"
        )
    return attached


def peft_config(classifier: Classifier, peft: PeftParams) -> PeftConfig:
    """Return PEFT's configuration, with the modules of this model in place of the roles.

    Every adapted module is named by its whole path: not all methods of PEFT have a field that
    would leave out the head's, whose names may end as the encoder's do.

    Raises:
        ParamsError: see `attach_peft`.
    """
    config_class = class_of(peft.type)
    own: dict[str, Any] = dict(peft.model_extra or {})
    _check_fields(peft.type, config_class, own)
    names = {field.name for field in dataclasses.fields(config_class)}
    layers = own.pop("layers_to_transform", None)
    targets = _targets(classifier, peft)
    if layers is not None:
        wanted = [layers] if isinstance(layers, int) else layers
        targets = [path for path in targets if _layer(path) in wanted]
        if not targets:
            where = f"layers_to_transform: {printable(layers)} has none of the target_modules"
            raise _refused(peft.type, where, "layers are counted from 0")
    own["modules_to_save"] = modules_saved(classifier, own.get("modules_to_save") or [])
    own["target_modules"] = targets
    if "feedforward_modules" in names:  # IA3's: those of the targets that it scales at the input
        ends = own.get("feedforward_modules") or []
        ends = [ends] if isinstance(ends, str) else ends
        own["feedforward_modules"] = [p for p in targets if any(is_or_ends(p, e) for e in ends)]
    try:
        return config_class(task_type="SEQ_CLS", **own)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise _refused(peft.type, printable(error, 200), "change the field it names") from error


def class_of(kind: str) -> type[PeftConfig]:
    """Return PEFT's configuration class of a type.

    Raises:
        ParamsError: if there is no such type, or it is none that this project can train.
    """
    known = {each.value: config for each, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    if kind not in known:
        fits = types()
        close = difflib.get_close_matches(kind.upper(), fits, n=1)
        raise ParamsError(
            f"params.yaml: peft.type: PEFT has no {printable(kind)}"
            f"{f', did you mean {close[0]}?' if close else ''}",
            f"use one of {', '.join(fits)}",
        )
    if why := _why_not(kind, known[kind]):
        raise _refused(kind, *why)
    return known[kind]


def types() -> list[str]:
    """Return the types that can be trained here."""
    known = PEFT_TYPE_TO_CONFIG_MAPPING.items()
    return sorted(kind.value for kind, config in known if not _why_not(kind.value, config))


def _why_not(kind: str, config: Any) -> tuple[str, str] | None:
    """Return why a type cannot be trained here and what to do, None if it can."""
    names = {field.name for field in dataclasses.fields(config)}
    if kind in REFUSED:
        return REFUSED[kind]
    if issubclass(config, PromptLearningConfig):
        return (
            "it puts states of its own before the text, which neither the pooling nor an export "
            "knows of",
            "use a method that adapts modules",
        )
    if not {"target_modules", "modules_to_save"} <= names:
        return "it has no modules_to_save, so the head could not train", "use another type"
    return None


def _check_fields(kind: str, config: type[PeftConfig], own: dict[str, Any]) -> None:
    """Check names and types of the fields against PEFT's dataclass; all faults are reported."""
    hints = typing.get_type_hints(config)
    known = sorted({field.name for field in dataclasses.fields(config)} - OURS)
    faults = []
    for name, value in own.items():
        where = f"params.yaml: peft.{printable(name)}"
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {close[0]}?" if close else ""
            what = f"{kind} has no such field{hint}"
            if name in OURS:
                what = "this project sets it"
            faults.append((f"{where}: {what}", f"use one of {', '.join(known)}"))
            continue
        try:
            TypeAdapter(hints[name]).validate_python(value, strict=True)
        except ValidationError as error:
            said = error.errors()[0]["msg"]
            fix = f"PEFT's {config.__name__} says what {name} means"
            faults.append((f"{where}: {said}, got {printable(repr(value))}", fix))
    if faults:
        raise ParamsError.from_faults(faults)


def _targets(classifier: Classifier, peft: PeftParams) -> list[str]:
    """Return the paths of the encoder's modules that are adapted."""
    modules = dict(classifier.model.named_modules())
    if peft.target_modules == "auto" and peft.type == "LN_TUNING":
        found = [p for p, m in modules.items() if NORMALISES.search(type(m).__name__)]
        return [path for path in found if not within(path, classifier.head)]
    wanted = "all-linear" if peft.target_modules == "auto" else peft.target_modules
    names = resolve_targets(classifier, wanted, "peft.target_modules")
    named = [path for path in modules if any(is_or_ends(path, name) for name in names)]
    is_role = isinstance(wanted, str)
    return [
        path
        for path in named
        if not within(path, classifier.head)
        and (not is_role or isinstance(modules[path], nn.Linear))
    ]


def _layer(path: str) -> int | None:
    """Return the number of the layer that a module is in, None outside of them."""
    found = LAYER.search(path)
    return int(found[1]) if found else None


def _logits(classifier: Classifier) -> Tensor:
    """Return the logits of a few texts: (texts, classes)."""
    model = classifier.model
    batch = probe_batch(classifier.tokenizer)
    with unchanged(model), torch.no_grad():
        logits: Tensor = model.eval()(**batch).logits
    return logits


def _refused(kind: str, reason: str, fix: str) -> ParamsError:
    return ParamsError(f"params.yaml: peft.type: {kind}: {reason}", fix)


def describe_peft(classifier: Classifier) -> str:
    """Return the method and the modules in words, as they are in the model."""
    config = classifier.model.peft_config[ADAPTER]
    adapted = config.target_modules
    names = ", ".join(sorted({path.rpartition(".")[2] for path in adapted}))
    full = saved_in_full(classifier)
    return ", ".join(
        [f"{config.peft_type.value} on {names} ({len(adapted)} modules)", *full, "head"]
    )
