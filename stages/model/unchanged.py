"""Run a model without leaving a trace in it: a check must not change what it checks.

Some architectures change themselves while they run. BigBird, for one, replaces its sparse attention
by full attention at the first short batch, and keeps it, so that what a long text is scored
depends on what was scored before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.random import fork_rng

SETTING = (bool, int, float, str, type(None))  # kinds of attributes that say how to compute
# A module, its settings, its children and its buffers.
State = list[tuple[nn.Module, dict[str, Any], dict[str, Any], dict[str, Any]]]


def state_of(model: nn.Module) -> State:
    """Return settings, children and buffers of every module, by reference: nothing is copied."""
    return [
        (
            module,
            {name: value for name, value in vars(module).items() if isinstance(value, SETTING)},
            dict(module._modules),
            dict(module._buffers),
        )
        for module in model.modules()
    ]


def restore(state: State) -> bool:
    """Put every module back as it was, and return whether anything but its mode had changed."""
    changed = False
    for module, settings, children, buffers in state:
        now = vars(module)
        changed = changed or any(
            now.get(name) != value for name, value in settings.items() if name != "training"
        )
        now.update(settings)
        for kept, own in ((children, module._modules), (buffers, module._buffers)):
            if kept.keys() != own.keys() or any(own[name] is not kept[name] for name in kept):
                changed = True
                own.clear()
                own.update(kept)
    return changed


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Restore the model, its mode included, and torch's random numbers at the end."""
    state = state_of(model)
    with fork_rng():
        try:
            yield
        finally:
            restore(state)


def undo_switches(encoder: nn.Module) -> None:
    """Let every batch find the encoder as it was loaded, whatever the batch before switched."""
    states: list[State] = []

    def before(module: nn.Module, _: Any) -> None:
        states.append(state_of(module))

    def after(_: nn.Module, __: Any, ___: Any) -> None:
        restore(states.pop())

    encoder.register_forward_pre_hook(before)
    encoder.register_forward_hook(after, always_call=True)
