"""What of the trained classifier may leave this machine: known files, and no text of the data."""

from __future__ import annotations

from pathlib import Path

from stages.core import paths
from stages.core.artefacts import require
from stages.core.errors import DataError, printable

OF_ADAPTER = (
    paths.ADAPTER_CONFIG.name,
    paths.ADAPTER_WEIGHTS.name,
    paths.ADAPTER_MANIFEST.name,
    paths.ADAPTER_MODEL_CONFIG.name,
    paths.MODEL_CARD.name,
)
OF_MERGED = (
    *("config.json", "special_tokens_map.json", "tokenizer_config.json", "chat_template.jinja"),
    *(paths.EXPORT_CARD, paths.EXPORT_RECORD, paths.EXPORT_TOKENIZER, paths.EXPORT_WEIGHTS),
)
# Its words and pieces of words are those of the foundation model, and some are whole short texts.
NOT_PROSE = (paths.EXPORT_TOKENIZER,)
SHORTEST = 20  # characters; a shorter text of the data may be in any prose


def files_to_publish(folder: Path, known: tuple[str, ...]) -> dict[str, Path]:
    """Return the folder's files by name.

    Args:
        folder: adapter or merged folder.
        known: the names that such a folder may hold.

    Raises:
        HostError: if there is no such folder.
        DataError: if it holds anything else, or a text of the data.
    """
    files = {path.name: path for path in sorted(require(folder).iterdir())}
    for name, path in files.items():
        if name not in known or not path.is_file():  # guard: unknown file of a push
            raise DataError(
                f"{printable(path)}: is no part of the model, and may hold texts of the data",
                "move it away, and run again",
            )
    for name, path in files.items():
        if path.suffix in (".md", ".json", ".jinja") and name not in NOT_PROSE:
            _refuse_texts(path)
    return files


def _refuse_texts(path: Path) -> None:
    """Raise a DataError if the file holds a text of the prepared rows."""
    import pandas as pd

    content = path.read_text(encoding="utf-8", errors="replace")
    plain = " ".join(content.split())
    for split in (paths.TRAIN, paths.VALIDATION, paths.TEST):
        for text in pd.read_parquet(require(split), columns=["text"])["text"]:
            words = " ".join(text.split())
            if len(words) >= SHORTEST and words in plain:  # guard: texts in a push
                raise DataError(
                    f"{printable(path)}: holds a text of {split}: {printable(words, 40)}",
                    "the data is not published with the model: take the text out of the file",
                )
