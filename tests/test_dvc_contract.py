"""dvc.yaml says what the code does: its files, its imports, its params, its outputs."""

import ast
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import stages
from stages.__main__ import STAGES as NAMED
from stages.core import paths
from stages.core.artefacts import maker_of, read_json
from stages.core.params import Params
from tests.support.recorder import Recorder, leaves
from tests.support.tiny import NAMES, ROOT, changed, save_table, table

CONTENT = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")
STAGES: dict[str, dict[str, Any]] = CONTENT["stages"]
PATHS = {value.as_posix() for value in vars(paths).values() if isinstance(value, Path)}


def names(entries: list[Any]) -> list[str]:
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def outputs(stage: dict[str, Any]) -> list[str]:
    return names(stage.get("outs", []) + stage.get("metrics", []) + stage.get("plots", []))


def documented() -> list[str]:
    return re.findall(r"(?m)^ {2,4}(\w+)  ", stages.__doc__ or "")


def test_the_stages_are_the_files_in_the_documented_order() -> None:
    files = {file.stem for file in (ROOT / "stages").glob("*.py")} - {"__init__", "__main__"}
    assert set(STAGES) == files
    rooms = {file.parent.name for file in (ROOT / "stages").glob("*/__init__.py")}
    assert list(STAGES) == list(NAMED) == documented()[: len(STAGES)]
    assert set(documented()[len(STAGES) :]) == rooms


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_runs_its_module_and_no_value_of_a_user(name: str) -> None:
    assert shlex.split(STAGES[name]["cmd"]) == ["exec", "python", "-m", "stages", name]
    description = STAGES[name]["desc"]
    assert len(description) > 20
    assert description[0].isupper()


def file_of(module: str) -> Path:
    """Return where a module such as `stages.core.params` would be."""
    return ROOT / f"{module.replace('.', '/')}.py"


def imported(file: Path) -> set[str]:
    """Return our modules that a file imports anywhere but for type checking, by dotted name."""
    modules = set()
    todo: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            modules |= {str(node.module), *(f"{node.module}.{each.name}" for each in node.names)}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        todo += ast.iter_child_nodes(node)
    return {name for name in modules if name.startswith("stages.") and file_of(name).is_file()}


def reached(file: Path) -> set[str]:
    """Return the modules that a file imports, directly or through others."""
    modules: set[str] = set()
    todo = imported(file)
    while todo:
        module = todo.pop()
        modules.add(module)
        todo |= imported(file_of(module)) - modules
    return modules


def test_a_package_holds_no_code_of_its_own_but_constants() -> None:
    for file in (ROOT / "stages").rglob("__init__.py"):
        docstring, *constants = ast.parse(file.read_text(encoding="utf-8")).body
        assert isinstance(docstring, ast.Expr), file
        for node in constants:
            assert isinstance(node, ast.Assign), file
            assert isinstance(node.value, ast.Constant), file


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_code_it_reaches(name: str) -> None:
    code = {dep for dep in STAGES[name]["deps"] if dep.startswith("stages/")}
    modules = reached(ROOT / "stages" / f"{name}.py")
    rooms = {f"stages/{module.split('.')[1]}" for module in modules}
    assert code == {f"stages/{name}.py", "stages/running", *rooms}  # `running` starts them all
    assert all((ROOT / dep).exists() for dep in code)


def test_no_room_of_a_stage_has_code_of_the_command_line() -> None:
    rooms = {dep for stage in STAGES.values() for dep in stage["deps"]}
    assert not {"stages", "stages/tools"} & rooms


@pytest.mark.parametrize("name", STAGES)
def test_every_path_is_named_in_the_module_of_paths(name: str) -> None:
    stage = STAGES[name]
    data = {dep for dep in stage["deps"] if not dep.startswith("stages/")}
    assert data | set(outputs(stage)) <= PATHS
    for path in outputs(stage):
        assert maker_of(Path(path)) == name


def test_every_input_is_made_by_an_earlier_stage_or_is_the_users() -> None:
    written = (paths.SEEDS, paths.SEARCH, paths.SEARCH_TABLE, paths.CURVE, paths.METHODS)
    of_commands = {path.as_posix() for path in written}
    made = {paths.RAW.as_posix(), *of_commands}
    for stage in STAGES.values():
        assert {dep for dep in stage["deps"] if not dep.startswith("stages/")} <= made
        assert not made & set(outputs(stage))
        made |= set(outputs(stage))
    unmade = {
        path.as_posix()
        for path in (
            *(paths.PARAMS, paths.PIPELINE, paths.LOCK, paths.RWLOCK, paths.CONSTRAINTS),
            *(paths.CHECKPOINTS, paths.PROVENANCE, paths.STUDIES),
            *(paths.BENCHMARK, paths.SERVING, paths.EXPORTS),
        )
    }
    named = {path for path in PATHS - unmade if maker_of(Path(path)) is None}
    assert named == {paths.RAW.as_posix(), *of_commands}
    assert made <= PATHS


