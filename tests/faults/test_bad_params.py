"""Rows 16 to 20, 48, 49 and 53: a params.yaml that is wrong or hostile."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages import fetch_base, prepare, train_lora
from stages.core import paths
from stages.core.params import Params, load_params
from stages.running.exit_codes import exit_code_of
from tests.support.bad_params import BAD, SHIPPED, with_value
from tests.support.faults import LAST_LINE, dvc, refused, stage
from tests.support.tiny import ROOT, changed, save_params
from tests.test_dvc_contract import Recorder

CANARY = Path("CANARY")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str | bytes, capfd: pytest.CaptureFixture[str]) -> str:
    """Let a params.yaml be read as every stage does it; return the refusal."""
    paths.PARAMS.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert exit_code_of(lambda: load_params() and None) == 2
    said = capfd.readouterr().err
    assert all(LAST_LINE.fullmatch(line) for line in said.splitlines()), said
    assert said.startswith("error: params.yaml:")
    return said


@pytest.mark.usefixtures("elsewhere")
def test_row_16_an_unknown_key_is_named_with_a_guess() -> None:
    paths.PARAMS.write_text(SHIPPED.replace("  learning_rate:", "  learning_rat:"))
    said = refused(stage("prepare"), 2, "train.learning_rat: unknown key, did you mean")
    assert "learning_rate" in said


@pytest.mark.slow
@pytest.mark.usefixtures("dvc_project")
@pytest.mark.parametrize(("typed", "value"), [("2e-5", 2e-05), ("1e-3", 0.001), ("5E-4", 0.0005)])
def test_row_17_a_number_is_the_same_number_to_dvc_and_to_the_stage(
    typed: str, value: float
) -> None:
    dvc("exp", "run", "-S", f"train.learning_rate={typed}", "-S", "train.epochs=0")
    assert load_params().train.learning_rate == value
    lock = YAML(typ="safe", pure=True).load(paths.LOCK)
    assert lock["stages"]["train_lora"]["params"]["params.yaml"]["train"]["learning_rate"] == value


@pytest.mark.usefixtures("elsewhere")
def test_row_18_more_than_a_hundred_bad_values_are_named_each(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert len(BAD) > 100
    for key, typed in BAD:
        assert key in read(with_value(key, typed), capfd), f"{key}: {typed}"


@pytest.mark.usefixtures("elsewhere")
def test_row_18_all_faults_come_together(capfd: pytest.CaptureFixture[str]) -> None:
    text = SHIPPED.replace("epochs: 2", "epochs: fast").replace("  r: 32", "  r: -1")
    said = read(text.replace("batch_size: 32", "batch_size: yes"), capfd)
    assert len(said.splitlines()) == 3


BROKEN = {
    "duplicate": SHIPPED.replace("  r: 32", "  r: 32\n  r: 8"),
    "tab": SHIPPED.replace("  r: 32", "\tr: 32"),
    "quote": SHIPPED.replace("source: movie-reviews", 'source: "movie-reviews'),
    "utf-16": SHIPPED.encode("utf-16"),
    "empty": "",
    "list": "- a\n- b\n",
    "scalar": "42",
    "nul": SHIPPED + "\0",
    "two documents": f"{SHIPPED}---\n{SHIPPED}",
    "unclosed": SHIPPED + "a: [1, 2",
}


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("name", BROKEN)
def test_row_19_what_is_no_yaml_of_params_is_named_by_its_line(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    read(BROKEN[name], capfd)


@pytest.mark.usefixtures("project")
def test_row_20_a_param_read_but_not_listed_in_dvc_yaml_is_found(params: Params) -> None:
    reads: set[str] = set()
    train_lora.train_lora(Recorder(params, reads))  # type: ignore[arg-type]  # stands for params
    listed = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]["train_lora"]["params"]

    def unlisted(names: list[str]) -> set[str]:
        return {key for key in reads if not {key, key.split(".")[0]} & set(names)}

    assert unlisted(listed) == set()
    for name in set(listed) - {"compute"}:
        assert unlisted([one for one in listed if one != name]), name


@pytest.mark.usefixtures("elsewhere")
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
def test_row_48_a_tag_runs_nothing(tag: str, capfd: pytest.CaptureFixture[str]) -> None:
    read(SHIPPED.replace("seed: 42", f"seed: {tag}"), capfd)
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
STRINGS = {
    "data__source": prepare,
    "data__text_column": prepare,
    "data__label_column": prepare,
    "model__source": fetch_base,
    "lora__target_modules": train_lora,
    "lora__modules_to_save": train_lora,
}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("key", STRINGS)
def test_row_49_a_shell_finds_nothing_to_run_in_a_param(
    key: str, params: Params, capfd: pytest.CaptureFixture[str]
) -> None:
    run = getattr(STRINGS[key], STRINGS[key].__name__.rpartition(".")[2])
    for text in HOSTILE:
        value: Any = [text] if key.startswith("lora") else text
        hostile = changed(params, **{key: value})
        assert exit_code_of(lambda chosen=hostile: run(chosen)) in (2, 3, 4), text
        assert LAST_LINE.fullmatch(capfd.readouterr().err.splitlines()[-1])
        assert not CANARY.exists()


def test_row_49_no_value_of_a_user_stands_in_a_command() -> None:
    pipeline = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")
    for name, content in pipeline["stages"].items():
        assert "$" not in content["cmd"]
        assert importlib.import_module(f"stages.{name}").__name__ == f"stages.{name}"


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("kind", ["data", "model"])
@pytest.mark.parametrize(
    "source", ["../../etc", "owner/name@main", "owner/name", "owner/../name@" + "0" * 40, "/no/x"]
)
def test_row_53_an_id_that_is_a_path_or_not_pinned_is_refused(
    kind: str, source: str, params: Params
) -> None:
    if source == "../../etc":
        source = "../../no-such-place"
    save_params(changed(params, **{f"{kind}__source": source}))
    refused(stage("prepare" if kind == "data" else "fetch_base"), 2, f"{kind}.source")
    assert not list(Path().glob("data/*")) + list(Path().glob("models/base"))
