"""Methods that train weights of the model itself: every weight, or the head alone.

Their files have the names of a PEFT adapter: the weights that trained, and a configuration that
says that no PEFT method is needed to load them.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from stages.core import paths
from stages.core.artefacts import write_json
from stages.model.classifier import Classifier
from stages.model.head import freeze_encoder


def train_everything(classifier: Classifier) -> Classifier:
    """Return the classifier with every weight trainable."""
    classifier.model.requires_grad_(True)
    return classifier


def save_everything(classifier: Classifier, folder: Path, base: Path) -> None:
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


def save_trained_head(classifier: Classifier, folder: Path, base: Path) -> None:
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


def _write(weights: dict[str, Tensor], folder: Path, base: Path) -> None:
    folder.mkdir()
    save_file(weights, folder / paths.ADAPTER_WEIGHTS.name)
    config = {"base_model_name_or_path": base.as_posix(), "peft_type": None}
    write_json(folder / paths.ADAPTER_CONFIG.name, config)
