"""Check that the artefacts belong together: weights, adapter, labels, predictions and metrics."""

from __future__ import annotations

from stages.core import paths
from stages.core.artefacts import read_object, remake, require
from stages.core.errors import DataError, UserError

ROUNDING = 2e-6  # of metrics with 6 decimals


def check_meaning() -> None:
    """Check that weights are finite, and that all artefacts belong together.

    Raises:
        ModelError, DataError: with every fault.
    """
    faults: list[UserError] = []
    for check in (_check_weights, _check_adapter, _check_scores, _check_comparison):
        try:
            check()
        except UserError as error:
            faults.append(error)
    if faults:
        pairs = [pair for error in faults for pair in error.faults]
        raise type(faults[0]).from_faults(pairs)


def _check_weights() -> None:
    from stages.model.weights import read_weights

    for folder in (paths.BASE_MODEL, paths.HEAD, paths.ADAPTER):
        for file in sorted(require(folder).glob("*.safetensors")):
            read_weights(file, remake(file))


def _check_adapter() -> None:
    from stages.model.saved import check_adapter
    from stages.rows.prepared import read_labels

    check_adapter(read_labels(), paths.ADAPTER, paths.BASE_MODEL)


def _check_scores() -> None:
    """Check each model's metrics against its predictions, and those against the test rows."""
    from stages.rows import prepared
    from stages.scoring import predictions
    from stages.scoring.scores import headline_scores

    labels = prepared.read_labels()
    test = prepared.read_split(paths.TEST, labels)
    truth = dict(zip(test.ids, (labels[target] for target in test.targets), strict=True))
    for metrics, path in (
        (paths.BASE_METRICS, paths.BASE_PREDICTIONS),
        (paths.ADAPTER_METRICS, paths.ADAPTER_PREDICTIONS),
    ):
        fix = remake(path)
        frame = predictions.read_predictions(require(path), str(path), fix)
        if dict(zip(frame["id"], frame["label"], strict=True)) != truth:
            raise DataError(f"{path}: its rows or labels are not those of {paths.TEST}", fix)
        if predictions.labels_of(frame) != labels:
            raise DataError(f"{path}: its classes are not those of {paths.LABELS}", fix)
        scores = headline_scores(
            predictions.probabilities_of(frame), predictions.targets_of(frame).tolist()
        )
        recorded = read_object(metrics, *scores)
        for name, value in scores.items():
            if abs(recorded[name] - value) > ROUNDING:  # guard: scores of the predictions
                what = f"{metrics}: {name} {recorded[name]}, the predictions give {value:.6f}"
                raise DataError(what, fix)


def _check_comparison() -> None:
    compared = read_object(paths.COMPARISON, "accuracy_base", "accuracy_adapter")
    for name, path in (("base", paths.BASE_METRICS), ("adapter", paths.ADAPTER_METRICS)):
        if read_object(path, "accuracy")["accuracy"] != compared[f"accuracy_{name}"]:
            raise DataError(
                f"{paths.COMPARISON}: accuracy_{name} is not that of {path}",
                "make it again: dvc repro -f compare",
            )
