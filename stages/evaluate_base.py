"""Fit a head on the frozen encoder and score the test rows: what the foundation model knows.

An untrained head scores chance and would make any gain look huge, so the base is a linear probe. An
adapter that was trained for no epoch has this head, so it scores exactly as the base. A training
starts from another head, which is made from the same features.
"""

import sys
from statistics import mean, stdev

from stages.core import artefacts, paths
from stages.core.params import Params
from stages.model import head
from stages.model.classifier import head_logits
from stages.model.device import set_up
from stages.model.fast import speed_up
from stages.model.load import check_length, fit_warnings, load_base
from stages.rows import prepared
from stages.running import processes
from stages.scoring.logits import Array, cached_features, fit_temperature, probabilities_of
from stages.scoring.metric import score
from stages.scoring.predictions import write_predictions
from stages.scoring.scores import majority_accuracy


def evaluate_base(params: Params) -> dict[str, str]:
    """Write the fitted head to models/head, its test scores and predictions to metrics/."""
    device = set_up(params.compute)
    labels = prepared.read_labels()
    train = prepared.read_split(paths.TRAIN, labels)
    validation = prepared.read_split(paths.VALIDATION, labels)
    test = prepared.read_split(paths.TEST, labels)
    base = load_base(paths.BASE_MODEL, labels, params.seed, device, params.model.pooling)
    longest = min(params.data.max_length, base.tokenizer.model_max_length)
    check_length(base.model, longest, paths.BASE_MODEL)
    for warning in fit_warnings(base, train.texts, params.data.max_length):
        print(f"warning: {warning}", file=sys.stderr)
    head.freeze_encoder(base)
    speed_up(base, device, params.seed)

    features = {
        name: cached_features(base, split.texts, params.data.max_length, device, name)
        for name, split in (("train", train), ("validation", validation), ("test", test))
    }
    if not processes.leads():
        return device.facts()
    base.model.cpu()
    start = head.mean_start(base, (features["train"], train.targets))
    penalty = head.fit_head(
        base,
        (features["train"], train.targets),
        (features["validation"], validation.targets),
        params.head.l2,
    )
    untrained = head.untrained_accuracies(base, features["test"], test.targets)

    def probabilities_on(name: str) -> Array:
        return probabilities_of(head_logits(base, *features[name]).detach())

    temperature = fit_temperature(probabilities_on("validation"), validation.targets)
    head.divide_logits(base, head.last_layer(base), temperature)
    probabilities = probabilities_on("test")
    scores = score(probabilities, test.targets) | {
        "temperature": temperature,
        "majority": majority_accuracy(train.targets, test.targets),
        "untrained": mean(untrained),
        "untrained_sd": stdev(untrained),
    }

    head.save_head(base, paths.HEAD, penalty, start, temperature)
    write_predictions(paths.BASE_PREDICTIONS, test.ids, test.targets, labels, probabilities)
    artefacts.write_json(paths.BASE_METRICS, scores)
    print(f"base: accuracy {scores['accuracy']:.4f} on {len(test.ids)} test rows, L2 {penalty:g}")
    return device.facts()
