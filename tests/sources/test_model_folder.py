"""A model folder that is unsafe or incomplete is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.core.errors import ModelError
from stages.sources.locate import locate_model
from tests.support.model_files import MODEL, SAFETENSORS, write_files


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.safetensors": None, "pytorch_model.bin": b"x"}, "pickle weights are refused"),
        ({"model.safetensors": None, "model.safetensors.index.json": b"{}"}, "not an index of safetensors"),
        ({"model.safetensors": SAFETENSORS[:-1]}, "not a complete safetensors file"),
        ({"model.safetensors": b"version https://git-lfs"}, "git lfs pull"),
        ({"config.json": None}, "holds no config.json"),
        ({"config.json": b"{"}, "not valid JSON"),
        ({"config.json": b"[]"}, "not a JSON object"),
        ({"config.json": b'{"auto_map": {"AutoModel": "x.Y"}}'}, "config.json has auto_map"),
        ({"tokenizer_config.json": b'{"auto_map": {}}'}, "tokenizer_config.json has auto_map"),
        ({"vocab.txt": None}, "holds no tokenizer"),
    ],
)
def test_unsafe_or_incomplete_local_model_is_refused(
    changes: dict[str, bytes | None], message: str, tmp_path: Path, temp: Path
) -> None:
    files = {name: content for name, content in {**MODEL, **changes}.items() if content is not None}
    with pytest.raises(ModelError, match=message):
        locate_model(str(write_files(tmp_path / "m", files)), temp)
