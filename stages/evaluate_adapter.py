"""Load the adapter afresh and score the very rows that the base was scored on, in the same way."""

from __future__ import annotations

from stages.shared import artefacts, paths
from stages.shared.errors import DataError
from stages.shared.params import Params
from stages.shared.run import run_stage

FLOORS = ("floor_majority", "floor_untrained", "floor_untrained_sd")


def evaluate_adapter(params: Params) -> None:
    """Write the adapter's test scores and predictions to metrics/."""
    # Heavy libraries are imported once the params are known to be right.
    from stages.shared import adapter, compute, dataset, model, scoring

    hardware = compute.set_up(params.compute)
    labels = dataset.read_labels()
    test = dataset.read_split(paths.TEST, labels)
    floors = read_floors()
    base = model.load_base(paths.BASE_MODEL, labels, params.seed)
    classifier = adapter.load_adapter(base, paths.ADAPTER, paths.BASE_MODEL)

    logits = scoring.predict_logits(
        classifier, test.texts, params.data.max_length, hardware, "scoring the adapter"
    )
    probabilities = scoring.probabilities_of(logits)
    scores = scoring.score(test, probabilities) | floors

    scoring.write_predictions(paths.ADAPTER_PREDICTIONS, test, labels, probabilities)
    artefacts.write_json(paths.ADAPTER_METRICS, scores)
    print(f"adapter: accuracy {scores['accuracy']:.4f} on {len(test.ids)} test rows")


def read_floors() -> dict[str, float]:
    """Return the floors that stage evaluate_base found: they hang on the data, not on the model.

    Raises:
        HostError: if the base's metrics are missing.
        DataError: if they are damaged or lack a floor.
    """
    base = artefacts.read_json(paths.BASE_METRICS)
    if not isinstance(base, dict) or not set(FLOORS) <= set(base):
        raise DataError(
            f"{paths.BASE_METRICS}: lacks one of {', '.join(FLOORS)}",
            f"make it again: dvc repro -f {paths.MADE_BY[paths.BASE_METRICS]}",
        )
    return {name: base[name] for name in FLOORS}


if __name__ == "__main__":
    run_stage(evaluate_adapter)
