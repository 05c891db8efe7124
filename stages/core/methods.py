"""The training methods: what can be said of each without loading torch.

`stages.model.methods` has what each of them does.
"""

from dataclasses import dataclass, replace

from stages.core.params import Params


@dataclass(frozen=True)
class Facts:
    """What one way to train is.

    Attributes:
        title: what report, model card and ladder call it.
        library: the library that loads its files without this project, as the Hub names it.
        unread: params that it does not read, dotted; a result does not depend on them.
    """

    title: str
    library: str | None
    unread: tuple[str, ...]


FACTS = {
    "head": Facts(
        "frozen encoder, head trained further",
        None,
        ("lora", "peft", "train.full_learning_rate"),
    ),
    "bias": Facts("biases alone (BitFit)", None, ("lora", "peft", "train.full_learning_rate")),
    "peft": Facts("another method of PEFT", "peft", ("lora", "train.full_learning_rate")),
    "lora": Facts("LoRA", "peft", ("peft", "train.full_learning_rate")),
    "full": Facts("full fine-tuning", None, ("lora", "peft", "train.learning_rate")),
}


def facts_of(params: Params) -> Facts:
    """Return what is to be said of the method that the params choose."""
    facts = FACTS[params.train.method]
    return replace(facts, title=params.peft.type) if params.train.method == "peft" else facts
