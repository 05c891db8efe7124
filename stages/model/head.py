"""The classification head: fit it on the frozen encoder's features, save it, load it, renew it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import set_seed

from stages.core import paths
from stages.core.artefacts import replacing, require, write_json
from stages.core.errors import ModelError
from stages.model.classifier import Classifier, head_logits, within
from stages.model.weights import read_weights

Features = tuple[Tensor, Tensor | None]
Rows = tuple[Features, list[int]]
UNTRAINED_SEEDS = 10
REFIT = "fit it again: dvc repro -f evaluate_base"


def freeze_encoder(classifier: Classifier) -> None:
    """Let only the head take gradients."""
    for name, parameter in classifier.model.named_parameters():
        parameter.requires_grad_(within(name, classifier.head))


def fit_head(base: Classifier, train: Rows, validation: Rows, penalties: list[float]) -> float:
    """Fit the head on cached features for each L2 penalty and keep the best by validation loss.

    Minimises mean cross entropy + penalty / 2 * sum of squared weights with L-BFGS, each time from
    the head that the classifier has.

    Args:
        base: the classifier, on the CPU; its head is changed in place.
        train: features as `classifier.features` returns them, and label numbers.
        validation: the same of the validation rows.
        penalties: the L2 penalties to try.

    Returns:
        The penalty that was kept.
    """
    start = base.head_state()
    truth, validation_truth = torch.tensor(train[1]), torch.tensor(validation[1])
    weights = [p for n, p in base.model.named_parameters() if within(n, base.head)]
    results = []
    for penalty in penalties:
        base.model.load_state_dict(start, strict=False)
        optimiser = torch.optim.LBFGS(
            weights, max_iter=300, history_size=20, line_search_fn="strong_wolfe"
        )

        def loss_and_gradient(penalty: float = penalty) -> Tensor:
            optimiser.zero_grad()  # noqa: B023  # called at once, inside this turn of the loop
            squares = torch.stack([w.square().sum() for w in weights if w.ndim > 1]).sum()
            loss = cross_entropy(head_logits(base, *train[0]), truth) + penalty / 2 * squares
            loss.backward()  # type: ignore[no-untyped-call]  # torch left it untyped
            return loss

        optimiser.step(loss_and_gradient)  # type: ignore[no-untyped-call]  # torch left it untyped
        with torch.no_grad():
            value = float(cross_entropy(head_logits(base, *validation[0]), validation_truth))
        results.append((value, penalty, base.head_state()))
    _, best, state = min(results, key=lambda result: result[0])
    base.model.load_state_dict(state, strict=False)
    return best


def untrained_accuracies(base: Classifier, test: Features, targets: list[int]) -> list[float]:
    """Return the accuracy of ten fresh heads: the floor that chance gives.

    The head that the classifier has is restored at the end.
    """
    own = base.head_state()
    truth = torch.tensor(targets)
    accuracies = []
    for seed in range(UNTRAINED_SEEDS):
        reset_head(base, seed)
        with torch.no_grad():
            predicted = head_logits(base, *test).argmax(dim=1)
        accuracies.append(float((predicted == truth).double().mean()))
    base.model.load_state_dict(own, strict=False)
    return accuracies


def reset_head(classifier: Classifier, seed: int) -> None:
    """Give the head fresh weights, initialised as the architecture does it."""
    set_seed(seed)
    for name in classifier.head:
        for module in classifier.model.get_submodule(name).modules():
            for parameter in module.parameters(recurse=False):
                parameter._is_hf_initialized = False
            classifier.model._init_weights(module)


def save_head(classifier: Classifier, folder: Path, penalty: float) -> None:
    """Write a folder with the head's tensors, and a file with the L2 penalty of its fit."""
    with replacing(folder) as temporary:
        temporary.mkdir()
        save_file(classifier.head_state(), temporary / paths.HEAD_WEIGHTS.name)
        write_json(temporary / paths.HEAD_FIT.name, {"l2": penalty}, decimals=None)


def load_head(classifier: Classifier, folder: Path) -> None:
    """Put the fitted head of stage evaluate_base into the classifier.

    Raises:
        HostError: if there is no such folder.
        ModelError: if the file does not hold exactly this classifier's head.
    """
    tensors = read_weights(require(folder) / paths.HEAD_WEIGHTS.name, REFIT)
    own = classifier.head_state()
    if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in own.items()}:
        raise ModelError(f"{folder}: belongs to another base model or label list", REFIT)
    classifier.model.load_state_dict(tensors, strict=False)
