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
from stages.model.any_peft import attach_peft, describe_peft
from stages.model.classifier import Classifier, within
from stages.model.device import resolve
from stages.model.head import freeze_encoder
from stages.model.lora import attach_lora, describe_lora, load_lora, save_lora

State = Callable[[Classifier], dict[str, Tensor]]  # what a method saves of a classifier


def train_everything(classifier: Classifier, _: Params) -> Classifier:
    """Return the classifier with every weight trainable."""
    classifier.model.requires_grad_(True)
    return classifier


def train_head(classifier: Classifier, _: Params) -> Classifier:
    """Return the classifier with its head trainable and its encoder frozen."""
    freeze_encoder(classifier)
    return classifier


def train_biases(classifier: Classifier, _: Params) -> Classifier:
    """Return the classifier with its biases and its head trainable.

    BitFit: Ben Zaken et al. 2022, arXiv 2106.10199.
    """
    for name, parameter in classifier.model.named_parameters():
        parameter.requires_grad = name.endswith("bias") or within(name, classifier.head)
    return classifier


def save_state(state: State) -> Callable[[Classifier, Path, str], None]:
    """Return what writes this state to a new folder, laid out as PEFT's are."""

    def save(classifier: Classifier, folder: Path, base: str) -> None:
        named = state(classifier)
        weights = {name: w.detach().cpu().contiguous().clone() for name, w in named.items()}
        folder.mkdir()
        save_file(weights, folder / paths.ADAPTER_WEIGHTS.name)
        config = {"base_model_name_or_path": base.partition("@")[0], "peft_type": None}
        write_json(folder / paths.ADAPTER_CONFIG.name, config)

    return save


def load_state(state: State) -> Callable[[Classifier, Path, dict[str, Tensor]], Classifier]:
    """Return what puts a saved state in the place of the classifier's own.

    It raises KeyError if the names differ, RuntimeError if the shapes do.
    """

    def load(classifier: Classifier, _: Path, saved: dict[str, Tensor]) -> Classifier:
        if set(saved) != set(state(classifier)):
            raise KeyError("the names of the weights are not those of the model")
        classifier.model.load_state_dict(saved, strict=False)
        return classifier

    return load


def _whole(classifier: Classifier) -> dict[str, Tensor]:
    return dict(classifier.model.state_dict())


def _biases(classifier: Classifier) -> dict[str, Tensor]:
    state = classifier.model.state_dict()
    return {n: w for n, w in state.items() if n.endswith("bias") or within(n, classifier.head)}


@dataclass(frozen=True)
class Method:
    """One way to train the classifier.

    Attributes:
        learning_rate: the peak learning rate that it trains with.
        attach: gives the classifier what trains; everything else is frozen.
        describe: what trains, in words.
        save: writes weights and configuration into a new folder.
        load: puts the weights of such a folder, already read, into a classifier.
    """

    learning_rate: Callable[[TrainParams], float]
    attach: Callable[[Classifier, Params], Classifier]
    describe: Callable[[Classifier], str]
    save: Callable[[Classifier, Path, str], None]
    load: Callable[[Classifier, Path, dict[str, Tensor]], Classifier]


METHODS: dict[str, Method] = {
    "head": Method(
        learning_rate=lambda train: train.learning_rate,
        attach=train_head,
        describe=lambda _: "the head",
        save=save_state(Classifier.head_state),
        load=load_state(Classifier.head_state),
    ),
    "bias": Method(
        learning_rate=lambda train: train.learning_rate,
        attach=train_biases,
        describe=lambda _: "every bias, head",
        save=save_state(_biases),
        load=load_state(_biases),
    ),
    "peft": Method(
        learning_rate=lambda train: train.learning_rate,
        attach=lambda classifier, params: attach_peft(
            classifier, params.peft, resolve(params.compute).bf16
        ),
        describe=describe_peft,
        save=save_lora,
        load=load_lora,
    ),
    "lora": Method(
        learning_rate=lambda train: train.learning_rate,
        attach=lambda classifier, params: attach_lora(classifier, params.lora),
        describe=describe_lora,
        save=save_lora,
        load=load_lora,
    ),
    "full": Method(
        learning_rate=lambda train: train.full_learning_rate,
        attach=train_everything,
        describe=lambda _: "every weight, head",
        save=save_state(_whole),
        load=load_state(_whole),
    ),
}


def method_of(params: Params) -> Method:
    """Return the method that the params choose."""
    return METHODS[params.train.method]
