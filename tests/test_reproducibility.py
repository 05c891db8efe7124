"""The same inputs give the same bytes; another seed gives others."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from stages.core import paths
from stages.core.params import Params
from stages.model.device import resolve
from stages.model.lora import attach_lora
from stages.model.saved import save_adapter
from tests.support.tiny import (
    COMPUTE,
    changed,
    run_all,
    save_params,
    save_table,
    table,
    use_adapter_in_another_process,
)

if TYPE_CHECKING:
    from stages.model.classifier import Classifier

SPLITS = (paths.TRAIN, paths.VALIDATION, paths.TEST)
PREDICTIONS = (paths.BASE_PREDICTIONS, paths.ADAPTER_PREDICTIONS)


@pytest.fixture
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.usefixtures("_empty_folder")
def test_a_second_run_gives_the_same_bytes(finished_run: Path, params: Params) -> None:
    save_params(params)
    save_table(table(classes=2))
    run_all(params)
    first, second = content(finished_run), content(Path())
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.slow
def test_a_run_over_an_old_one_gives_the_same_bytes(
    finished_run: Path, project: Path, params: Params
) -> None:
    run_all(params)
    assert content(project) == content(finished_run)


def test_another_training_in_the_same_process_gives_the_same_adapter(
    finished_run: Path, trained_adapter: tuple[Path, Classifier]
) -> None:
    card = paths.MODEL_CARD.name  # written by stage compare
    expected = {k: v for k, v in content(finished_run / paths.ADAPTER).items() if k != card}
    assert content(trained_adapter[0] / paths.ADAPTER) == expected


@pytest.mark.usefixtures("project")
def test_another_seed_gives_another_split_and_another_adapter(
    finished_run: Path, params: Params
) -> None:
    run_all(changed(params, seed=7, data__split_seed=7))
    for path in (*SPLITS, *PREDICTIONS, paths.ADAPTER / "adapter_model.safetensors"):
        assert path.read_bytes() != (finished_run / path).read_bytes()
    assert paths.LABELS.read_bytes() == (finished_run / paths.LABELS).read_bytes()


@pytest.mark.usefixtures("project")
def test_another_seed_of_training_is_scored_on_the_same_rows(
    finished_run: Path, params: Params
) -> None:
    run_all(changed(params, seed=7))
    for path in SPLITS:
        assert path.read_bytes() == (finished_run / path).read_bytes()
    assert paths.ADAPTER_WEIGHTS.read_bytes() != (finished_run / paths.ADAPTER_WEIGHTS).read_bytes()


def test_a_fresh_adapter_is_the_same_in_another_process(
    other_process_outputs: Path, params: Params, load_tiny_base: Any
) -> None:
    fresh = attach_lora(load_tiny_base("bert", pooling="mean"), params.lora)
    save_adapter(fresh, "lora", "trained", resolve(COMPUTE), paths.ADAPTER, paths.BASE_MODEL, 32)
    assert content(other_process_outputs / "fresh-0") == content(paths.ADAPTER)


@pytest.mark.slow
def test_the_hash_seed_of_a_process_changes_nothing(other_process_outputs: Path) -> None:
    with chdir(other_process_outputs):
        use_adapter_in_another_process("1")
    first, second = (content(other_process_outputs / f"fresh-{seed}") for seed in "01")
    assert len(first) == 4  # config, weights, manifest, class names
    assert first == second
    assert torch.equal(
        torch.load(other_process_outputs / "0.pt"), torch.load(other_process_outputs / "1.pt")
    )
