"""Load the adapter afresh and score the very rows that the base was scored on, in the same way."""

from __future__ import annotations

from stages.core import artefacts, paths
from stages.core.params import Params
from stages.running.stage import run_stage

FLOORS = ("majority", "untrained", "untrained_sd")


def evaluate_adapter(params: Params) -> None:
    """Write the adapter's test scores and predictions to metrics/."""
    # Heavy libraries are imported once the params are known to be right.
    from stages.model import classifier as model
    from stages.model import device as compute
    from stages.model import frozen
    from stages.model import saved as adapter_files
    from stages.rows import prepared as splits
    from stages.scoring import logits as scoring
    from stages.scoring import metric, predictions
    from stages.scoring.temperature import fit_temperature

    hardware = compute.set_up(params.compute)
    labels = splits.read_labels()
    validation = splits.read_split(paths.VALIDATION, labels)
    test = splits.read_split(paths.TEST, labels)
    floors = read_floors()
    base = model.load_base(paths.BASE_MODEL, labels, params.seed)
    classifier = frozen.merge_lora(
        adapter_files.load_adapter(base, paths.ADAPTER, paths.BASE_MODEL)
    )
    frozen.round_frozen(classifier, hardware)

    held_out, probabilities = (
        scoring.probabilities_of(
            scoring.predict_logits(
                classifier, split.texts, params.data.max_length, hardware, f"scoring {name}"
            )
        )
        for name, split in (("validation", validation), ("test", test))
    )
    temperature = fit_temperature(held_out, validation.targets)
    scores = metric.score(probabilities, test.targets) | {"temperature": temperature} | floors

    predictions.write_predictions(
        paths.ADAPTER_PREDICTIONS, test.ids, test.targets, labels, probabilities
    )
    artefacts.write_json(paths.ADAPTER_METRICS, scores)
    print(f"adapter: accuracy {scores['accuracy']:.4f} on {len(test.ids)} test rows")


def read_floors() -> dict[str, float]:
    """Return the floors that stage evaluate_base found: they hang on the data, not on the model.

    Raises:
        HostError: if the base's metrics are missing.
        DataError: if they are damaged or lack a floor.
    """
    base = artefacts.read_object(paths.BASE_METRICS, *FLOORS)
    return {name: base[name] for name in FLOORS}


if __name__ == "__main__":
    run_stage(evaluate_adapter)
