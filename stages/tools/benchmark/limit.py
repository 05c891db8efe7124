"""The physical limit: how fast the machine multiplies, and what a row takes at the least."""

from __future__ import annotations

import statistics
import time

import torch

from stages.model.lora import attach_lora
from stages.model.tokens import encode
from stages.tools.benchmark.setting import Setting, fresh_base

# Weights that are looked up, or used once a row and not once a token: too little to count.
ONCE_A_ROW = ("embeddings", "pooler", "classifier")


def multiplication_rate(setting: Setting) -> float:
    """Return the floating-point operations a second of this machine's matrix products.

    Best of several products of 2,048 x 2,048 matrices in the precision in use.
    """
    dtype = torch.bfloat16 if setting.device.bf16 else torch.float32
    size = 2048
    left, right = (torch.randn(size, size, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def least_work(setting: Setting) -> dict[str, float]:
    """Return the floating-point operations that the model takes for a row, without any padding.

    It is the measure for all contenders; one that skips work without effect needs less.

    A linear layer of so many weights takes two operations a weight and token, forward and again
    for the gradient of its inputs; weights that train take as much once more. Attention takes
    4 x tokens x hidden size a token and layer. Everything else is left out.
    """
    classifier = attach_lora(fresh_base(setting, 0), setting.params.lora)
    texts = setting.train.texts
    lengths = encode(classifier.tokenizer, texts, setting.params.data.max_length).lengths.tolist()
    tokens = statistics.mean(lengths)
    squares = statistics.mean(length * length for length in lengths)
    matrices = [
        (parameter.numel(), parameter.requires_grad)
        for name, parameter in classifier.model.named_parameters()
        if parameter.ndim == 2 and not any(part in name for part in ONCE_A_ROW)
    ]
    config = classifier.model.config
    attention = 4 * squares * config.hidden_size * config.num_hidden_layers
    frozen = 2 * tokens * sum(size for size, trains in matrices if not trains)
    trained = 2 * tokens * sum(size for size, trains in matrices if trains)
    return {
        "scoring": frozen + attention,  # LoRA can be merged into the weights
        "training": 2 * frozen + 3 * trained + 3 * attention,
    }
