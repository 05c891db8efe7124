"""The table of training methods: one entry says all that differs between what they do.

A further method is one more entry, one in `core.methods`, a name in
`core.params.TrainParams.method`, and its tests.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from stages.core import paths
from stages.core.artefacts import write_json
from stages.core.params import Params, TrainParams
from stages.model.classifier import Classifier
from stages.model.head import freeze_encoder
from stages.model.lora import attach_lora, describe_lora, load_lora, save_lora, unusual_settings


def train_everything(classifier: Classifier) -> Classifier:
    """Return the classifier with every weight trainable."""
    classifier.model.requires_grad_(True)
    return classifier


def save_everything(classifier: Classifier, folder: Path, base: str) -> None:
    """Write all weights to a new folder."""
    state = classifier.model.state_dict()
    weights = {name: w.detach().cpu().contiguous().clone() for name, w in state.items()}
    _write(weights, folder, base)


def load_everything(classifier: Classifier, _: Path, saved: dict[str, Tensor]) -> Classifier:
    """Return the classifier with the saved weights in place of all of its own.

    Raises:
        RuntimeError: if the names or shapes differ.
    """
    classifier.model.load_state_dict(saved)
    return classifier


def train_head(classifier: Classifier) -> Classifier:
    """Return the classifier with its head trainable and its encoder frozen."""
    freeze_encoder(classifier)
    return classifier


def save_trained_head(classifier: Classifier, folder: Path, base: str) -> None:
    """Write the head's weights to a new folder."""
    _write(classifier.head_state(), folder, base)


def load_trained_head(classifier: Classifier, _: Path, saved: dict[str, Tensor]) -> Classifier:
    """Return the classifier with the saved head in place of its own.

    Raises:
        KeyError: if the names differ.
        RuntimeError: if the shapes differ.
    """
    if set(saved) != set(classifier.head_state()):
        raise KeyError(f"the weights are not those of the head {', '.join(classifier.head)}")
    classifier.model.load_state_dict(saved, strict=False)
    return classifier


def _write(weights: dict[str, Tensor], folder: Path, base: str) -> None:
    folder.mkdir()
    save_file(weights, folder / paths.ADAPTER_WEIGHTS.name)
    config = {"base_model_name_or_path": base.partition("@")[0], "peft_type": None}
    write_json(folder / paths.ADAPTER_CONFIG.name, config)


@dataclass(frozen=True)
class Method:
    """One way to train the classifier.

    Attributes:
        learning_rate: the peak learning rate that it trains with.
        attach: gives the classifier what trains; everything else is frozen.
        describe: what trains, in words.
        warnings: a line for each setting that rarely makes sense.
        save: writes weights and configuration into a new folder.
        load: puts the weights of such a folder, already read, into a classifier.
    """

    learning_rate: Callable[[TrainParams], float]
    attach: Callable[[Classifier, Params], Classifier]
    describe: Callable[[Classifier], str]
    warnings: Callable[[Params], list[str]]
    save: Callable[[Classifier, Path, str], None]
    load: Callable[[Classifier, Path, dict[str, Tensor]], Classifier]


METHODS: dict[str, Method] = {
    "head": Method(
        learning_rate=lambda train: train.learning_rate,
        attach=lambda classifier, _: train_head(classifier),
        describe=lambda _: "the head",
        warnings=lambda _: [],
        save=save_trained_head,
        load=load_trained_head,
    ),
    "lora": Method(
        learning_rate=lambda train: train.learning_rate,
        attach=lambda classifier, params: attach_lora(classifier, params.lora),
        describe=describe_lora,
        warnings=unusual_settings,
        save=save_lora,
        load=load_lora,
    ),
    "full": Method(
        learning_rate=lambda train: train.full_learning_rate,
        attach=lambda classifier, _: train_everything(classifier),
        describe=lambda _: "every weight, head",
        warnings=lambda _: [],
        save=save_everything,
        load=load_everything,
    ),
}


def method_of(params: Params) -> Method:
    """Return the method that the params choose."""
    return METHODS[params.train.method]
