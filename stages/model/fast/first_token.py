"""The last layer computes only the first token's state, which is all that the head reads."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from stages.model.classifier import Classifier, encoder_of


def compute_first_token_only(classifier: Classifier) -> Callable[[], None]:
    """Let the last layer continue with the first token alone, once its attention has read them all.

    `load_base` has checked that the head reads no other state, and three quarters of the layer's
    work come after its attention. Layers that are not built as BERT's stay as they are, and so do
    those of an encoder that pads long texts itself, and counts its states afterwards (BigBird).

    Returns:
        What undoes it.
    """
    layers = getattr(getattr(encoder_of(classifier.model), "encoder", None), "layer", None)
    reads_first = classifier.pooling != "mean" and not classifier.switches
    if reads_first and isinstance(layers, nn.ModuleList):
        output = getattr(getattr(layers[-1], "attention", None), "output", None)
        if isinstance(output, nn.Module):
            return output.register_forward_pre_hook(
                lambda _, states: tuple(state[:, :1].contiguous() for state in states)
            ).remove
    return lambda: None
