"""Read weights from safetensors files; a damaged file or a number that is not finite is refused."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stages.core.errors import ModelError, printable


def read_weights(path: Path, fix: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name.

    Args:
        path: the file.
        fix: what an error tells the user to do.

    Raises:
        ModelError: if it is damaged or holds a value that is not a finite number.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size if path.exists() else 0
        raise ModelError(
            f"{path}: {size} bytes, not a complete safetensors file: {printable(error)}", fix
        ) from error
    for name, tensor in tensors.items():
        # guard: finite weights
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{path}: {name} holds a value that is not finite", fix)
    return tensors
