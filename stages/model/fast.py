"""Dropout whose random numbers cost little on a processor.

Drawing a fresh mask for every activation (`bernoulli_`) takes more than a quarter of a training
step on a CPU, since it runs on one core. Here a mask is a window into a pool of random factors
that is drawn once; where the window starts is drawn for every call from torch's generator,
so a seed and a restored generator state give the same masks.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn.functional import linear

from stages.model.classifier import PROBE, Classifier, encoder_of, probe_batch, unchanged, within
from stages.model.device import Device
from stages.model.lora import ADAPTER

POOL_SIZE = 1 << 23


class PooledDropout(nn.Module):
    """Inverted dropout (Srivastava et al. 2014) with masks cut from a pool of random factors.

    Args:
        rate: share of the inputs set to zero in training.
        pool: what an input is multiplied by, 0 or 1 / (1 - rate), in random order; see `pool_of`.
    """

    def __init__(self, rate: float, pool: Tensor) -> None:
        super().__init__()
        self.p = rate  # under the name of nn.Dropout: attention that drops by a function reads it
        self.pool = pool

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the inputs with a random share set to zero, or unchanged outside training."""
        size = inputs.numel()
        if not self.training:
            return inputs
        if size > len(self.pool) // 2:
            return nn.functional.dropout(inputs, self.p)
        start = int(torch.randint(len(self.pool) - size, ()))
        return inputs * self.pool[start : start + size].view(inputs.shape)


def pool_of(rate: float, seed: int) -> Tensor:
    """Return random factors of shape (POOL_SIZE,) in bfloat16, which halves what is read.

    A share of `rate` is 0. The others are the two bfloat16 next to 1 / (1 - rate), in the numbers
    that make it their mean: rounded to one of them, it would change the rate or the expected value.
    """
    scale = 1 / (1 - rate)
    step = 2.0 ** (math.floor(math.log2(scale)) - 7)  # from one bfloat16 to the next
    below = scale // step * step
    generator = torch.Generator().manual_seed(seed)
    number = torch.rand(POOL_SIZE, generator=generator, dtype=torch.float64)
    above = number < (1 - rate) * (scale - below) / step
    return torch.where(number < 1 - rate, below + step * above, 0).bfloat16()


def pool_dropout(model: nn.Module, seed: int) -> None:
    """Replace every nn.Dropout of the model that drops, PEFT's included, by one with a pool."""
    pools: dict[float, Tensor] = {}
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout and child.p > 0:
                pool = pools.setdefault(child.p, pool_of(child.p, seed + len(pools)))
                module._modules[name] = PooledDropout(child.p, pool)


def round_frozen(classifier: Classifier) -> None:
    """Keep the encoder's frozen linear weights in bf16: autocast would round them at every use.

    The head stays in float32, and so does what trains.
    """
    encoder: Any = encoder_of(classifier.model)
    inner: Any = getattr(classifier.model, "get_base_model", lambda: classifier.model)()
    for name, module in encoder.named_modules(prefix=inner.base_model_prefix):
        frozen = not any(parameter.requires_grad for parameter in module.parameters())
        if isinstance(module, nn.Linear) and frozen and not within(name, classifier.head):
            module.to(torch.bfloat16)


class Projections:
    """The LoRA layers of one attention that read the same states.

    Args:
        members: the layers, whose `forward` this replaces.
    """

    def __init__(self, members: list[Any]) -> None:
        self.members = members
        self.frozen: tuple[Tensor, Tensor] | None = None
        self.states: Tensor | None = None
        self.results: dict[int, Tensor] = {}

    def result(self, member: int, states: Tensor) -> Tensor:
        """Return one member's output (..., out) for the states (..., in)."""
        if states is not self.states or member not in self.results:
            self.states, self.results = states, dict(enumerate(self._results(states)))
        output = self.results.pop(member)
        if not self.results:
            self.states = None  # nothing is kept longer than it is needed
        return output

    def _results(self, states: Tensor) -> list[Tensor]:
        """Return W x + b + scale * B A dropout(x) of every member."""
        kind = states.device.type
        if torch.is_autocast_enabled(kind):
            states = states.to(torch.get_autocast_dtype(kind))
        dropped = self.members[0].lora_dropout[ADAPTER](states)
        if len(self.members) == 1:
            (layer,) = self.members
            low = linear(dropped, layer.lora_A[ADAPTER].weight)
            return [_with_update(layer.base_layer(states), low, layer)]
        down = [layer.lora_A[ADAPTER].weight for layer in self.members]
        frozen = linear(states, *self._frozen_weights())
        low = linear(dropped, torch.cat(down))
        return [
            _with_update(part, inner, layer)
            for layer, part, inner in zip(
                self.members,
                torch.split(frozen, [layer.out_features for layer in self.members], dim=-1),
                torch.split(low, [len(weight) for weight in down], dim=-1),
                strict=True,
            )
        ]

    def _frozen_weights(self) -> tuple[Tensor, Tensor]:
        """Return the members' frozen weights and biases as one weight and one bias.

        They are joined at the first use and kept as long as they are where, and of the type, that
        they were: the trainer moves them to the device, and `round_frozen` rounds them.
        """
        bases = [layer.base_layer for layer in self.members]
        now = (bases[0].weight.device, bases[0].weight.dtype)
        if self.frozen is None or (self.frozen[0].device, self.frozen[0].dtype) != now:
            biases = [
                b.weight.new_zeros(b.out_features) if b.bias is None else b.bias for b in bases
            ]
            with torch.inference_mode(False):  # the first use may be that of scoring
                weight = torch.cat([base.weight.detach() for base in bases])
                self.frozen = weight, torch.cat([bias.detach() for bias in biases])
        return self.frozen