def test_the_artifact_of_the_registry_is_the_adapters_folder() -> None:
    artifact = CONTENT["artifacts"]["adapter"]
    assert (artifact["path"], artifact["type"]) == (paths.ADAPTER.as_posix(), "model")
    assert artifact["desc"]
    assert "lora" in artifact["labels"]
    written = {Path(out) for stage in STAGES.values() for out in outputs(stage)}
    assert {path.name for path in written if path.parent == paths.ADAPTER} == {
        *("adapter_config.json", "adapter_model.safetensors", "manifest.json"),
        *("model_config.json", "README.md"),
    }


def test_what_git_keeps_is_not_cached() -> None:
    kept = {
        path: fields.get("cache", True)
        for stage in STAGES.values()
        for entry in stage.get("outs", []) + stage.get("metrics", [])
        for path, fields in (entry if isinstance(entry, dict) else {entry: {}}).items()
    }
    # Small, and without a word of the texts, which are not ours to publish.
    small = {path for path in kept if path.startswith("metrics/") and path.endswith(".json")}
    assert len(small) == 8
    small |= {paths.LADDER.as_posix(), paths.REPORT_MD.as_posix()}
    assert {path for path, cached in kept.items() if not cached} == small


def test_the_table_of_metrics_has_each_key_once(finished_run: Path) -> None:
    metrics = [path for stage in STAGES.values() for path in names(stage.get("metrics", []))]
    assert metrics == [paths.ADAPTER_METRICS.as_posix(), paths.GAIN.as_posix()]
    keys = [key for path in metrics for key in read_json(finished_run / path)]
    assert len(keys) == len(set(keys)) <= 6  # of two files with one key, each has the file's name


def test_the_plots_are_drawn_from_columns_that_are_written(finished_run: Path) -> None:
    for entry in CONTENT["plots"]:
        (plot,) = entry.values()
        for path, columns in plot["y"].items():
            header = (finished_run / path).read_text(encoding="utf-8").splitlines()[0].split(",")
            wanted = columns if isinstance(columns, list) else [columns]
            assert {plot["x"], *wanted} <= set(header)


def params_of_faulty_files(params: Params) -> Params:
    """Write a leak, a conflict, an empty text and a rare class; return params that settle them."""
    rows = table(classes=2)
    faulty = [(rows[0][0], "other"), ("", NAMES[0]), ("a rare text", "rare")]
    save_table([*rows[:80], *faulty], "ours/train.csv")
    save_table([*rows[80:], rows[1]], "ours/test.csv")
    settle = {f"data__on_{fault}": "drop" for fault in ("leak", "conflict", "incomplete")}
    settle |= {"data__on_rare": "merge", "data__rare_class": NAMES[0]}
    return changed(params, data__source="data/raw/ours", **settle)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("name", STAGES)
def test_a_stage_lists_exactly_the_params_that_it_reads(name: str, params: Params) -> None:
    reads: set[str] = set()
    stage = getattr(importlib.import_module(f"stages.{name}"), name)
    stage(Recorder(params, reads))
    if name == "prepare":
        stage(Recorder(params_of_faulty_files(params), reads))
    if name == "train_lora":
        for method in ("full", "peft"):
            stage(Recorder(changed(params, train__method=method, train__epochs=1), reads))
    if "compute.device" in reads:
        # Read before the stage: through the environment, and to start the processes.
        reads |= {"compute.threads", "compute.processes"}
    listed = STAGES[name].get("params", [])
    all_keys = leaves(params)
    covered = {key: {k for k in all_keys if k == key or k.startswith(f"{key}.")} for key in listed}
    assert all(covered.values()), "a key that is not in params.yaml"
    assert set().union(*covered.values()) == reads


def test_every_param_is_read_by_a_stage(params: Params) -> None:
    listed = {key for stage in STAGES.values() for key in stage.get("params", [])}
    unread = {key for key in leaves(params) if not {key, key.split(".")[0]} & listed}
    assert unread == {"search"}  # of `bert-lora search` alone


@pytest.mark.skipif(not (ROOT / "dvc.lock").exists(), reason="the pipeline has not run here yet")
def test_the_lock_belongs_to_these_params_and_stages() -> None:
    yaml = YAML(typ="safe", pure=True)
    params, lock = yaml.load(ROOT / "params.yaml"), yaml.load(ROOT / "dvc.lock")["stages"]
    assert set(lock) == set(STAGES)
    for name, stage in lock.items():
        assert stage["cmd"] == STAGES[name]["cmd"]
        assert {dep["path"] for dep in stage["deps"]} == set(STAGES[name]["deps"])
        locked = stage.get("params", {}).get("params.yaml", {})
        assert set(locked) == set(STAGES[name].get("params", []))
        for key, value in locked.items():
            present = params
            for part in key.split("."):
                present = present[part]
            assert present == value, f"{name}: {key}"
