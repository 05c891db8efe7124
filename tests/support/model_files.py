"""The files of a model too small to compute with: enough to be found, checked and copied."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# Bytes of a number.
SIZES = {"F64": 8, "F32": 4, "I64": 8, "F16": 2, "BF16": 2, "I8": 1, "F8_E4M3": 1}


def safetensors(types: dict[str, str]) -> bytes:
    """Return a safetensors file of one zero for each name, of the type given."""
    header, at = {}, 0
    for name, kind in types.items():
        header[name] = {"dtype": kind, "shape": [1], "data_offsets": [at, at + SIZES[kind]]}
        at += SIZES[kind]
    content = json.dumps(header).encode()
    return len(content).to_bytes(8, "little") + content + bytes(at)


@cache
def pieces(**kinds: Any) -> bytes:
    """Return a SentencePiece model of some English words; `kinds` as its trainer takes them."""
    from sentencepiece import SentencePieceTrainer

    words = ["love", "great", "bright", "fine", "warm", "hate", "awful", "dull", "poor", "cold"]
    words += ["film", "book", "lamp", "lovely"]
    texts = [f"The {a} was really {b} and {c} here" for a in words for b in words for c in words]
    file = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=file,
        vocab_size=120,
        hard_vocab_limit=False,
        minloglevel=2,
        **kinds,
    )
    return file.getvalue()


HEADER = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
SAFETENSORS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)
MODEL = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": SAFETENSORS,
    "vocab.txt": b"[PAD]\n[UNK]\n",
    "tokenizer_config.json": b"{}",
}


def sha256(content: bytes) -> str:
    """Return the hex sha256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Write the files into the folder, and return it."""
    folder.mkdir(exist_ok=True, parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file; the value ... removes one."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    kept = {key: value for key, value in content.items() if value is not ...}
    path.write_text(json.dumps(kept), encoding="utf-8")


def edit_tensors(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Let a function change the tensors of a safetensors file in place."""
    from safetensors.torch import load_file, save_file

    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    path.unlink()  # a new file, since the old one may be mapped into memory
    save_file(tensors, path, metadata={"format": "pt"})
