"""A model folder: which of its files are read, and which folders are refused."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import ModelError
from stages.sources.locate import ModelSource, locate_model
from tests.support.model_files import MODEL, SAFETENSORS, pieces, safetensors, write_files
from tests.support.tiny import ROOT

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
        ({"model.safetensors": None, "tf_model.h5": b"x"}, "only TensorFlow (tf_model.h5)"),
        ({"model.safetensors": None, "model.fp16.safetensors": b"x"}, "model.fp16.safetensors"),
        ({"model.safetensors": SAFETENSORS[:-1]}, "not a complete safetensors file"),
        ({"model.safetensors": b"version https://git-lfs"}, "git lfs pull"),
        ({"config.json": None}, "holds no config.json"),
        ({"config.json": b"{"}, "not valid JSON"),
        ({"config.json": b"[]"}, "not a JSON object"),
        ({"config.json": b'{"auto_map": {"AutoModel": "x.Y"}}'}, "config.json has auto_map"),
        ({"config.json": config(model_type="own", auto_map={})}, "config.json has auto_map"),
        ({"config.json": config(quantization_config={"bits": 4})}, "the weights are quantised"),
        ({"model.safetensors": safetensors({"a.weight": "I8"})}, "a.weight is stored as I8"),
        ({"model.safetensors": safetensors({"a.weight": "F8_E4M3"})}, "the weights are quantised"),
        ({"config.json": config(transformers_weights="x.safetensors")}, "names other weights"),
        ({"vocab.txt": None}, "BertTokenizer reads tokenizer.json or vocab.txt"),
        ({"tokenizer_config.json": b"[]"}, "tokenizer_config.json: not a JSON object"),
    ],
)
def test_an_unsafe_or_incomplete_model_is_refused(
    changes: dict[str, bytes | None], message: str, tmp_path: Path
) -> None:
    assert message in refusal(tmp_path, {**MODEL, **changes})


def test_code_of_a_tokenizer_that_transformers_lacks_is_refused(tmp_path: Path) -> None:
    files = {
        "config.json": config(model_type="own"),
        "tokenizer_config.json": b'{"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": []}}',
    }
    assert "tokenizer_config.json has auto_map" in refusal(tmp_path, {**MODEL, **files})


def test_code_beside_a_model_that_transformers_knows_is_not_needed(tmp_path: Path) -> None:
    changes = {
        "config.json": config(model_type="nomic_bert", auto_map={"AutoModel": "o/c--m.Model"}),
        "tokenizer_config.json": b'{"auto_map": {"AutoTokenizer": ["t.T", null]}}',
        "modeling.py": b"raise SystemExit",
    }
    found = located(tmp_path, {**MODEL, **changes})
    assert set(found.files) == set(MODEL)
    first, second = found.notices
    assert first.startswith("config.json names code of its own (auto_map), which is not run")
    assert second.startswith("tokenizer_config.json names code of its own")


def test_a_folder_around_the_model_is_refused_with_the_one_inside(tmp_path: Path) -> None:
    inside = write_files(tmp_path / "m" / "0_Transformer", MODEL)
    write_files(tmp_path / "m" / "1_Pooling", {"config.json": b"{}"})
    message = refusal(tmp_path, {"modules.json": b"[]"})
    assert message.endswith(f"Fix: give the folder in it: {inside}")
    assert set(locate_model(str(inside), tmp_path).files) == set(MODEL)


def test_an_index_and_its_shards_are_read(tmp_path: Path) -> None:
    found = located(tmp_path, {**SHARDED, "model-00003-of-00003.safetensors": b"of another run"})
    assert set(found.files) == set(SHARDED)
    assert found.notices == ()


def test_one_file_counts_before_an_index_as_in_transformers(tmp_path: Path) -> None:
    assert set(located(tmp_path, {**SHARDED, **MODEL}).files) == set(MODEL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({TWO: None}, f"lists 2 files, of which 1 are missing: {TWO}"),
        ({TWO: safetensors({"d.weight": "F32"})}, f"{TWO} lacks 1 tensors that {INDEX} lists"),
        ({TWO: SHARDED[TWO][:-1]}, f"{TWO} is not a complete safetensors file"),
        ({TWO: safetensors({"c.weight": "I8"})}, "the weights are quantised"),
        ({INDEX: b"{}"}, "not an index"),
        ({INDEX: b"{"}, "not an index"),
        ({INDEX: b'{"metadata": {}, "weight_map": {}}'}, "not an index"),
        ({INDEX: json.dumps({"weight_map": {"a.weight": ONE}}).encode()}, "not an index"),
        ({INDEX: b'{"metadata": {}, "weight_map": {"a": "../x.safetensors"}}'}, "not an index"),
        ({INDEX: b'{"metadata": {}, "weight_map": {"a": "x.bin"}}'}, "not an index"),
        ({INDEX: b'{"metadata": {}, "weight_map": {"a": 3}}'}, "not an index"),
        ({INDEX: b'{"metadata": {}, "weight_map": ["a"]}'}, "not an index"),
    ],
)
def test_incomplete_shards_are_refused(
    changes: dict[str, bytes | None], message: str, tmp_path: Path
) -> None:
    assert message in refusal(tmp_path, {**SHARDED, **changes})


@pytest.mark.parametrize(
    ("stored", "notices"),
    [
        ({"a.weight": "F32", "position_ids": "I64"}, ()),
        ({"a.weight": "BF16"}, ("the weights are stored in bf16: widened to fp32, without loss",)),
        ({"a.weight": "F64"}, ("the weights are stored in fp64: rounded to fp32",)),
        ({"a.weight": "F16"}, ("the weights are stored in fp16: widened to fp32, without loss",)),
    ],
)
def test_weights_in_half_precision_are_said_to_be_widened(
    stored: dict[str, str], notices: tuple[str, ...], tmp_path: Path
) -> None:
    assert located(tmp_path, {**MODEL, "model.safetensors": safetensors(stored)}).notices == notices


def test_an_adapter_beside_the_model_is_refused_and_the_remedy_works(tmp_path: Path) -> None:
    files = {**MODEL, "adapter_config.json": b"{}", "adapter_model.safetensors": SAFETENSORS}
    message = refusal(tmp_path, files)
    assert "an adapter lies beside the model (adapter_config.json)" in message
    _, _, command = message.partition("without it: ")
    subprocess.run(shlex.split(command), check=True)
    assert set(locate_model(str(tmp_path / "m"), tmp_path).files) == set(MODEL)


def test_an_adapter_alone_is_refused_with_the_name_of_its_base(tmp_path: Path) -> None:
    content = b'{"base_model_name_or_path": "owner/base"}'
    message = refusal(tmp_path, {"adapter_config.json": content})
    assert "holds an adapter (adapter_config.json), not a model" in message
    assert message.endswith("give the model that it was trained on: owner/base")


OF_CLASS = {
    "PhobertTokenizer": ("vocab.txt", "bpe.codes"),
    "BertweetTokenizer": ("vocab.txt", "bpe.codes"),
    "AlbertTokenizer": ("spiece.model",),
    "RemBertTokenizer": ("sentencepiece.model",),
    "DebertaV2TokenizerFast": ("spm.model",),
    "XLMRobertaTokenizer": ("sentencepiece.bpe.model",),
    "RobertaTokenizerFast": ("vocab.json", "merges.txt"),
    "LukeTokenizer": ("vocab.json", "merges.txt", "entity_vocab.json"),
    "RoCBertTokenizer": ("vocab.txt", "word_shape.json", "word_pronunciation.json"),
    "PreTrainedTokenizerFast": ("tokenizer.json",),
    "AClassThatNoOneKnows": ("tokenizer.json",),
    "CanineTokenizer": (),
}


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("kind", OF_CLASS)
def test_the_tokenizer_class_names_its_files(kind: str, where: str, tmp_path: Path) -> None:
    declared = {"config.json": {"model_type": "bert"}, "tokenizer_config.json": {}}
    declared[where]["tokenizer_class"] = kind
    files = {
        "model.safetensors": SAFETENSORS,
        "special_tokens_map.json": b"{}",
        **{name: json.dumps(content).encode() for name, content in declared.items()},
        **{name: pieces() if name.endswith(".model") else b"x" for name in OF_CLASS[kind]},
    }
    assert set(located(tmp_path, {**files, "run.py": b"", "vocab.bak": b""}).files) == set(files)


def test_the_architecture_gives_the_class_where_none_is_declared(tmp_path: Path) -> None:
    files = {"config.json": config(model_type="albert"), "model.safetensors": SAFETENSORS}
    assert "AlbertTokenizer reads tokenizer.json or spiece.model" in refusal(tmp_path, files)
    assert "spiece.model" in located(tmp_path, {**files, "spiece.model": pieces()}).files


@pytest.mark.parametrize("lost", ["vocab.txt", "bpe.codes"])
def test_a_tokenizer_that_lacks_one_of_its_files_is_refused(lost: str, tmp_path: Path) -> None:
    files: dict[str, bytes | None] = {
        "config.json": config(tokenizer_class="PhobertTokenizer"),
        "model.safetensors": SAFETENSORS,
        "vocab.txt": b"x",
        "bpe.codes": b"x",
    }
    message = refusal(tmp_path, {**files, lost: None})
    assert "PhobertTokenizer reads tokenizer.json or vocab.txt and bpe.codes" in message
    assert f"there is no {lost}" in message


def test_a_fast_tokenizer_for_this_release_is_taken(tmp_path: Path) -> None:
    named = b'{"fast_tokenizer_files": ["tokenizer.json", "tokenizer.4.0.0.json"]}'
    files = {"tokenizer_config.json": named, "tokenizer.4.0.0.json": b"{}", "vocab.txt": None}
    assert "tokenizer.4.0.0.json" in located(tmp_path, {**MODEL, **files}).files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_max_length": "long"}, "model_max_length: expected a number of tokens, got"),
        ({"model_max_length": [512]}, "model_max_length: expected a number of tokens, got [512]"),
        ({"model_max_length": True}, "model_max_length: expected a number of tokens, got True"),
        ({"model_input_names": None}, "model_input_names: expected a list of names, got None"),
        ({"model_input_names": "input_ids"}, "model_input_names: expected a list of names"),
        ({"model_input_names": [1]}, "model_input_names: expected a list of names, got [1]"),
    ],
)
def test_a_setting_of_the_tokenizer_that_means_nothing_is_refused(
    content: dict[str, Any], message: str, tmp_path: Path
) -> None:
    files = {**MODEL, "tokenizer_config.json": json.dumps(content).encode()}
    assert f"tokenizer_config.json: {message}" in refusal(tmp_path, files)


def test_the_remedy_for_pickled_weights_leaves_the_model_the_same(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3).t(), "n": torch.tensor(3)}
    tensors["tied.weight"] = tensors["a.weight"]  # shares its memory
    tensors["half"] = torch.ones(2, dtype=torch.bfloat16)
    folder = write_files(tmp_path / "it's mine", {**MODEL, "pytorch_model.bin": b""})
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(ModelError) as caught:
        locate_model(str(folder), tmp_path)
    _, _, command = str(caught.value).partition("convert them once: ")
    assert command.startswith("python -m stages.sources.to_safetensors ")
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    converted = load_file(folder / "model.safetensors")
    assert {name: tensor.dtype for name, tensor in converted.items()} == {
        name: tensor.dtype for name, tensor in tensors.items()
    }
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in converted.items())
    assert "model.safetensors" in locate_model(str(folder), tmp_path).files
