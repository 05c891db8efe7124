"""LoRA: which weights it adapts, whether the params fit this model, and its files.

LoRA: Hu et al. 2021, arXiv 2106.09685.
"""

import json
import math
import re
import warnings
from dataclasses import replace
from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn

from stages.core import paths
from stages.core.artefacts import write_json
from stages.core.errors import ParamsError, printable
from stages.core.params import LoraParams
from stages.model.classifier import FAILURES, Classifier, within

# What the architectures call their query, key and value projections: BERT, RoBERTa, ELECTRA,
# ALBERT; MPNet; DistilBERT, XLM; DeBERTa-v2 and -v3; DeBERTa; ModernBERT; NomicBERT, GTE; Funnel.
ATTENTION = {
    *("q_head", "k_head", "v_head"),
    *("query", "key", "value", "q", "k", "v", "q_lin", "k_lin", "v_lin", "in_proj", "Wqkv"),
    *("query_proj", "key_proj", "value_proj", "q_proj", "k_proj", "v_proj"),
}
IN_LAYER = re.compile(r"\.\d+\.")  # encoder.layer.0.output.dense; not pooler.dense
IN_ATTENTION = re.compile("att(n|ention)")


def linear_names(classifier: Classifier) -> list[str]:
    """Return the paths of the encoder's linear layers, in the model's order."""
    return [
        name
        for name, module in classifier.model.named_modules()
        if isinstance(module, nn.Linear) and not within(name, classifier.head)
    ]


def resolve_targets(
    classifier: Classifier, wanted: str | list[str], key: str = "lora.target_modules"
) -> list[str]:
    """Return the module names that a role means here; names of the user's own pass through.

    Args:
        classifier: the base.
        wanted: a role, or names.
        key: what errors call the param.

    Raises:
        ParamsError: if the role or a name matches no module of this model, or only the head's.
    """
    linear = linear_names(classifier)
    leaves = sorted({name.rpartition(".")[2] for name in linear})
    known = [name for name, _ in classifier.model.named_modules()]
    if wanted == "attention":
        names = [leaf for leaf in leaves if leaf in ATTENTION]
    elif wanted == "mlp":
        own = [path for path in linear if IN_LAYER.search(path) and not IN_ATTENTION.search(path)]
        others = set(known) - set(own)
        names = sorted({_shortest(path, others) for path in own})
    elif wanted == "all-linear":
        names = leaves
    else:
        names = sorted(set(wanted))
    unknown = [name for name in names if not any(is_or_ends(path, name) for path in known)]
    if unknown or not names:
        raise ParamsError(
            f"params.yaml: {key}: {printable(unknown or wanted)} matches no module of this model",
            f"use attention, mlp, all-linear, or names out of {', '.join(leaves)}",
        )
    encoder = [path for path in known if not within(path, classifier.head)]
    in_head = [name for name in names if not any(is_or_ends(path, name) for path in encoder)]
    if in_head:
        raise ParamsError(
            f"params.yaml: {key}: {printable(', '.join(in_head))}: in the head "
            f"({', '.join(classifier.head)}), which is trained in full and not adapted",
            f"leave {printable(', '.join(in_head))} out",
        )
    return names


def modules_saved(classifier: Classifier, wanted: list[str]) -> list[str]:
    """Return the modules that are trained in full: the head, and the wanted ones outside of it.

    PEFT takes a name for the end of a path (embeddings also matches word_embeddings), and cannot
    load what it saved of a module in another saved one. Where a name would do so, the paths that
    it stands for take its place.
    """
    paths = [name for name, _ in classifier.model.named_modules() if name]
    found = [path for path in paths if any(is_or_ends(path, name) for name in wanted)]
    everything = {*classifier.head, *found}
    outer = [p for p in found if not within(p, tuple(everything - {p}))]
    taken = [path for path in paths if path.endswith(tuple(wanted))]
    return sorted({*classifier.head, *(wanted if outer == found == taken else outer)})


