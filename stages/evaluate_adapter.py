"""Load the adapter afresh and score the very rows that the base was scored on, in the same way."""

from __future__ import annotations

from stages.shared import artefacts, paths
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
    base = model.load_base(paths.BASE_MODEL, labels, params.seed)
    classifier = adapter.load_adapter(base, paths.ADAPTER, paths.BASE_MODEL)

    logits = scoring.predict_logits(
        classifier, test.texts, params.data.max_length, hardware, "scoring the adapter"
    )
    probabilities = scoring.probabilities_of(logits)
    floors = artefacts.read_json(paths.BASE_METRICS)
    scores = scoring.score(test, probabilities) | {name: floors[name] for name in FLOORS}

    scoring.write_predictions(paths.ADAPTER_PREDICTIONS, test, labels, probabilities)
    artefacts.write_json(paths.ADAPTER_METRICS, scores)
    print(f"adapter: accuracy {scores['accuracy']:.4f} on {len(test.ids)} test rows")


if __name__ == "__main__":
    run_stage(evaluate_adapter)
