"""Faults of params.yaml: unknown keys, bad values, broken or hostile YAML."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.core import paths
from stages.core.params import Params, load_params
from stages.fetch_base import fetch_base
from stages.prepare import prepare
from stages.running.ends import exit_code_of
from stages.train_lora import train_lora
from tests.support.bad_params import BAD, SHIPPED, with_value
from tests.support.faults import LAST_LINE, assert_refused, dvc, stage
from tests.support.recorder import Recorder
from tests.support.tiny import ROOT, changed, save_params

RANK = f"  r: {load_params(ROOT / paths.PARAMS).lora.r}"
CANARY = Path("CANARY")


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)


def assert_params_refused(text: str | bytes, capfd: pytest.CaptureFixture[str]) -> str:
    """Check that a params.yaml is refused as every stage does it; return the error lines."""
    paths.PARAMS.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert exit_code_of(read_params) == 2
    errors = capfd.readouterr().err
    assert all(LAST_LINE.fullmatch(line) for line in errors.splitlines()), errors
    assert errors.startswith("error: params.yaml:")
    return errors


def read_params() -> None:
    load_params()


@pytest.mark.guard("unknown key")
@pytest.mark.usefixtures("empty_folder")
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


@pytest.mark.usefixtures("empty_folder")
def test_more_than_a_hundred_bad_values_are_each_named(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert len(BAD) > 100
    for key, typed in BAD:
        assert key in assert_params_refused(with_value(key, typed), capfd), f"{key}: {typed}"


@pytest.mark.usefixtures("empty_folder")
def test_all_faults_are_reported_together(capfd: pytest.CaptureFixture[str]) -> None:
    text = SHIPPED.replace("epochs: auto", "epochs: fast").replace(RANK, "  r: -1")
    errors = assert_params_refused(text.replace("batch_size: 32", "batch_size: yes"), capfd)
    assert len(errors.splitlines()) == 3


BROKEN: dict[str, str | bytes] = {
    "duplicate": SHIPPED.replace(RANK, f"{RANK}\n  r: 8"),
    "tab": SHIPPED.replace(RANK, f"\t{RANK.strip()}"),
    "quote": SHIPPED.replace("source: movie-reviews", 'source: "movie-reviews'),
    "utf-16": SHIPPED.encode("utf-16"),
    "empty": "",
    "list": "- a\n- b\n",
    "scalar": "42",
    "nul": SHIPPED + "\0",
    "two documents": f"{SHIPPED}---\n{SHIPPED}",
    "unclosed": SHIPPED + "a: [1, 2",
}


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_not_yaml_of_params_is_named_by_line(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert_params_refused(BROKEN[name], capfd)


@pytest.mark.usefixtures("project")
def test_a_param_that_is_read_but_not_listed_in_dvc_yaml_is_found(params: Params) -> None:
    reads: set[str] = set()
    train_lora(Recorder(params, reads))  # type: ignore[arg-type]  # in place of the params
    listed = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]["train_lora"]["params"]

    def unlisted(names: list[str]) -> set[str]:
        return {key for key in reads if not {key, key.split(".")[0]} & set(names)}

    assert unlisted(listed) == set()
    for name in set(listed) - {"compute"}:
        assert unlisted([key for key in listed if key != name]), name


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system [touch CANARY]",
        "!!python/object/new:os.system [touch CANARY]",
        "!!python/name:os.system",
        "!!python/module:os",
        "!<tag:yaml.org,2002:python/object/apply:os.system> [touch CANARY]",
    ],
)
def test_a_yaml_tag_runs_nothing(tag: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert_params_refused(SHIPPED.replace("seed: 42", f"seed: {tag}"), capfd)
    assert not CANARY.exists()


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
def test_shell_code_in_a_param_is_not_run(
    key: str, params: Params, capfd: pytest.CaptureFixture[str]
) -> None:
    stage = STRING_PARAMS[key]
    for text in HOSTILE:
        value: Any = [text] if key.startswith("lora") else text
        assert exit_code_of(partial(stage, changed(params, **{key: value}))) in (2, 3, 4), text
        assert LAST_LINE.fullmatch(capfd.readouterr().err.splitlines()[-1])
        assert not CANARY.exists()


def test_no_param_is_part_of_a_command() -> None:
    pipeline = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")
    for name, content in pipeline["stages"].items():
        assert "$" not in content["cmd"]
        assert importlib.import_module(f"stages.{name}").__name__ == f"stages.{name}"


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize("kind", ["data", "model"])
@pytest.mark.parametrize(
    "source", ["../../etc", "owner/name@main", "owner/name", "owner/../name@" + "0" * 40, "/no/x"]
)
def test_an_id_that_is_a_path_or_not_pinned_is_refused(
    kind: str, source: str, params: Params
) -> None:
    if source == "../../etc":
        source = "../../no-such-place"
    save_params(changed(params, **{f"{kind}__source": source}))
    assert_refused(stage("prepare" if kind == "data" else "fetch_base"), 2, f"{kind}.source")
    assert not list(Path().glob("data/*")) + list(Path().glob("models/base"))
