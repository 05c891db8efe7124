"""Fixtures: tiny models, and a complete run on them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from stages.core import paths
from stages.core.params import Params
from stages.running.run import set_environment
from tests.support.tiny import (
    COMPUTE,
    NAMES,
    TinyModels,
    changed,
    run_all,
    save_params,
    save_table,
    shipped,
    table,
)

if TYPE_CHECKING:
    from stages.model.classifier import Classifier

pytest_plugins = ["tests.support.package_index"]


def pytest_configure() -> None:
    """Set the number of threads before a test module imports torch, which reads it on import."""
    set_environment(COMPUTE)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of each architecture's tiny model, by name."""
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def params(models: dict[str, Path]) -> Params:
    """Return the project's own params, with a tiny model and a hundred rows."""
    return changed(
        shipped(),
        data__source="data/raw/mine.csv",
        data__validation_fraction=0.2,
        data__test_fraction=0.2,
        data__max_length=32,
        model__source=str(models["bert"]),
        lora__r=4,
        lora__target_modules="attention",
        lora__lora_alpha=8,
        train__start="base",  # from zero the tiny encoder would need more steps
        train__epochs=2,
        train__label_smoothing=0.0,
        train__contrastive=0.0,
        train__evaluations=4,
        train__learning_rate=0.01,
        train__batch_size=8,
        compute=COMPUTE.model_dump(),
    )


@pytest.fixture(scope="session")
def finished_run(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which all stages ran. Only read it: see `project`."""
    folder = tmp_path_factory.mktemp("finished_run")
    with chdir(folder):
        save_params(params)
        save_table(table(classes=2))
        run_all(params)
    return folder


@pytest.fixture
def project(finished_run: Path, tmp_path: Path) -> Iterator[Path]:
    """Work in a copy of the finished run, to change it and to run stages in it."""
    folder = tmp_path / "project"
    shutil.copytree(finished_run, folder)
    with chdir(folder):
        yield folder


@pytest.fixture
def tmp_cwd(tmp_path: Path) -> Iterator[Path]:
    """Work in an empty folder."""
    with chdir(tmp_path):
        yield tmp_path


@pytest.fixture
def load_tiny_base(models: dict[str, Path], tmp_path: Path) -> Iterator[Any]:
    """Return a function that loads an architecture's tiny model as models/base."""
    from stages.model.device import resolve
    from stages.model.load import load_base

    def load(
        name: str,
        labels: tuple[str, ...] = NAMES[:2],
        seed: int = 42,
        pooling: Literal["auto", "first", "mean"] = "auto",
    ) -> Classifier:
        # New files, since a model in memory may still map the old ones.
        shutil.rmtree(paths.BASE_MODEL, ignore_errors=True)
        shutil.copytree(models[name], paths.BASE_MODEL)
        return load_base(paths.BASE_MODEL, list(labels), seed, resolve(COMPUTE), pooling)

    with chdir(tmp_path):
        yield load


@pytest.fixture(scope="session")
def trained_adapter(
    finished_run: Path, params: Params, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Classifier]:
    """Return a copy of the finished run with its adapter trained again, and that adapter."""
    from stages.train_lora import train_lora
    from stages.training.trainer import train

    folder = tmp_path_factory.mktemp("trained") / "project"
    shutil.copytree(finished_run, folder)
    trained: list[Classifier] = []

    def watched(classifier: Classifier, *given: Any) -> Any:
        trained.append(classifier)
        return train(classifier, *given)

    with chdir(folder), pytest.MonkeyPatch.context() as patched:
        patched.setattr("stages.train_lora.train", watched)
        train_lora(params)
    return folder, trained[0]
