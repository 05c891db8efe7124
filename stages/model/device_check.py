"""Try a device before the first step: one small step on it and on the processor must agree.

A wrong kernel does not fail, it trains a worse model: some released versions of PyTorch ignored
attention's dropout, or read the wrong values, on one kind of device (pytorch#184126, #181133).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, scaled_dot_product_attention

from stages.core.errors import HostError, printable

ROWS, TOKENS, WIDTH, HEADS, CLASSES = 4, 16, 128, 2, 3  # heads of width 64, as in BERT
VOCABULARY = 50
TOLERANCE = 1e-3  # of float32 sums in another order; a wrong kernel is off by far more
OTHERWISE = "set compute.device to cpu, or install another version of torch"


class _Step(nn.Module):
    """What an encoder computes, once: embedding, attention, feed-forward, norms, head."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.projections = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.tokens(ids)
        query, key, value = (
            layer(states).view(ROWS, TOKENS, HEADS, -1).transpose(1, 2)
            for layer in self.projections
        )
        allowed = mask[:, None, None, :]
        if self.fused:
            read = scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        else:
            weights = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
            read = weights.masked_fill(~allowed, -1e9).softmax(-1) @ value
        states = self.norms[0](states + read.transpose(1, 2).reshape(states.shape))
        states = self.norms[1](states + self.down(nn.functional.gelu(self.up(states))))
        logits: Tensor = self.head(states[:, 0])
        return logits


def check_device(device: torch.device, attention: str | None) -> list[str]:
    """Return what the device cannot do but training can do without, as lines for the user.

    The processor's random numbers are as before afterwards.

    Args:
        device: what is tried.
        attention: the kernel that will be used, as `Device.attention`.

    Raises:
        HostError: if it lacks an operator, or its values differ from the processor's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _check(device, fused=attention is None)


def _check(device: torch.device, fused: bool) -> list[str]:
    notes = []
    step = _Step(fused)
    ids = torch.randint(VOCABULARY, (ROWS, TOKENS))
    mask = torch.arange(TOKENS) < torch.tensor([[TOKENS], [9], [5], [2]])
    expected = _loss_and_gradients(step, ids, mask)
    try:
        try:
            got = _loss_and_gradients(step.to(device), ids.to(device), mask.to(device))
        except RuntimeError as error:
            if "determinis" not in str(error):
                raise
            torch.use_deterministic_algorithms(True, warn_only=True)
            notes.append(
                f"{device.type} has an operator that is not deterministic, so two trainings may "
                "differ in their last digits"
            )
            got = _loss_and_gradients(step, ids.to(device), mask.to(device))
        kept = float((dropout(torch.ones(1 << 12, device=device), 0.5) > 0).double().mean())
    except (RuntimeError, AssertionError) as error:  # NotImplementedError is one
        raise HostError(
            f"compute.device: {device.type}: a step on it fails: {printable(error, 200)}", OTHERWISE
        ) from error
    worst = max(float((a - b).abs().max()) for a, b in zip(expected, got, strict=True))
    if not worst <= TOLERANCE:  # NaN too
        raise HostError(
            f"compute.device: {device.type}: a step on it differs by {worst:.2g} from the "
            f"processor's, more than {TOLERANCE:g}",
            OTHERWISE,
        )
    if not 0.4 < kept < 0.6:
        raise HostError(
            f"compute.device: {device.type}: dropout of a half keeps {kept:.0%}", OTHERWISE
        )
    return notes


def _loss_and_gradients(step: _Step, ids: Tensor, mask: Tensor) -> list[Tensor]:
    """Return the loss and the gradient of each weight, on the CPU."""
    step.zero_grad()
    labels = torch.tensor([0, 1, 2, 0], device=ids.device)
    loss = cross_entropy(step(ids, mask), labels)
    loss.backward()  # type: ignore[no-untyped-call]  # torch left it untyped
    gradients = [p.grad for p in step.parameters() if p.grad is not None]
    return [t.detach().cpu().clone() for t in (loss, *gradients)]
