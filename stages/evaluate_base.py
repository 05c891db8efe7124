"""Fit a head on the frozen body and score the test rows: what the foundation model knows already.

An untrained head scores chance and would make any gain look huge, so the base is a linear probe.
`train_lora` starts from this very head (probing, then tuning: Kumar et al. 2022, arXiv
2202.10054), so an adapter trained for no epoch scores exactly as the base.
"""

from __future__ import annotations

from statistics import mean, stdev
from typing import TYPE_CHECKING

from stages.core import artefacts, paths
from stages.core.params import Params
from stages.running.stage import run_stage

if TYPE_CHECKING:  # heavy libraries are imported once the params are known to be right
    from torch import Tensor

    from stages.model.classifier import Classifier

UNTRAINED_SEEDS = 10
Features = tuple["Tensor", "Tensor | None"]


def evaluate_base(params: Params) -> None:
    """Write the fitted head to models/head, its test scores and predictions to metrics/."""
    from stages.model import classifier as model
    from stages.model import device as compute
    from stages.model import frozen
    from stages.rows import prepared as splits
    from stages.scoring import headline, metric, predictions
    from stages.scoring import logits as scoring
    from stages.scoring.temperature import fit_temperature

    hardware = compute.set_up(params.compute)
    labels = splits.read_labels()
    train = splits.read_split(paths.TRAIN, labels)
    validation = splits.read_split(paths.VALIDATION, labels)
    test = splits.read_split(paths.TEST, labels)
    base = model.load_base(paths.BASE_MODEL, labels, params.seed)
    frozen.freeze_body(base)
    frozen.round_frozen(base, hardware)

    seen = {
        name: scoring.cached_features(base, split.texts, params.data.max_length, hardware, name)
        for name, split in (("train", train), ("validation", validation), ("test", test))
    }
    base.model.cpu()
    untrained = untrained_accuracies(base, seen["test"], test.targets)
    best = fit_head(
        base,
        (seen["train"], train.targets),
        (seen["validation"], validation.targets),
        params.head.l2,
    )
    held_out, probabilities = (
        scoring.probabilities_of(model.head_logits(base, *seen[name]).detach())
        for name in ("validation", "test")
    )
    scores = metric.score(probabilities, test.targets) | {
        "temperature": fit_temperature(held_out, validation.targets),
        "majority": headline.majority_accuracy(train.targets, test.targets),
        "untrained": mean(untrained),
        "untrained_sd": stdev(untrained),
    }

    model.save_head(base, paths.HEAD)
    predictions.write_predictions(
        paths.BASE_PREDICTIONS, test.ids, test.targets, labels, probabilities
    )
    artefacts.write_json(paths.BASE_METRICS, scores)
    print(f"base: accuracy {scores['accuracy']:.4f} on {len(test.ids)} test rows, L2 {best:g}")


def untrained_accuracies(base: Classifier, seen: Features, targets: list[int]) -> list[float]:
    """Return the accuracy of fresh heads, one for each seed: the floor that chance gives."""
    import torch

    from stages.model import classifier as model

    truth = torch.tensor(targets)
    accuracies = []
    for seed in range(UNTRAINED_SEEDS):
        model.reset_head(base, seed)
        with torch.no_grad():
            predicted = model.head_logits(base, *seen).argmax(dim=1)
        accuracies.append(float((predicted == truth).double().mean()))
    return accuracies


def fit_head(
    base: Classifier,
    train: tuple[Features, list[int]],
    validation: tuple[Features, list[int]],
    penalties: list[float],
) -> float:
    """Fit the head on cached features for each L2 penalty; keep the one validation likes best.

    Minimises mean cross entropy + penalty / 2 * sum of squared weights with L-BFGS, from the same
    fresh head each time. Validation log loss decides. Returns the penalty kept.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from stages.model import classifier as model

    fresh = base.head_state()
    truth, held_out = torch.tensor(train[1]), torch.tensor(validation[1])
    weights = [p for n, p in base.model.named_parameters() if model.within(n, base.head)]
    results = []
    for penalty in penalties:
        base.model.load_state_dict(fresh, strict=False)
        optimiser = torch.optim.LBFGS(
            weights, max_iter=300, history_size=20, line_search_fn="strong_wolfe"
        )

        def loss_and_gradient(penalty: float = penalty) -> Tensor:
            optimiser.zero_grad()  # noqa: B023  # called at once, inside this turn of the loop
            squares = torch.stack([w.square().sum() for w in weights if w.ndim > 1]).sum()
            loss = cross_entropy(model.head_logits(base, *train[0]), truth) + penalty / 2 * squares
            loss.backward()  # type: ignore[no-untyped-call]  # torch left it untyped
            return loss

        optimiser.step(loss_and_gradient)  # type: ignore[no-untyped-call]  # torch left it untyped
        with torch.no_grad():
            value = float(cross_entropy(model.head_logits(base, *validation[0]), held_out))
        results.append((value, penalty, base.head_state()))
    _, best, state = min(results, key=lambda result: result[0])
    base.model.load_state_dict(state, strict=False)
    return best


if __name__ == "__main__":
    run_stage(evaluate_base)
