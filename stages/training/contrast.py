"""The contrastive part of the loss: states of one class are drawn together, others pushed apart.

Supervised contrastive learning (Khosla et al. 2020, arXiv 2004.11362, equation 2), in the same
batches as the cross entropy (Gunel et al. 2021, arXiv 2011.01403).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from stages.model.classifier import Classifier, encoder_of

TEMPERATURE = 0.07  # of the similarities, as in both papers' range


class StatesOfBatch:
    """Keeps the state that the encoder last gave of each row: `last`, (rows, hidden), float32.

    It is the state that the head reads, or the first token's where the architecture's own
    classifier reads more than one.

    Args:
        classifier: whose encoder is watched from now on.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.last: Tensor
        encoder_of(classifier.model).register_forward_hook(self._keep)

    def _keep(self, _: Any, __: Any, output: Any) -> None:
        self.last = output.last_hidden_state[:, 0].float()


def contrastive_loss(states: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over the rows that have a partner of their class in the batch, in nats.

    Args:
        states: (rows, hidden).
        targets: label numbers, (rows,).
    """
    states = normalize(states, dim=1)
    own = torch.eye(len(states), dtype=torch.bool, device=states.device)
    similarities = (states @ states.T / TEMPERATURE).masked_fill(own, -torch.inf)
    log_shares = similarities.log_softmax(dim=1).masked_fill(own, 0.0)
    partners = (targets[:, None] == targets[None]) & ~own
    counts = partners.sum(dim=1)
    of_rows = -(log_shares * partners).sum(dim=1) / counts.clamp(min=1)
    return of_rows.sum() / (counts > 0).sum().clamp(min=1)
