"""The base: the frozen encoder with a fitted head, its logits divided by their temperature."""

from dataclasses import dataclass

from torch import Tensor

from stages.model import head
from stages.model.classifier import Classifier, head_logits
from stages.scoring.logits import fit_temperature, probabilities_of


@dataclass(frozen=True)
class Probe:
    """What is known of a fitted head.

    Attributes:
        penalty: the L2 penalty that validation chose.
        temperature: what the logits are divided by, in the weights.
        start: another state of the head, from which a training may start: see `head.mean_start`.
    """

    penalty: float
    temperature: float
    start: dict[str, Tensor]


def fit_probe(
    base: Classifier, train: head.Rows, validation: head.Rows, penalties: list[float]
) -> Probe:
    """Fit the head of the base in place.

    Args:
        base: on the CPU, with the encoder frozen and a fresh head.
        train: features as `logits.cached_features` returns them, and label numbers.
        validation: the same of the validation rows.
        penalties: the L2 penalties to try.
    """
    start = head.mean_start(base, train)
    penalty = head.fit_head(base, train, validation, penalties)
    logits = head_logits(base, *validation[0]).detach()
    temperature = fit_temperature(probabilities_of(logits), validation[1])
    head.divide_logits(base, head.last_layer(base), temperature)
    return Probe(penalty, temperature, start)
