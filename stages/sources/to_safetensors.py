"""Convert pickled weights to safetensors: `python -m stages.sources.to_safetensors FOLDER`.

Every tensor keeps its name, type and values, so the model stays exactly what it was. Only tensors
are unpickled (torch's weights_only): a file that needs code is refused.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from stages.core.artefacts import replacing
from stages.core.errors import ModelError, ParamsError, printable
from stages.running.run import exit_code_of
from stages.sources.catalogue import WEIGHTS
from stages.sources.model_folder import PICKLES


def to_safetensors(folder: Path) -> int:
    """Write the tensors of pytorch_model*.bin to model.safetensors, and return how many.

    Raises:
        ParamsError: if the folder holds no such file, or already has a model.safetensors.
        ModelError: if a file holds anything but tensors by name.
    """
    whole = folder / "pytorch_model.bin"
    files = [whole] if whole.is_file() else sorted(folder.glob(PICKLES))
    if not files or (folder / WEIGHTS).exists():
        what = f"{folder}: holds no {PICKLES}" if not files else f"{folder / WEIGHTS} exists"
        raise ParamsError(what, "give the folder of a model whose weights are pickled")
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
            # Tensors that share memory, such as tied embeddings, are stored once for each name.
            tensors |= {name: tensor.contiguous().clone() for name, tensor in content.items()}
        except Exception as error:  # the library raises whatever it meets in the file
            why = printable(str(error).partition("\n")[0], 200)
            raise ModelError(
                f"{file}: not a file of tensors alone: {why}",
                "choose a model with safetensors files, or save the state dict alone: "
                "torch.save(model.state_dict(), file)",
            ) from None
    with replacing(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    return len(tensors)


def main() -> None:
    """Convert the folder that the command line names."""
    if len(sys.argv) != 2:  # the module and the folder
        raise ParamsError("expected one folder", "python -m stages.sources.to_safetensors FOLDER")
    folder = Path(sys.argv[1])
    print(f"{folder / WEIGHTS}: {to_safetensors(folder)} tensors")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
