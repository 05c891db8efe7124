"""Tokenizers in their original files are read, and those that do not fit the model are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from stages.core import paths
from stages.core.errors import ModelError
from stages.model.tokens import encode, load_tokenizer, marks_the_start
from stages.sources.locate import locate_model
from tests.support.adapters import load
from tests.support.model_files import MODEL, SAFETENSORS, edit_json, pieces, write_files

SETTINGS = paths.BASE_MODEL / "tokenizer_config.json"

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


def test_a_tokenizer_that_cannot_be_read_is_refused_in_the_librarys_words(tmp_path: Path) -> None:
    japanese = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"}
    files = {**MODEL, "tokenizer_config.json": json.dumps(japanese).encode()}
    with pytest.raises(ModelError, match=r"cannot be read: .*You need to install fugashi"):
        load_tokenizer(write_files(tmp_path / "m", files))


@pytest.mark.parametrize(
    ("value", "limit"),
    [("20", 20), (20.0, 20), (3, 3), (1e30, 66), (0, 66), (-1, 66), (None, 66), (9000, 66)],
)
def test_the_length_of_the_tokenizer_is_understood(
    load_tiny_base: Any, value: Any, limit: int
) -> None:
    load_tiny_base("bert")
    edit_json(SETTINGS, model_max_length=value)
    tokenizer = load().tokenizer
    assert (tokenizer.model_max_length, type(tokenizer.model_max_length)) == (limit, int)
    assert len(encode(tokenizer, ["w1 " * 200], 8192)[0]) == limit


@pytest.mark.parametrize("names", [["input_ids"], [], ["pixel_values"], None, "input_ids", 5])
def test_the_names_of_the_tokenizers_inputs_do_not_matter(load_tiny_base: Any, names: Any) -> None:
    expected = load_tiny_base("bert").tokenizer("w1")["input_ids"]
    edit_json(SETTINGS, model_input_names=names)
    assert load().tokenizer("w1")["input_ids"] == expected


def test_without_special_tokens_no_row_is_empty(load_tiny_base: Any) -> None:
    load_tiny_base("bert")
    edit_json(paths.BASE_MODEL / "tokenizer.json", post_processor=None)
    tokenizer = load("mean").tokenizer  # the remedy where the head would read a first token
    encoded = encode(tokenizer, ["", "w1", "\u200b"], 8)
    assert [len(encoded[row]) for row in range(3)] == [1, 1, 1]
    assert encoded[0].tolist() == [tokenizer.unk_token_id]
