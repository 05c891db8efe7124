"""The classification head: fit it on the frozen encoder's features, start it, save it, load it."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from transformers import set_seed

from stages.core import paths
from stages.core.artefacts import replacing, require, write_json
from stages.core.errors import ModelError
from stages.model.classifier import Classifier, head_logits, within
from stages.model.load import read_weights

Features = tuple[Tensor, Tensor | None]
Rows = tuple[Features, list[int]]
UNTRAINED_SEEDS = 10
TEMPERATURE = 0.07  # of cosines, as in He et al. 2020, arXiv 1911.05722
SHARPNESS = 1 / TEMPERATURE
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


def last_layer(base: Classifier) -> str:
    """Return the path of the layer that gives the logits, in the names of a model without PEFT."""
    names: list[str] = [
        name
        for name, module in base.model.named_modules()
        if within(name, base.head) and getattr(module, "out_features", None) == len(base.labels)
    ]
    return names[-1]


def mean_start(base: Classifier, train: Rows) -> dict[str, Tensor]:
    """Return the state of the head with its last layer at the class means of what that layer reads.

    The logits are SHARPNESS times the cosine of state and class mean, if states of average length
    are taken: each row of weights is the mean of the class's normalised states, itself normalised,
    times SHARPNESS over the average length of a state. A head that was fitted on a few rows has
    nothing left to learn from them, and leaves no gradient that could move the encoder; this one
    knows the classes, and not the rows.

    Args:
        base: as `load.load_base` returned it, on the CPU, so that earlier layers of its head are
            fresh.
        train: features as `classifier.features` returns them, and label numbers; each class has a
            row.
    """
    state, classes, name = base.head_state(), len(base.labels), last_layer(base)
    read: list[Tensor] = []
    hook = base.model.get_submodule(name).register_forward_pre_hook(
        lambda _, inputs: read.append(inputs[0])
    )
    with torch.no_grad():
        head_logits(base, *train[0])
    hook.remove()
    states, truth = read[0].flatten(1), torch.tensor(train[1])
    unit = normalize(states, dim=1)
    means = torch.stack([unit[truth == number].mean(dim=0) for number in range(classes)])
    length = states.norm(dim=1).mean()
    own = {"weight": SHARPNESS / length * normalize(means, dim=1), "bias": torch.zeros(classes)}
    own = {f"{name}.{key}": tensor for key, tensor in own.items()}
    return {key: own.get(key, tensor) for key, tensor in state.items()}


def trained_head(classifier: Classifier) -> dict[str, Tensor]:
    """Return the parameters of the head that train, by the base's names: PEFT wraps them."""
    plain = {
        name.removeprefix("base_model.model.").replace(".modules_to_save.default", ""): parameter
        for name, parameter in classifier.model.named_parameters()
        if parameter.requires_grad
    }
    return {name: p for name, p in plain.items() if within(name, classifier.head)}


def put_head(classifier: Classifier, state: dict[str, Tensor]) -> None:
    """Put a head's state, by the base's names, where it trains.

    Raises:
        KeyError: if part of it trains nowhere.
    """
    trains = trained_head(classifier)
    with torch.no_grad():
        for name, tensor in state.items():
            trains[name].copy_(tensor)


def divide_logits(classifier: Classifier, layer: str, temperature: float) -> None:
    """Divide the logits by a temperature for good, in the weights of the head's last layer.

    Args:
        classifier: its head takes gradients.
        layer: as `last_layer` returns it of the base.
        temperature: above 0; above 1 makes the classifier less sure.
    """
    with torch.no_grad():
        for name, parameter in trained_head(classifier).items():
            if within(name, (layer,)):
                parameter.div_(temperature)


def save_head(
    classifier: Classifier, folder: Path, fit: dict[str, float], start: dict[str, Tensor]
) -> None:
    """Write a folder with the fitted head, how it was fitted, and a start for training.

    Args:
        classifier: with the head.
        folder: the folder to make.
        fit: its figures: l2, the penalty; temperature, what the logits have been divided by, in
            the weights; and the floors that it is compared with.
        start: the head to train from.
    """
    with replacing(folder) as temporary:
        temporary.mkdir()
        save_file(classifier.head_state(), temporary / paths.HEAD_WEIGHTS.name)
        save_file(start, temporary / paths.HEAD_START.name)
        write_json(temporary / paths.HEAD_FIT.name, fit, decimals=None)


def load_head(classifier: Classifier, folder: Path) -> None:
    """Put the fitted head of stage evaluate_base into the classifier.

    Raises:
        HostError: if there is no such folder.
        ModelError: if the file does not hold exactly this classifier's head.
    """
    tensors = read_head(classifier, folder, paths.HEAD_WEIGHTS.name)
    classifier.model.load_state_dict(tensors, strict=False)


def read_head(classifier: Classifier, folder: Path, name: str) -> dict[str, Tensor]:
    """Return a state of the head from the folder of stage evaluate_base.

    Args:
        classifier: the base model, without PEFT.
        folder: as `save_head` wrote it.
        name: of the file in it.

    Raises:
        HostError: if there is no such folder.
        ModelError: if the file does not hold exactly this classifier's head.
    """
    tensors = read_weights(require(folder) / name, REFIT)
    own = classifier.head_state()
    if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in own.items()}:
        raise ModelError(f"{folder}: belongs to another base model or label list", REFIT)
    return tensors