def _with_update(frozen: Tensor, low: Tensor, layer: Any) -> Tensor:
    """Return frozen (..., out) + scale * B low for the states A x = low (..., r)."""
    up = layer.lora_B[ADAPTER].weight * layer.scaling[ADAPTER]
    flat = torch.addmm(frozen.reshape(-1, len(up)), low.reshape(-1, up.shape[1]), up.t())
    return flat.view(frozen.shape)


def fuse_projections(model: nn.Module, forward: Callable[[], Any]) -> Callable[[], None]:
    """Compute layers that read the same states together from now on, other layers each alone.

    Left as they are: layers with DoRA, biases that train, what LoRA does not adapt, and layers that
    the forward pass does not call.

    Args:
        model: with LoRA attached.
        forward: runs the model on a few texts, so that it is seen which layers read the same.

    Returns:
        What undoes it.
    """
    layers: list[Any] = []
    for members in _same_states(model, forward):
        together = Projections(members)
        for number, layer in enumerate(members):
            layer.forward = _member_forward(together, number)
            layers.append(layer)

    def undo() -> None:
        for layer in layers:
            del layer.forward

    return undo


def _same_states(model: nn.Module, forward: Callable[[], Any]) -> list[list[Any]]:
    """Return the plain LoRA layers; those of one parent that read the very same tensors together.

    A layer that is called several times reads several, one after another (ALBERT's are shared).
    """
    parents: dict[Any, int] = {}
    for parent in model.modules():
        for child in parent.children():
            if _is_plain_lora(child):
                parents.setdefault(child, id(parent))
    read: dict[Any, list[Tensor]] = {layer: [] for layer in parents}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, states: read[layer].append(states[0]))
        for layer in parents
    ]
    try:
        with torch.no_grad():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    groups: dict[tuple[int, ...], list[Any]] = {}  # the tensors are kept, so no id is used twice
    for layer, parent_id in parents.items():
        if read[layer]:
            key = (parent_id, *(id(states) for states in read[layer]))
            groups.setdefault(key, []).append(layer)
    return list(groups.values())


def _member_forward(together: Projections, number: int) -> Any:
    def forward(states: Tensor) -> Tensor:
        return together.result(number, states)

    return forward


def _is_plain_lora(layer: nn.Module) -> bool:
    """Return whether the layer is W x + b + scale * B A dropout(x) with W and b frozen."""
    return (
        isinstance(layer, LoraLinear)
        and not any(parameter.requires_grad for parameter in layer.base_layer.parameters())
        and not layer.lora_variant
        and list(layer.lora_A) == [ADAPTER]
        and layer.lora_B[ADAPTER].bias is None
    )


TEXTS = [*PROBE, "a longer text " * 8]
TOLERANCE = 1e-3  # largest difference in float32, as a share of the largest value
Seen = list[Tensor]


def speed_up(classifier: Classifier, device: Device, seed: int) -> None:
    """Make the classifier fast in place. Call it once, when it is known what trains.

    Projections that give other logits or gradients than the model's own are not fused.

    Args:
        classifier: with its method attached, or merged for scoring.
        device: what it will run on.
        seed: of the pool of dropout masks.
    """
    plain = _seen(classifier)
    with unchanged(classifier.model):
        classifier.model.eval()
        take_off = fuse_projections(classifier.model, lambda: run(classifier))
    if _differ(plain, _seen(classifier)):
        take_off()
        print("note: projections are not fused: together they do not give this model's own logits")
    if device.bf16:
        round_frozen(classifier)
    if device.is_cpu:
        pool_dropout(classifier.model, seed)


def run(classifier: Classifier) -> Tensor:
    """Return the logits of TEXTS, shape (texts, classes)."""
    batch = probe_batch(classifier.tokenizer, TEXTS)
    at = next(classifier.model.parameters()).device
    logits: Tensor = classifier.model(**{name: each.to(at) for name, each in batch.items()}).logits
    return logits


def _seen(classifier: Classifier) -> Seen:
    """Return the logits of TEXTS without and with gradients, and the gradients of what trains."""
    trains = [p for p in classifier.model.parameters() if p.requires_grad]
    with unchanged(classifier.model):
        classifier.model.eval()
        with torch.no_grad():
            alone = run(classifier)
        logits = run(classifier)
    if not trains:
        return [alone, logits]
    found = torch.autograd.grad(logits.square().sum(), trains, allow_unused=True)
    return [alone, logits.detach(), *(torch.zeros(()) if g is None else g for g in found)]


def _differ(plain: Seen, fast: Seen) -> bool:
    """Return whether logits or gradients differ by more than a share of the largest of them."""
    largest = max((float(gradient.abs().max()) for gradient in plain[2:]), default=0.0)
    scales = [float(plain[0].abs().max())] * 2 + [largest] * len(plain[2:])
    return any(
        a.shape != b.shape or not float((a - b).abs().max()) <= TOLERANCE * scale
        for a, b, scale in zip(plain, fast, scales, strict=True)
    )
