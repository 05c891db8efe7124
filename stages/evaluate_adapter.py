"""Load the adapter and score the rows that the base was scored on, in the same way."""

from stages.core import artefacts, paths
from stages.core.params import Params
from stages.model.device import set_up
from stages.model.fast import speed_up
from stages.model.load import load_base
from stages.model.saved import load_adapter
from stages.rows import prepared
from stages.running import processes
from stages.scoring.logits import predict_logits, probabilities_of
from stages.scoring.metric import score
from stages.scoring.predictions import write_predictions


def evaluate_adapter(params: Params) -> dict[str, str]:
    """Write the adapter's test scores and predictions to metrics/."""
    device = set_up(params.compute)
    labels = prepared.read_labels()
    test = prepared.read_split(paths.TEST, labels)
    base = load_base(paths.BASE_MODEL, labels, params.seed, device, params.model.pooling)
    classifier = load_adapter(base, paths.ADAPTER, paths.BASE_MODEL)
    speed_up(classifier, device, params.seed)

    logits = predict_logits(
        classifier, test.texts, params.data.max_length, device, "scoring the test rows"
    )
    if not processes.leads():
        return device.facts()
    probabilities = probabilities_of(logits)
    scores = score(probabilities, test.targets)

    write_predictions(paths.ADAPTER_PREDICTIONS, test.ids, test.targets, labels, probabilities)
    artefacts.write_json(paths.ADAPTER_METRICS, scores)
    print(f"adapter: accuracy {scores['accuracy']:.4f} on {len(test.ids)} test rows")
    return device.facts()
