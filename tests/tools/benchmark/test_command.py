"""`bert-lora benchmark` on a tiny model: every contender runs, results are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.core import paths
from stages.core.errors import HostError
from stages.tools.benchmark import measure
from stages.tools.benchmark.command import BenchmarkOptions, benchmark
from stages.tools.benchmark.setting import Setting
from stages.tools.benchmark.table import NAMES
from stages.tools.cli import main


@pytest.mark.slow
@pytest.mark.usefixtures("setting")
def test_every_contender_trains_and_scores(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark(BenchmarkOptions(steps=2, repeats=2))
    results = json.loads(paths.BENCHMARK.read_text(encoding="utf-8"))
    assert set(results["training"]) == set(NAMES) - {"adapters"}
    assert set(results["scoring"]) == set(NAMES) - {"adapters", "full"}
    for part in ("training", "scoring"):
        for speeds in results[part].values():
            assert len(speeds["rows_per_second"]) == 2
            assert min(speeds["rows_per_second"]) > 0
            assert 0 < speeds["share_of_limit"] < 1
    assert results["training"]["tuned"]["to_tuned"]["median"] == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| training: ") for line in lines) == 4
    assert sum(line.startswith("| scoring: ") for line in lines) == 3
    assert not paths.CHECKPOINTS.exists() or not list(paths.CHECKPOINTS.iterdir())
    assert paths.ADAPTER_WEIGHTS.exists()  # the project's own adapter is left alone


@pytest.mark.usefixtures("setting")
def test_measuring_accuracy_alone_keeps_the_speeds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accuracy = {"tuned": 0.5, "full": 0.6, "ours": 0.7}

    def measured(name: str, steps: int, seed: int, *_: object) -> dict[str, float | None]:
        through = accuracy[name] + seed / 100 if steps == 0 else 0.0
        target = 60.0 + seed if name == "ours" else None
        return {
            "training": 2.0,
            "scoring": 4.0,
            "accuracy": through,
            "seconds_to_target": target,
        }

    monkeypatch.setattr(measure, "run_contender", measured)
    with pytest.raises(HostError, match="no speeds are measured yet"):
        benchmark(BenchmarkOptions(repeats=0, accuracy=True))
    benchmark(BenchmarkOptions(steps=2, repeats=1))
    before = json.loads(paths.BENCHMARK.read_text(encoding="utf-8"))
    assert "accuracy" not in before
    benchmark(BenchmarkOptions(repeats=0, accuracy=True, seeds=3))
    after = json.loads(paths.BENCHMARK.read_text(encoding="utf-8"))
    accuracies = after.pop("accuracy")
    assert after == before
    assert accuracies["precision"] == "fp32"
    assert accuracies["validation"]["ours"] == pytest.approx([0.71, 0.72, 0.73])
    *_, accuracy_line, _, last = capsys.readouterr().out.splitlines()
    assert last == (
        "Seconds of training until it is 85 %, by seed: *full* never / never / never, "
        "*ours* 61 / 62 / 63, *tuned* never / never / never."
    )
    assert accuracy_line == (
        "Validation accuracy after all epochs in fp32, the mean of 3 seeds: "
        "*full* 62.0 % (61.0 to 63.0), *ours* 72.0 % (71.0 to 73.0), *tuned* 52.0 % (51.0 to 53.0)."
    )
    benchmark(BenchmarkOptions(steps=2, repeats=1))
    assert json.loads(paths.BENCHMARK.read_text(encoding="utf-8"))["accuracy"] == accuracies
    benchmark(BenchmarkOptions(repeats=0, accuracy=True, seeds=1))
    assert (
        "Validation accuracy after all epochs in fp32, one seed: "
        "*full* 61.0 %, *ours* 71.0 %, *tuned* 51.0 %.\n"
    ) in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"training": 3}'])
@pytest.mark.usefixtures("setting")
def test_a_damaged_file_of_results_is_one_line(content: str) -> None:
    paths.BENCHMARK.write_text(content, encoding="utf-8")
    with pytest.raises(HostError, match=r"git checkout metrics/benchmark\.json"):
        benchmark(BenchmarkOptions(repeats=1))


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
