"""`bert-lora benchmark` on a tiny model: every contender runs, and the arithmetic is right."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from stages.core import paths
from stages.core.errors import HostError
from stages.core.params import Params
from stages.model.device import set_up
from stages.rows import prepared
from stages.tools.benchmark import measure
from stages.tools.benchmark.command import BenchmarkOptions, benchmark
from stages.tools.benchmark.limit import least_work
from stages.tools.benchmark.measure import summary
from stages.tools.benchmark.plain_trainer import plain_trainer
from stages.tools.benchmark.processes import run_contender
from stages.tools.benchmark.setting import Setting
from stages.tools.benchmark.table import NAMES
from stages.tools.cli import main
from tests.support.tiny import new_process


@pytest.fixture
def setting(project: Path, params: Params) -> Setting:
    assert Path.cwd() == project
    labels = prepared.read_labels()
    train = prepared.read_split(paths.TRAIN, labels)
    held_out = prepared.read_split(paths.VALIDATION, labels)
    return Setting(params, set_up(params.compute), labels, train, held_out)


@pytest.mark.slow
@pytest.mark.usefixtures("setting")
def test_every_contender_trains_and_scores(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark(BenchmarkOptions(steps=2, repeats=2))
    found = json.loads(paths.BENCHMARK.read_text(encoding="utf-8"))
    assert set(found["training"]) == set(NAMES) - {"adapters"}
    assert set(found["scoring"]) == set(NAMES) - {"adapters", "full"}
    for part in ("training", "scoring"):
        for one in found[part].values():
            assert len(one["rows_per_second"]) == 2
            assert min(one["rows_per_second"]) > 0
            assert 0 < one["share_of_limit"] < 1
    assert found["training"]["tuned"]["to_tuned"]["median"] == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| training: ") for line in lines) == 4
    assert sum(line.startswith("| scoring: ") for line in lines) == 3
    assert not paths.CHECKPOINTS.exists() or not list(paths.CHECKPOINTS.iterdir())
    assert paths.ADAPTER_WEIGHTS.exists()  # the project's own adapter is left alone


STAND_IN = """#!{python}
import json, sys
job = json.load(open(sys.argv[2]))
assert sys.argv[1].endswith("adapterhub.py")
assert len(job["train"]["texts"]) == len(job["train"]["targets"]) == 60
assert (job["r"], job["alpha"], job["classes"], job["seed"]) == (4, 8, 2, 7)
assert (job["max_steps"], job["batch_size"], job["bf16"]) == (8, 8, False)
print(json.dumps({{"training": 1.0, "scoring": 2.0, "accuracy": 0.5}}))
"""


def test_adapterhub_is_given_the_same_rows_and_settings(setting: Setting) -> None:
    python = Path("python").absolute()
    python.write_text(STAND_IN.format(python=sys.executable), encoding="utf-8")
    python.chmod(0o755)
    assert BenchmarkOptions(adapters=python).contenders() == list(NAMES)
    found = run_contender("adapters", 5, 7, setting, python)
    assert found == {"training": 1.0, "scoring": 2.0, "accuracy": 0.5}


@pytest.mark.parametrize("content", [None, "#!/bin/sh\necho no such library >&2; exit 1\n"])
def test_a_python_without_adapterhub_is_named(setting: Setting, content: str | None) -> None:
    python = Path("python").absolute()
    if content:
        python.write_text(content, encoding="utf-8")
        python.chmod(0o755)
    with pytest.raises(HostError, match="no such library" if content else "No such file"):
        run_contender("adapters", 5, 7, setting, python)


@pytest.mark.usefixtures("setting")
def test_accuracy_is_measured_beside_speeds_that_are_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accuracy = {"tuned": 0.5, "full": 0.6, "ours": 0.7}

    def measured(name: str, steps: int, seed: int, *_: object) -> dict[str, float]:
        through = accuracy[name] + seed / 100 if steps == 0 else 0.0
        return {"training": 2.0, "scoring": 4.0, "accuracy": through}

    monkeypatch.setattr(measure, "run_contender", measured)
    with pytest.raises(HostError, match="no speeds are measured yet"):
        benchmark(BenchmarkOptions(repeats=0, accuracy=True))
    benchmark(BenchmarkOptions(steps=2, repeats=1))
    before = json.loads(paths.BENCHMARK.read_text(encoding="utf-8"))
    assert "accuracy" not in before
    benchmark(BenchmarkOptions(repeats=0, accuracy=True, seeds=3))
    after = json.loads(paths.BENCHMARK.read_text(encoding="utf-8"))
    found = after.pop("accuracy")
    assert after == before
    assert found["precision"] == "fp32"
    assert found["validation"]["ours"] == pytest.approx([0.71, 0.72, 0.73])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        "Validation accuracy after all epochs in fp32, the mean of 3 seeds: "
        "*full* 62.0 % (61.0 to 63.0), *ours* 72.0 % (71.0 to 73.0), *tuned* 52.0 % (51.0 to 53.0)."
    )
    benchmark(BenchmarkOptions(steps=2, repeats=1))
    assert json.loads(paths.BENCHMARK.read_text(encoding="utf-8"))["accuracy"] == found


def test_ratios_are_taken_turn_by_turn() -> None:
    speeds = {"ours": [10.0, 40.0, 30.0], "tutorial": [1.0, 2.0, 3.0], "tuned": [5.0, 10.0, 30.0]}
    found = summary("ours", speeds, limit=60.0)
    assert found["to_tutorial"] == {"median": 10, "low": 10, "high": 20}
    assert found["to_tuned"] == {"median": 2, "low": 1, "high": 4}
    assert (found["median"], found["share_of_limit"]) == (30, 0.5)


def test_the_least_work_by_hand(setting: Setting) -> None:
    lengths = [len(text.split()) + 2 for text in setting.train.texts]
    tokens = sum(lengths) / len(lengths)
    squares = sum(length**2 for length in lengths) / len(lengths)
    frozen = 2 * tokens * 2 * (4 * 32 * 32 + 2 * 32 * 64)  # two layers of hidden size 32
    trained = 2 * tokens * 2 * 3 * 2 * 4 * 32  # r 4 on query, key and value
    attention = 2 * 4 * squares * 32
    found = least_work(setting)
    assert found["scoring"] == pytest.approx(frozen + attention)
    assert found["training"] == pytest.approx(2 * frozen + 3 * trained + 3 * attention)


def test_the_command_starts_without_torch() -> None:
    code = "import sys, stages.tools.cli; assert not {'torch', 'pandas'} & set(sys.modules)"
    process = new_process(code)
    output, _ = process.communicate()
    assert process.returncode == 0, output


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"training": 3}'])
@pytest.mark.usefixtures("setting")
def test_a_damaged_file_of_results_is_one_line(content: str) -> None:
    paths.BENCHMARK.write_text(content, encoding="utf-8")
    if content == "{}":
        return  # nothing was measured before
    with pytest.raises(HostError, match=r"git checkout metrics/benchmark\.json"):
        benchmark(BenchmarkOptions(repeats=1))


def test_the_tuned_contender_trains_with_the_lora_fields_of_the_params(
    setting: Setting, params: Params
) -> None:
    fields = {
        "use_rslora": True,
        "lora_alpha": 3.5,
        "bias": "lora_only",
        "rank_pattern": {"key": 2},
    }
    lora = params.lora.model_copy(update=fields)
    changed = replace(setting, params=params.model_copy(update={"lora": lora}))
    trainer, _ = plain_trainer(changed, 1, 0, tuned=True, lora=True)
    config = trainer.model.peft_config["default"]
    assert {name: getattr(config, name) for name in fields} == fields


def test_a_relative_python_is_found_from_a_subfolder(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path | None] = []
    monkeypatch.setattr(
        "stages.tools.benchmark.command.benchmark", lambda options: seen.append(options.adapters)
    )
    Path("stages").mkdir()
    Path("dvc.yaml").touch()
    Path("sub").mkdir()
    project = Path.cwd()
    for given, expected in (
        ("env/python", project / "sub/env/python"),
        ("python3", Path("python3")),
    ):
        monkeypatch.chdir(project / "sub")
        with pytest.raises(SystemExit) as ended:
            main(["benchmark", "--adapters", given])
        assert ended.value.code == 0
        assert seen.pop() == expected
    assert setting.params.seed == 42
