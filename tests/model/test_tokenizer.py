"""Tokenizers in their original files are read, and those that do not fit the model are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from stages.core import paths
from stages.core.errors import ModelError
from stages.model.device import resolve
from stages.model.load import load_base
from stages.model.tokens import encode, load_tokenizer, marks_the_start
from stages.sources.locate import locate_model
from tests.support.model_files import MODEL, SAFETENSORS, pieces, write_files
from tests.support.tiny import COMPUTE, NAMES

TEXT = "The lovely film was really cold"
BERT = {
    **{"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3},
    **{"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
}
ALBERT = {**BERT, "unk_id": 1, "bos_id": 2, "eos_id": 3, "pad_piece": "<pad>", "unk_piece": "<unk>"}
ROBERTA = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}
# model_type: file, how its vocabulary begins, lower-cased, first and last token
OF_TYPE: dict[str, tuple[str, dict[str, Any], bool, str, str]] = {
    "deberta-v2": ("spm.model", BERT, False, "[CLS]", "[SEP]"),
    "xlm-roberta": ("sentencepiece.bpe.model", ROBERTA, False, "<s>", "</s>"),
    "camembert": ("sentencepiece.bpe.model", ROBERTA, False, "<s>", "</s>"),
    "albert": ("spiece.model", ALBERT, True, "[CLS]", "[SEP]"),
    "big_bird": ("spiece.model", ALBERT, False, "[CLS]", "[SEP]"),
}


@pytest.mark.parametrize("kind", OF_TYPE)
def test_a_sentencepiece_model_alone_is_enough(kind: str, tmp_path: Path) -> None:
    name, kinds, lower, first, last = OF_TYPE[kind]
    files = {
        "config.json": json.dumps({"model_type": kind}).encode(),
        "model.safetensors": SAFETENSORS,
        name: pieces(**kinds),
    }
    folder = write_files(tmp_path / "m", files)
    assert set(locate_model(str(folder), tmp_path).files) == set(files)
    tokenizer = load_tokenizer(folder)
    text = TEXT.lower() if lower else TEXT
    own = sentencepiece.SentencePieceProcessor(str(folder / name)).encode(text, out_type=str)
    read = tokenizer.convert_ids_to_tokens(tokenizer(TEXT)["input_ids"])
    assert read == [first, *own, last]
    assert marks_the_start(tokenizer)
    assert tokenizer.pad_token_id is not None


@pytest.mark.parametrize("kind", ["PhobertTokenizer", "BertweetTokenizer"])
def test_a_vocabulary_with_its_codes_is_enough(kind: str, tmp_path: Path) -> None:
    config = {"model_type": "roberta", "tokenizer_class": kind}
    files = {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": SAFETENSORS,
        "bpe.codes": b"f i 1\nfi l 1\nfil m</w> 1\n",
        "vocab.txt": b"film 9\nf@@ 9\nb@@ 9\no@@ 9\nk 9\n",
    }
    folder = write_files(tmp_path / "m", {**files, "run.py": b""})
    found = locate_model(str(folder), tmp_path).files
    assert set(found) == set(files)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.tokenize("film book") == ["film", "b@@", "o@@", "o@@", "k"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {
                "tokenizer_config.json": b'{"tokenizer_class": "BertJapaneseTokenizer", '
                b'"word_tokenizer_type": "mecab"}'
            },
            "You need to install fugashi",
        ),
        ({"tokenizer.json": b"{"}, "otherwise fetch it again: dvc repro -f fetch_base$"),
    ],
)
def test_a_tokenizer_that_cannot_be_read_is_refused_in_the_librarys_words(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(ModelError, match=f"its tokenizer cannot be read: .*{message}"):
        load_tokenizer(write_files(tmp_path / "m", {**MODEL, **files}))


def edit(**changes: Any) -> None:
    path = paths.BASE_MODEL / "tokenizer_config.json"
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps(content), encoding="utf-8")


def load(pooling: Any = "auto") -> Any:
    return load_base(paths.BASE_MODEL, list(NAMES[:2]), 42, resolve(COMPUTE), pooling)


@pytest.mark.parametrize(
    ("value", "limit"),
    [("20", 20), (20.0, 20), (1e30, 66), (0, 66), (-1, 66), (None, 66), (9000, 66)],
)
def test_the_length_of_the_tokenizer_is_understood(
    load_tiny_base: Any, value: Any, limit: int
) -> None:
    load_tiny_base("bert")
    edit(model_max_length=value)
    tokenizer = load().tokenizer
    assert (tokenizer.model_max_length, type(tokenizer.model_max_length)) == (limit, int)
    assert len(encode(tokenizer, ["w1 " * 200], 8192)[0]) == limit


@pytest.mark.parametrize("names", [["input_ids"], [], ["pixel_values"], None, "input_ids", 5])
def test_the_names_of_the_tokenizers_inputs_do_not_matter(load_tiny_base: Any, names: Any) -> None:
    expected = load_tiny_base("bert").tokenizer("w1")["input_ids"]
    edit(model_input_names=names)
    assert load().tokenizer("w1")["input_ids"] == expected


@pytest.mark.parametrize("value", ["long", [20], True])
def test_a_length_that_is_no_number_is_one_line(load_tiny_base: Any, value: Any) -> None:
    load_tiny_base("bert")
    edit(model_max_length=value)
    with pytest.raises(ModelError, match="expected a number of tokens"):
        load()


def test_a_length_without_room_for_a_text_is_refused(load_tiny_base: Any) -> None:
    load_tiny_base("bert")
    edit(model_max_length=2)
    message = "the tokenizer keeps 2 tokens of a text, 2 of which are its own"
    with pytest.raises(ModelError, match=message):
        load()
    edit(model_max_length=3)
    assert len(encode(load().tokenizer, ["w1 w2 w3"], 8)[0]) == 3


def without_special_tokens(kept: str = "") -> None:
    """Let the tokenizer add no special token, or [SEP] alone at the end."""
    path = paths.BASE_MODEL / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    if kept:
        single = content["post_processor"]["single"]
        content["post_processor"]["single"] = [part for part in single if "[CLS]" not in str(part)]
    else:
        content["post_processor"] = None
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("pooling", ["auto", "first"])
@pytest.mark.parametrize("kept", ["", "[SEP]"])
def test_a_tokenizer_without_a_first_token_is_refused_where_the_head_reads_it(
    load_tiny_base: Any, pooling: str, kept: str
) -> None:
    load_tiny_base("bert")
    without_special_tokens(kept)
    with pytest.raises(ModelError, match=r"puts no token such as \[CLS\] in front"):
        load(pooling)


def test_without_special_tokens_no_row_is_empty(load_tiny_base: Any) -> None:
    load_tiny_base("bert")
    without_special_tokens()
    tokenizer = load("mean").tokenizer  # the remedy of the refusal
    encoded = encode(tokenizer, ["", "w1", "\u200b"], 8)
    assert [len(encoded[row]) for row in range(3)] == [1, 1, 1]
    assert encoded[0].tolist() == [tokenizer.unk_token_id]


def test_a_vocabulary_of_special_tokens_alone_is_refused(load_tiny_base: Any) -> None:
    load_tiny_base("bert")
    path = paths.BASE_MODEL / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {w: n for w, n in vocabulary.items() if w.startswith("[")}
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError, match="has no tokens but its special ones"):
        load()


def test_a_padding_token_that_the_model_lacks_is_refused(load_tiny_base: Any) -> None:
    size = len(load_tiny_base("bert").tokenizer)
    edit(**{"pad_token": "[NEW]"})
    with pytest.raises(ModelError, match=f"has {size + 1} tokens, the model only {size}"):
        load()
