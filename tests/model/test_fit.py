"""The user is warned of a tokenizer that does not fit vocabulary, model or texts."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import transformers

from stages.model.fit import fit_notes, fit_warnings, token_figures

WORDS = ["film", "book", "lovely", "cold", "was", "and", "the", "here", "of", "rain"]
CASED = [*WORDS, *(word.title() for word in WORDS)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = ["The lovely film was cold", "the Book of Rain"]


def warnings(
    words: list[str],
    folder: Path,
    texts: list[str] = TEXTS,
    max_length: int = 32,
    padding_of_model: int | None = None,
    **settings: Any,
) -> list[str]:
    """Return the warnings for a BERT tokenizer with this vocabulary."""
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *words]) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizer.from_pretrained(folder, model_max_length=64, **settings)
    positions = SimpleNamespace(padding_idx=padding_of_model)
    encoder = SimpleNamespace(embeddings=SimpleNamespace(position_embeddings=positions))
    model = SimpleNamespace(base_model_prefix="encoder", encoder=encoder)
    classifier: Any = SimpleNamespace(tokenizer=tokenizer, model=model)
    return fit_warnings(classifier, texts, max_length, token_figures(tokenizer, texts, max_length))


@pytest.mark.parametrize(("words", "lower"), [(WORDS, True), (CASED, False)])
def test_a_tokenizer_that_fits_is_no_warning(words: list[str], lower: bool, tmp_path: Path) -> None:
    assert warnings(words, tmp_path, do_lower_case=lower) == []


def test_a_cased_vocabulary_that_is_lower_cased_is_named(tmp_path: Path) -> None:
    (warning,) = warnings(CASED, tmp_path)  # do_lower_case is true by default
    assert warning.startswith("the tokenizer lower-cases the texts, though the vocabulary has")
    assert "such as The: 33% of the words of the training texts are read as others" in warning
    assert '"do_lower_case": false' in warning


def test_texts_without_capitals_lose_none(tmp_path: Path) -> None:
    assert warnings(CASED, tmp_path, texts=["the lovely film"]) == []


@pytest.mark.parametrize(("words", "right"), [(CASED, False), (WORDS, True)])
@pytest.mark.parametrize("as_json", [False, True])
def test_the_remedy_for_capitals_works(
    words: list[str], right: bool, as_json: bool, tmp_path: Path
) -> None:
    assert warnings(words, tmp_path, do_lower_case=not right) != []
    if as_json:
        transformers.BertTokenizer.from_pretrained(
            tmp_path, do_lower_case=not right
        ).save_pretrained(tmp_path)
    settings = tmp_path / "tokenizer_config.json"
    content = json.loads(settings.read_text()) if as_json else {}
    settings.write_text(json.dumps({**content, "do_lower_case": right}))
    assert warnings(words, tmp_path) == []


@pytest.mark.parametrize("texts", [[], [""]])
def test_texts_without_words_are_no_warning(texts: list[str], tmp_path: Path) -> None:
    assert warnings(WORDS, tmp_path, texts=texts) == []


def test_a_length_that_the_model_does_not_reach_is_named(tmp_path: Path) -> None:
    (warning,) = warnings(WORDS, tmp_path, max_length=128)
    assert warning.startswith("data.max_length is 128, the model reads 64 tokens at most")


def test_another_padding_token_is_named(tmp_path: Path) -> None:
    assert warnings(WORDS, tmp_path, padding_of_model=0) == []
    (warning,) = warnings(WORDS, tmp_path, padding_of_model=1)
    assert "pads with token 0, the model counts positions without token 1" in warning


GERMAN = "Unsere Bestellung wurde gestern pünktlich und unbeschädigt zugestellt"


def test_texts_that_are_taken_apart_are_named_with_the_figure(tmp_path: Path) -> None:
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")]
    (warning,) = warnings([*letters, *WORDS], tmp_path, texts=[GERMAN])
    assert "pieces of a word" in warning
    assert "is it made for their language? Fix: model.source" in warning
    assert warnings([*letters, *WORDS], tmp_path) == []


def test_signs_that_the_tokenizer_does_not_know_are_named(tmp_path: Path) -> None:
    texts = [*["the film"] * 12, "lovely 😂", "cold ❤️ 😂"]
    (warning,) = warnings(WORDS, tmp_path, texts=texts)
    assert warning.startswith("14% of the training rows hold what the tokenizer reads as [UNK], ")
    assert "most often 😂, ❤: " in warning
    assert "a multilingual one, or one whose tokenizer reads bytes" in warning
    for few in (["the film"] * 40 + ["😂"], ["the film " * 200 + "unheard"]):
        assert warnings(WORDS, tmp_path, texts=few) == []


@pytest.mark.parametrize(
    ("max_length", "kept"),
    [
        (10, [(10, 12 / 21, 1 / 3, 1), (20, 1, 0, 27 / 18)]),  # and 40 is more than there is
        (40, [(40, 1, 0, 1), (64, 1, 0, 1)]),  # the model reads 64
    ],
)
def test_what_is_cut_is_told_with_what_more_would_keep_and_cost(
    tmp_path: Path, max_length: int, kept: list[tuple[int, float, float, float]]
) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizer.from_pretrained(tmp_path, model_max_length=64)
    texts = ["the film", "cold was", "the " * 17]
    found = token_figures(tokenizer, texts, max_length)
    assert (found["rows"], found["pieces_per_word"], found["unknown_rows"]) == (3, 1, 0)
    keys = ("max_length", "kept", "rows_cut", "cost")
    shown = [tuple(length[key] for key in keys) for length in found["lengths"]]
    assert [pytest.approx(values) for values in kept] == shown[: len(kept)]
    notes = fit_notes(found)
    if max_length == 40:
        assert notes == []
    else:
        (note,) = notes
        assert note.startswith("warning: 10 tokens keep 57 % of the text and cut 33.3 % of the ")
        assert "rows; 20 keep 100 % at 1.5 times the tokens" in note
        assert note.endswith("Fix: data.max_length")
