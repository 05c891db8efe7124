"""Faults of params.yaml: unknown keys, bad values, broken or hostile YAML."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.core import paths
from stages.core.errors import exit_code_of
from stages.core.params import Params, load_params
from stages.fetch_base import fetch_base
from stages.prepare import prepare
from stages.train_lora import train_lora
from tests.support.bad_params import SHIPPED
from tests.support.faults import LAST_LINE, assert_ends, assert_refused, dvc, stage
from tests.support.tiny import changed

CANARY = Path("CANARY")
Capture = pytest.CaptureFixture[str]


@pytest.mark.guard("unknown key")
@pytest.mark.usefixtures("tmp_cwd")
def test_an_unknown_key_is_named_with_a_suggestion() -> None:
    paths.PARAMS.write_text(SHIPPED.replace("  learning_rate:", "  learning_rat:"))
    errors = assert_refused(stage("prepare"), 2, "train.learning_rat: unknown key, did you mean")
    assert "learning_rate" in errors


@pytest.mark.slow
@pytest.mark.usefixtures("dvc_project")
@pytest.mark.parametrize(("typed", "value"), [("2e-5", 2e-05), ("1e-3", 0.001), ("5E-4", 0.0005)])
def test_dvc_and_the_stage_read_the_same_number(typed: str, value: float) -> None:
    settings = ["-S", f"train.learning_rate={typed}", "-S", "train.epochs=0"]
    dvc("exp", "run", "--single-item", "train_lora", *settings)
    assert load_params().train.learning_rate == value
    lock = YAML(typ="safe", pure=True).load(paths.LOCK)
    assert lock["stages"]["train_lora"]["params"]["params.yaml"]["train"]["learning_rate"] == value


HOSTILE = [
    "; touch CANARY",
    "$(touch CANARY)",
    "`touch CANARY`",
    "| touch CANARY",
    "&& touch CANARY",
    "--output=CANARY",
    "x' ; touch CANARY ; '",
    '" ; touch CANARY ; "',
    "${touch CANARY}",
    "%(touch CANARY)s",
]
STRING_PARAMS: dict[str, Callable[[Params], Any]] = {
    "data__source": prepare,
    "data__text_column": prepare,
    "data__label_column": prepare,
    "model__source": fetch_base,
    "lora__target_modules": train_lora,
    "lora__modules_to_save": train_lora,
}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("key", STRING_PARAMS)
def test_shell_code_in_a_param_is_not_run(key: str, params: Params, capsys: Capture) -> None:
    stage = STRING_PARAMS[key]
    for text in HOSTILE:
        value: Any = [text] if key.startswith("lora") else text
        assert exit_code_of(partial(stage, changed(params, **{key: value}))) in (2, 3, 4), text
        assert LAST_LINE.fullmatch(capsys.readouterr().err.splitlines()[-1])
        assert not CANARY.exists()


@pytest.mark.usefixtures("tmp_cwd")
@pytest.mark.parametrize("kind", ["data", "model"])
@pytest.mark.parametrize(
    "source",
    ["../../no-such", "owner/name@main", "owner/name", "owner/../name@" + "0" * 40, "/no/x"],
)
def test_an_id_that_is_a_path_or_not_pinned_is_refused(
    kind: str, source: str, params: Params, capsys: Capture
) -> None:
    stage = {"data": prepare, "model": fetch_base}[kind]
    asked = changed(params, **{f"{kind}__source": source})
    assert_ends(partial(stage, asked), capsys, 2, f"{kind}.source")
    assert not list(Path().glob("data/*")) + list(Path().glob("models/base"))
