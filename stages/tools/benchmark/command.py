"""`bert-lora benchmark`: time training and scoring next to what people use, in one run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.core import paths
from stages.core.artefacts import write_json
from stages.core.errors import HostError, ParamsError
from stages.core.params import load_params
from stages.running.environment import set_environment
from stages.tools.benchmark.table import NAMES, table_of
from stages.tools.project import enter_project

EXAMPLE = "Example: bert-lora benchmark --steps 20 --repeats 1"


@dataclass(frozen=True)
class BenchmarkOptions:
    """What the user wants; see `bert-lora benchmark --help`."""

    steps: int = 50  # one round of batches of similar length, from long to short
    repeats: int = 3
    accuracy: bool = False
    adapters: Path | None = None
    seeds: int = 3

    def contenders(self) -> list[str]:
        """Return who takes part."""
        return [name for name in NAMES if name != "adapters" or self.adapters]


def command(
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Steps that are timed.")] = 50,
    repeats: Annotated[
        int, typer.Option(min=0, max=100, help="Turns of each contender; 0 keeps the speeds.")
    ] = 3,
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="Train for all epochs too, once a seed: takes long.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Seeds of --accuracy.")] = 3,
    adapters: Annotated[
        Path | None,
        typer.Option(
            help="Python of an environment with the AdapterHub library (adapters).",
            metavar="PYTHON",
        ),
    ] = None,
    serving: Annotated[
        bool,
        typer.Option("--serving", help="Time ways to answer texts instead, the server among them."),
    ] = False,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Of each load on a server, with --serving.")
    ] = 20,
) -> None:
    """Time training and scoring next to a tutorial's loop, a tuned one, and full fine-tuning.

    All on the prepared rows and the same base model; takes a few minutes.
    """
    here = Path.cwd()
    enter_project()
    if serving:
        check_serving(steps, accuracy, adapters)
        from stages.tools.benchmark.serving import benchmark_serving

        benchmark_serving(max(1, repeats), seconds)
        return
    # Made absolute, but not resolved: the link is what tells Python its environment.
    python = here / adapters if adapters and adapters.name != str(adapters) else adapters
    benchmark(BenchmarkOptions(steps, repeats, accuracy, python, seeds))


def check_serving(steps: int, accuracy: bool, adapters: Path | None) -> None:
    """Check that no option of training stands beside --serving.

    Raises:
        ParamsError: if one does.
    """
    if accuracy or adapters or steps != BenchmarkOptions.steps:
        what = "bert-lora benchmark: --serving together with an option of training"
        raise ParamsError(what, "leave out --steps, --accuracy and --adapters")


def benchmark(options: BenchmarkOptions) -> None:
    """Print the contenders' speed and write it to metrics/benchmark.json.

    Raises:
        ParamsError: if params.yaml is wrong.
        HostError: if the data or the base model are missing, a contender fails, there is no
            repeat and nothing measured before, or what was measured before is damaged.
    """
    results = read_results()
    if not results and not options.repeats:
        raise HostError("benchmark: no speeds are measured yet", "give --repeats 1 or more")
    set_environment(load_params().compute)
    # Heavy libraries are imported once the options have been checked.
    from stages.tools.benchmark.measure import measure, trained_through
    from stages.tools.benchmark.setting import read_setting

    setting, names = read_setting(tuned_process=True), options.contenders()
    if options.repeats:
        results |= measure(setting, names, options.steps, options.repeats, options.adapters)
    if options.accuracy:
        results["accuracy"] = {
            "precision": setting.device.precision,
            **trained_through(setting, names, options.seeds, options.adapters),
        }
    write_json(paths.BENCHMARK, results)
    print(table_of(results))


def read_results() -> dict[str, Any]:
    """Return what was measured before, which stays where it is not measured again.

    Raises:
        HostError: if the file is damaged.
    """
    if not paths.BENCHMARK.exists():
        return {}
    try:
        results = json.loads(paths.BENCHMARK.read_text(encoding="utf-8"))
        table_of(results)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise HostError(
            f"{paths.BENCHMARK}: damaged", f"restore it with: git checkout {paths.BENCHMARK}"
        ) from None
    return dict(results)