def _shortest(path: str, others: set[str]) -> str:
    """Return the shortest end of a path by which PEFT takes none of the others."""
    parts = path.split(".")
    ends = (".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1))
    return next(end for end in ends if not any(is_or_ends(other, end) for other in others))


def is_or_ends(path: str, name: str) -> bool:
    """Return whether PEFT takes a name for the module of this path."""
    return path == name or path.endswith(f".{name}")


def check_names(classifier: Classifier, lora: LoraParams) -> None:
    """Check layers and modules to save against the model.

    Raises:
        ParamsError: with every fault.
    """
    modules = [name for name, _ in classifier.model.named_modules()]
    layers = getattr(classifier.model.config, "num_hidden_layers", math.inf)
    faults = [
        (
            f"params.yaml: lora.layers_to_transform: there is no layer {number}",
            f"this model's layers are 0 to {layers - 1}",
        )
        for number in lora.layers_to_transform or []
        if number >= layers
    ]
    faults += [
        (
            f"params.yaml: lora.modules_to_save: {printable(name)} matches no module",
            "use the name of a module, for example the last part of its path",
        )
        for name in lora.modules_to_save or []
        if not any(is_or_ends(path, name) for path in modules)
    ]
    if faults:
        raise ParamsError.from_faults(faults)


# Of LN_TUNING, whose modules are none of PEFT's usual kinds; the saved adapter is checked.
warnings.filterwarnings("ignore", "Unsupported layer type", UserWarning)
ADAPTER = "default"  # PEFT's name for an adapter that is given none
UNORDERED = (
    "target_modules",
    "exclude_modules",
    "modules_to_save",
    "feedforward_modules",
)  # sets in PEFT


def attach_lora(classifier: Classifier, lora: LoraParams) -> Classifier:
    """Return the classifier with fresh LoRA weights and its head ready to be trained.

    B starts at zero (unless init_lora_weights says otherwise), so the logits are unchanged.

    Raises:
        ParamsError: if a field does not fit this model.
    """
    check_names(classifier, lora)
    try:
        config = lora_config(classifier, lora)
        with warnings.catch_warnings():  # PEFT warns of a pattern that matches nothing
            warnings.filterwarnings("error", ".* keys did not match", RuntimeWarning)
            model = get_peft_model(classifier.model, config)
    except (*FAILURES, RuntimeWarning, re.error) as error:
        raise ParamsError(
            f"params.yaml: lora: PEFT refuses these fields: {printable(error, 200)}",
            "change the field it names",
        ) from error
    return replace(classifier, model=model)


def lora_config(classifier: Classifier, lora: LoraParams) -> LoraConfig:
    """Return PEFT's configuration of the params, with the roles of target_modules resolved.

    Raises:
        ParamsError: if target_modules match no module.
        ValueError, TypeError: from PEFT, if it refuses a field.
    """
    fields = lora.model_dump()
    if lora.lora_alpha % 1 == 0:
        fields["lora_alpha"] = int(lora.lora_alpha)
    fields["target_modules"] = resolve_targets(classifier, lora.target_modules)
    fields["modules_to_save"] = modules_saved(classifier, lora.modules_to_save or [])
    return LoraConfig(**fields, exclude_modules=_linear_in_head(classifier))


def describe_lora(classifier: Classifier) -> str:
    """Return rank and modules in words, as they are in the model: those adapted, those in full."""
    config = classifier.model.peft_config[ADAPTER]
    adapted = classifier.model.base_model.targeted_module_names
    names = ", ".join(sorted({path.rpartition(".")[2] for path in adapted}))
    more = saved_in_full(classifier)
    return ", ".join([f"LoRA r={config.r} on {names} ({len(adapted)} modules)", *more, "head"])


def saved_in_full(classifier: Classifier) -> list[str]:
    """Return in words what is trained in full beside the head."""
    full = [
        path.removeprefix("base_model.model.")
        for path, module in classifier.model.named_modules()
        if isinstance(module, ModulesToSaveWrapper)
    ]
    return [f"all of {path}" for path in full if not within(path, classifier.head)]


def save_lora(classifier: Classifier, folder: Path, base: str) -> None:
    """Write adapter and head as a PEFT folder, the same bytes for the same weights.

    Lists that PEFT keeps as sets are sorted.

    Args:
        classifier: with LoRA or another method of PEFT attached.
        folder: the folder to make.
        base: what the configuration calls the base model: owner/name on the Hub, maybe with
            @revision, or its folder in the clone.
    """
    classifier.model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / paths.ADAPTER_CONFIG.name
    config = json.loads(path.read_text(encoding="utf-8"))
    ordered = {
        key: sorted(set(value)) if isinstance(value, list) and key in UNORDERED else value
        for key, value in config.items()
    }
    ordered["base_model_name_or_path"], _, revision = base.partition("@")
    ordered["revision"] = revision or None
    write_json(path, ordered, decimals=12)


def load_lora(classifier: Classifier, folder: Path, saved: dict[str, Tensor]) -> Classifier:
    """Return the classifier with the saved LoRA and head.

    Args:
        classifier: the base model.
        folder: the PEFT folder.
        saved: the folder's weights by name.

    Raises:
        OSError, ValueError, KeyError, TypeError, RuntimeError: from PEFT, if it refuses the folder.
        KeyError: if a tensor is missing or belongs to no adapted module.
    """
    # Loaded as it was trained, so that it is also scored as validation scored it: LoRA's own
    # weights in float32.
    model = PeftModel.from_pretrained(
        classifier.model, folder, local_files_only=True, is_trainable=True
    )
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    different = sorted(set(expected) ^ set(saved))
    if different:  # guard: tensors of the adapter
        raise KeyError(
            f"{len(different)} tensors do not match the model, for example {different[0]}"
        )
    return replace(classifier, model=model)


def _linear_in_head(classifier: Classifier) -> list[str] | None:
    """Return the paths of all linear layers in the head: they are trained in full, not adapted."""
    names = [
        name
        for name, module in classifier.model.named_modules()
        if isinstance(module, nn.Linear) and within(name, classifier.head)
    ]
    return names or None
