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
from stages.model.fit import fit_notes, fit_warnings, read_alike, token_figures
from stages.model.load import check_length, load_base
from stages.rows import prepared
from stages.running import processes
from stages.scoring.logits import cached_features, fit_probe, probabilities_of
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
    max_length = params.data.max_length
    check_length(base.model, min(max_length, base.tokenizer.model_max_length), paths.BASE_MODEL)
    figures = token_figures(base.tokenizer, train.texts, max_length)
    alike = read_alike(base.tokenizer, train.texts, test.texts, max_length)
    warnings = fit_warnings(base, train.texts, max_length, figures)
    if alike:
        warnings.append(
            f"the base reads {len(alike)} of {len(test.ids)} test rows exactly as a training row "
            f"(the first is {test.ids[alike[0]]}): their scores say nothing of new texts. Fix: "
            "leave these rows out of the source, or model.source, a base that tells them apart"
        )
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    head.freeze_encoder(base)
    speed_up(base, device, params.seed)

    features = {
        name: cached_features(base, split.texts, max_length, device, name)
        for name, split in (("train", train), ("validation", validation), ("test", test))
    }
    if not processes.leads():
        return device.facts()
    base.model.cpu()
    untrained = head.untrained_accuracies(base, features["test"], test.targets)
    penalty, temperature, start = fit_probe(
        base,
        (features["train"], train.targets),
        (features["validation"], validation.targets),
        params.head.l2,
    )
    probabilities = probabilities_of(head_logits(base, *features["test"]).detach())
    scores = score(probabilities, test.targets)
    fit = {
        "l2": penalty,
        "temperature": temperature,
        "majority": majority_accuracy(train.targets, test.targets),
        "untrained": mean(untrained),
        "untrained_sd": stdev(untrained),
    }

    head.save_head(base, paths.HEAD, fit, start)
    write_predictions(paths.BASE_PREDICTIONS, test.ids, test.targets, labels, probabilities)
    figures["test_rows_read_as_a_training_row"] = len(alike)
    said = {"warnings": warnings, "notes": fit_notes(figures)}
    artefacts.write_json(paths.TOKENS, figures | said, decimals=4)
    artefacts.write_json(paths.BASE_METRICS, scores)
    for note in said["notes"]:
        print(note)
    accuracy = f"accuracy {scores['accuracy']:.4f} on {len(test.ids)} test rows"
    print(f"base: {accuracy}, L2 {penalty:g}")
    return device.facts()
