"""What a run recorded: the precision is read from the run, not from the machine at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.core import paths
from stages.core.errors import HostError, ParamsError
from stages.tools import revisions
from stages.tools.revisions import WORKSPACE, content_of, precision_of, predictions_of


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_precision_is_that_of_the_manifest(
    monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    read: list[tuple[str, Path]] = []

    def recorded(revision: str, path: Path) -> bytes:
        read.append((revision, path))
        return f'{{"precision": "{precision}"}}'.encode()

    monkeypatch.setattr(revisions, "content_of", recorded)
    assert precision_of("seeds-1") == precision
    assert read == [("seeds-1", paths.ADAPTER_MANIFEST)]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_manifest_without_a_precision_is_one_line(
    monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(revisions, "content_of", lambda *_: content)
    with pytest.raises(HostError, match=r"seeds-1: models/adapter/manifest\.json: records no prec"):
        precision_of("seeds-1")


def test_an_empty_revision_is_not_the_workspace() -> None:
    with pytest.raises(ParamsError, match="a revision is empty"):
        content_of(" ", paths.ADAPTER_MANIFEST)


@pytest.mark.usefixtures("project")
def test_predictions_of_the_workspace_are_its_files() -> None:
    frame = predictions_of(WORKSPACE, paths.BASE_PREDICTIONS)
    assert list(frame.columns[:3]) == ["id", "label", "predicted"]
    paths.BASE_PREDICTIONS.unlink()
    with pytest.raises(HostError, match="dvc repro evaluate_base"):
        predictions_of(WORKSPACE, paths.BASE_PREDICTIONS)
