"""A model folder: which of its files are read, and which folders are refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import ModelError
from stages.sources.locate import ModelSource, locate_model
from tests.support.model_files import MODEL, SAFETENSORS, safetensors, write_files

INDEX = "model.safetensors.index.json"
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
SHARDED = {
    "config.json": MODEL["config.json"],
    "vocab.txt": MODEL["vocab.txt"],
    ONE: safetensors({"a.weight": "F32", "b.weight": "F32"}),
    TWO: safetensors({"c.weight": "F32"}),
    INDEX: json.dumps(
        {"metadata": {}, "weight_map": {"a.weight": ONE, "b.weight": ONE, "c.weight": TWO}}
    ).encode(),
}


ADAPTER = b'{"base_model_name_or_path": "owner/base"}'


def located(folder: Path, files: Mapping[str, bytes | None]) -> ModelSource:
    """Return the model of a new folder with these files; None leaves one out."""
    present = {name: content for name, content in files.items() if content is not None}
    return locate_model(str(write_files(folder / "m", present)), folder)


def refusal(folder: Path, files: Mapping[str, bytes | None]) -> str:
    with pytest.raises(ModelError) as caught:
        located(folder, files)
    assert str(caught.value).startswith("error: params.yaml: model.source: ")
    return str(caught.value)


def config(**fields: Any) -> bytes:
    return json.dumps({"model_type": "bert", **fields}).encode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.safetensors": None, "pytorch_model.bin": b"x"}, "pickle weights are refused"),
        ({"adapter_config.json": b"{}"}, "holds an adapter (adapter_config.json), which Transf"),
        ({"adapter_config.json": ADAPTER}, "the model that it was trained on (owner/base), merge"),
        ({"model.safetensors": SAFETENSORS[:-1]}, "not a complete safetensors file"),
        ({"model.safetensors": b"version https://git-lfs"}, "git lfs pull"),
        ({"config.json": None}, "holds no config.json"),
        ({"config.json": b"{"}, "config.json: not a JSON object"),
        ({"config.json": b"[]"}, "not a JSON object"),
        ({"config.json": b'{"auto_map": {"AutoModel": "x.Y"}}'}, "config.json has auto_map"),
        ({"config.json": config(model_type="own", auto_map={})}, "config.json has auto_map"),
        ({"config.json": config(quantization_config={"bits": 4})}, "the weights are quantised"),
        ({"model.safetensors": safetensors({"a.weight": "I8"})}, "a.weight is stored as I8"),
        ({"model.safetensors": safetensors({"a.weight": "F8_E4M3"})}, "the weights are quantised"),
        ({"vocab.txt": None}, "holds no tokenizer: none of tokenizer.json, "),
        ({"config.json": config(model_type="llama")}, "llama is not supported: a decoder"),
        ({"config.json": config(model_type="clip")}, "Transformers has no classifier of texts"),
        ({"tokenizer_config.json": b"[]"}, "tokenizer_config.json: not a JSON object"),
    ],
)
def test_an_unsafe_or_incomplete_model_is_refused(
    changes: dict[str, bytes | None], message: str, tmp_path: Path
) -> None:
    assert message in refusal(tmp_path, {**MODEL, **changes})


def test_a_folder_around_the_model_is_refused_with_the_one_inside(tmp_path: Path) -> None:
    inside = write_files(tmp_path / "m" / "0_Transformer", MODEL)
    write_files(tmp_path / "m" / "1_Pooling", {"config.json": b"{}"})
    message = refusal(tmp_path, {"modules.json": b"[]"})
    assert message.endswith(f"Fix: give the folder in it: {inside}")
    assert set(locate_model(str(inside), tmp_path).files) == set(MODEL)


def test_an_index_and_its_shards_are_read_where_no_single_file_is(tmp_path: Path) -> None:
    found = located(tmp_path, {**SHARDED, "model-00003-of-00003.safetensors": b"of another run"})
    assert set(found.files) == set(SHARDED)
    assert found.notices == ()
    assert set(located(tmp_path / "one", {**SHARDED, **MODEL}).files) == set(MODEL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({TWO: None}, f"{TWO}, which {INDEX} lists, is missing"),
        ({TWO: SHARDED[TWO][:-1]}, f"{TWO} is not a complete safetensors file"),
        ({TWO: safetensors({"c.weight": "I8"})}, "the weights are quantised"),
        ({INDEX: b"{}"}, "not an index"),
        ({INDEX: b'{"weight_map": {"a": "../x.safetensors"}}'}, "not an index"),
        ({INDEX: b'{"weight_map": {"a": "x.bin"}}'}, "not an index"),
        ({INDEX: b'{"weight_map": ["a"]}'}, "not an index"),
    ],
)
def test_incomplete_shards_are_refused(
    changes: dict[str, bytes | None], message: str, tmp_path: Path
) -> None:
    assert message in refusal(tmp_path, {**SHARDED, **changes})


def test_every_vocabulary_of_its_tokenizer_is_taken_and_nothing_else(tmp_path: Path) -> None:
    vocabularies = ("bpe.codes", "spm.model", "merges.txt", "word_shape.json", "added_tokens.json")
    files = {**MODEL, **dict.fromkeys(vocabularies, b"x")}
    others = dict.fromkeys(("vocab.bak", "run.py", "pytorch_model.bin", "tf_model.h5"), b"x")
    others |= {"pytorch_model.bin.index.json": b"{}", "README.md": b"", "a.safetensors": b""}
    assert set(located(tmp_path, {**files, **others}).files) == set(files)
