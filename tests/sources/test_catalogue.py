"""The catalogue: its entries are complete, and a faulty entry is named."""

from fnmatch import fnmatch
from pathlib import Path

import pytest

from stages.core.errors import ParamsError
from stages.sources.catalogue import CATALOGUE, MODEL_FILES, WEIGHTS, entries


def test_every_known_model_is_complete_and_holds_nothing_else() -> None:
    for name, entry in entries("models").items():
        assert entry.hub or {"config.json", "model.safetensors", "tokenizer.json"} <= set(
            entry.files
        ), name
        read = (WEIGHTS, *MODEL_FILES)
        assert all(any(fnmatch(file, kind) for kind in read) for file in entry.files), name


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("sha256: 11a9", "sha256: zza9", "product-reviews.files"),
        ("licence: MIT", "licence: [", "cannot be read"),
    ],
)
def test_a_faulty_catalogue_is_named(old: str, new: str, named: str, tmp_path: Path) -> None:
    text = CATALOGUE.read_text(encoding="utf-8")
    assert old in text
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ParamsError, match=named):
        entries("data", catalogue)
