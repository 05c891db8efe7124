"""Convert pickled weights to safetensors: `python -m stages.sources.to_safetensors FOLDER`.

Every tensor keeps its name, type and values, so the model stays exactly what it was. Only tensors
are unpickled (torch's weights_only): a file that needs code is refused.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

from stages.core.artefacts import replacing
from stages.core.errors import ModelError, ParamsError, printable
from stages.running.run import exit_code_of
from stages.sources.weight_files import PICKLES, WEIGHTS


def to_safetensors(folder: Path) -> int:
    """Write the tensors of pytorch_model*.bin to model.safetensors, and return how many.

    Raises:
        ParamsError: if the folder holds no such file, or already has a model.safetensors.
        ModelError: if a file holds anything but tensors by name.
    """
    from safetensors.torch import save_file

    whole = folder / "pytorch_model.bin"
    files = [whole] if whole.is_file() else sorted(folder.glob(PICKLES))
    if not files:
        raise ParamsError(f"{folder}: holds no {PICKLES}", "give the model's folder")
    if (folder / WEIGHTS).exists():
        raise ParamsError(f"{folder / WEIGHTS} exists", "nothing needs to be converted")
    tensors: dict[str, Any] = {}
    for file in files:
        # Tensors that share memory, such as tied embeddings, are stored once for each name.
        tensors |= {name: tensor.contiguous().clone() for name, tensor in _read(file).items()}
    with replacing(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    return len(tensors)


def _read(file: Path) -> dict[str, Any]:
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        why = printable(str(error).partition("\n")[0], 200)
        raise ModelError(
            f"{file}: not a file of tensors alone: {why}", "choose a model with safetensors files"
        ) from None
    if not isinstance(content, dict):
        raise ModelError(f"{file}: holds no tensors by name", "give the file of a state dict")
    for name, value in content.items():
        if not isinstance(name, str) or not torch.is_tensor(value):
            raise ModelError(
                f"{file}: {printable(name)} is no tensor, but a {type(value).__name__}",
                "save the model's state dict alone: torch.save(model.state_dict(), file)",
            )
    return content


def main() -> None:
    """Convert the folder that the command line names."""
    if len(sys.argv) != 2:  # the module and the folder
        raise ParamsError("expected one folder", "python -m stages.sources.to_safetensors FOLDER")
    folder = Path(sys.argv[1])
    print(f"{folder / WEIGHTS}: {to_safetensors(folder)} tensors")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
