"""The table of training methods: one entry says all that differs between them.

A further method is one more entry, a name in `core.params.TrainParams.method`, and its tests.
What an entry does is in a module of the method's own; it is imported when it is used, so that the
report can name a method without loading torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.params import Params, TrainParams

if TYPE_CHECKING:  # heavy libraries are imported once the params have been checked
    from torch import Tensor

    from stages.model.classifier import Classifier


@dataclass(frozen=True)
class Method:
    """One way to train the classifier.

    Attributes:
        title: what report, model card and ladder call it.
        library: the library that loads its files without this project, as the Hub names it.
        learning_rate: the peak learning rate that it trains with.
        unread: params that it does not read, dotted; a result does not depend on them.
        attach: gives the classifier what trains; everything else is frozen.
        describe: what trains, in words.
        warnings: a line for each setting that rarely makes sense.
        save: writes weights and configuration into a new folder.
        load: puts the weights of such a folder, already read, into a classifier.
    """

    title: str
    library: str | None
    learning_rate: Callable[[TrainParams], float]
    unread: tuple[str, ...]
    attach: Callable[[Classifier, Params], Classifier]
    describe: Callable[[Classifier], str]
    warnings: Callable[[Params], list[str]]
    save: Callable[[Classifier, Path, Path], None]
    load: Callable[[Classifier, Path, dict[str, Tensor]], Classifier]


def _lora() -> Any:
    from stages.model import lora

    return lora


def _plain() -> Any:
    from stages.model import plain

    return plain


METHODS: dict[str, Method] = {
    "head": Method(
        title="frozen encoder, head trained further",
        library=None,
        learning_rate=lambda train: train.learning_rate,
        unread=("lora", "train.full_learning_rate"),
        attach=lambda classifier, _: _plain().train_head(classifier),
        describe=lambda _: "the head",
        warnings=lambda _: [],
        save=lambda *arguments: _plain().save_trained_head(*arguments),
        load=lambda *arguments: _plain().load_trained_head(*arguments),
    ),
    "lora": Method(
        title="LoRA",
        library="peft",
        learning_rate=lambda train: train.learning_rate,
        unread=("train.full_learning_rate",),
        attach=lambda classifier, params: _lora().attach_lora(classifier, params.lora),
        describe=lambda classifier: _lora().describe_lora(classifier),
        warnings=lambda params: _lora().unusual_settings(params),
        save=lambda *arguments: _lora().save_lora(*arguments),
        load=lambda *arguments: _lora().load_lora(*arguments),
    ),
    "full": Method(
        title="full fine-tuning",
        library=None,
        learning_rate=lambda train: train.full_learning_rate,
        unread=("lora", "train.learning_rate"),
        attach=lambda classifier, _: _plain().train_everything(classifier),
        describe=lambda _: "every weight, head",
        warnings=lambda _: [],
        save=lambda *arguments: _plain().save_everything(*arguments),
        load=lambda *arguments: _plain().load_everything(*arguments),
    ),
}


def method_of(params: Params) -> Method:
    """Return the method that the params choose."""
    return METHODS[params.train.method]
