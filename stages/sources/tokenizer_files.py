"""Which files a tokenizer is read from: its class in Transformers knows them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.errors import ModelError, printable

TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_JSON = "tokenizer.json"
TIKTOKEN = "tokenizer.model"  # may be of another kind than SentencePiece's
# Read by every tokenizer where they exist; none of them is a vocabulary.
TOKENIZER_EXTRAS = (TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json")
# Transformers also builds a tokenizer from these where its class names none that exists.
VOCABULARIES = (
    TOKENIZER_JSON,
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spm.model",
    "sentencepiece.bpe.model",
    TIKTOKEN,
)
GENERAL_CLASSES = ("TokenizersBackend", "PythonBackend", "PreTrainedTokenizerFast")


@dataclass(frozen=True)
class TokenizerFiles:
    """The files that a tokenizer may be read from.

    Attributes:
        class_name: the class in Transformers, as its configuration declares it.
        class_known: whether Transformers has that class, or one for the architecture.
        own: what that class calls its files: "vocab_file", "merges_file", ... -> name.
        others: the names of all classes that may be meant.
        json_name: the name of the file that holds a complete fast tokenizer.
    """

    class_name: str
    class_known: bool
    own: dict[str, str]
    others: set[str]
    json_name: str

    @property
    def names(self) -> set[str]:
        """Return every name that may be needed."""
        return {*VOCABULARIES, *self.others, self.json_name}

    def check(self, folder: Path, place: str) -> None:
        """Raise a ModelError if the folder lacks a file that the tokenizer cannot do without."""
        if (folder / self.json_name).is_file():
            return
        name = self.own.get("vocab_file", "")
        if name.endswith(".model") and name != TIKTOKEN and (folder / name).is_file():
            _check_sentencepiece(folder / name, place)
        needed = [self.own[key] for key in ("vocab_file", "merges_file") if key in self.own]
        if self.class_name in GENERAL_CLASSES:
            present = any((folder / name).is_file() for name in self.names)
            missing = [] if present else [self.json_name]
        else:
            missing = [name for name in needed if not (folder / name).is_file()]
        if missing:
            reads = f"{self.json_name} or {' and '.join(needed)}"
            raise ModelError(
                f"{place}: holds no tokenizer: {self.class_name} reads {reads}, and there is no "
                f"{' and no '.join(missing)}",
                "save the tokenizer with the model: tokenizer.save_pretrained(folder)",
            )


def _check_sentencepiece(file: Path, place: str) -> None:
    """Raise a ModelError for a damaged file: Transformers would read it as an empty vocabulary."""
    from sentencepiece import SentencePieceProcessor

    try:
        SentencePieceProcessor().Load(str(file))
    except (RuntimeError, OSError) as error:
        raise ModelError(
            f"{place}: {file.name} is not a complete SentencePiece model: {printable(error)}",
            "fetch it again (a Git LFS pointer needs: git lfs pull)",
        ) from None


def tokenizer_of(config: dict[str, Any], tokenizer_config: dict[str, Any]) -> TokenizerFiles:
    """Return the files of the tokenizer that belongs to a model.

    Args:
        config: the content of config.json.
        tokenizer_config: the content of tokenizer_config.json, {} if there is none.
    """
    from transformers.models.auto.tokenization_auto import (
        TOKENIZER_MAPPING_NAMES,
        tokenizer_class_from_name,
    )

    of_type = TOKENIZER_MAPPING_NAMES.get(str(config.get("model_type")))
    declared = tokenizer_config.get("tokenizer_class"), config.get("tokenizer_class"), of_type
    names = [name for name in declared if isinstance(name, str)]
    classes = [kind for name in names if (kind := tokenizer_class_from_name(name)) is not None]
    files = [_files_of(kind) for kind in classes]
    return TokenizerFiles(
        classes[0].__name__ if classes else GENERAL_CLASSES[0],
        bool(classes),
        files[0] if files else {},
        {name for own in files for name in own.values()},
        _json_name(tokenizer_config),
    )


def _files_of(kind: Any) -> dict[str, str]:
    """Return what a tokenizer class calls its files; {} for one whose library is missing."""
    try:
        own: dict[str, str] = kind.vocab_files_names
    except (AttributeError, ImportError):
        return {}
    return {key: name for key, name in own.items() if _is_file_name(name)}


def _json_name(tokenizer_config: dict[str, Any]) -> str:
    """Return the name of the fast tokenizer's file, which may depend on the library's version."""
    from transformers.tokenization_utils_base import get_fast_tokenizer_file

    versions = tokenizer_config.get("fast_tokenizer_files")
    if isinstance(versions, list) and all(_is_file_name(name) for name in versions):
        return str(get_fast_tokenizer_file(versions))
    return TOKENIZER_JSON


def _is_file_name(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name


def check_tokenizer_config(content: dict[str, Any], place: str) -> None:
    """Raise a ModelError if a setting of tokenizer_config.json cannot be understood."""
    place = f"{place}: {TOKENIZER_CONFIG}"
    try:
        max_length_of(content)
    except ValueError as error:
        raise ModelError(
            f"{place}: model_max_length: {error}",
            "write the number of tokens there, for example 512, or remove the line",
        ) from None
    names = content.get("model_input_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(
            f"{place}: model_input_names: expected a list of names, got {printable(repr(names))}",
            'write ["input_ids", "attention_mask"] there, or remove the line',
        )


def max_length_of(tokenizer_config: dict[str, Any]) -> int | None:
    """Return `model_max_length` as a number of tokens, None where it states no limit.

    A number may be written as a text or with a fraction; zero and below state no limit.

    Raises:
        ValueError: if it is no number.
    """
    value = tokenizer_config.get("model_max_length")
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
        if math.isnan(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"expected a number of tokens, got {printable(repr(value))}") from None
    return int(min(number, 1e30)) if number >= 1 else None
