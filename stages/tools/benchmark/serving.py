"""`bert-lora benchmark --serving`: ways to answer texts, in turns on the same rows."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from stages.core import paths
from stages.core.artefacts import write_json
from stages.core.errors import HostError, printable
from stages.core.params import Params, load_params
from stages.running.environment import set_environment, threads_of
from stages.tools.benchmark.load import measure_load

NAMES = {
    "pipeline": "Transformers' pipeline on the merged folder, one text after another",
    "pipeline in batches": "the same, 32 texts in a batch",
    "predict": "what bert-lora predict computes with the adapter",
    "onnx": "ONNX Runtime, fp32",
    "onnx int8": "ONNX Runtime, 8-bit weights",
    "server": "bert-lora serve with the adapter",
    "server onnx int8": "bert-lora serve with the 8-bit ONNX folder",
}
EXPORTS = {"pipeline": "merged", "pipeline in batches": "merged", "onnx": "onnx"}
EXPORTS |= {"onnx int8": "int8", "server onnx int8": "int8"}  # the others take the adapter
CLIENTS = 32
URL = re.compile(r" at (http://\S+) ")


def benchmark_serving(repeats: int, seconds: float) -> None:
    """Time every contender, print a table and write metrics/serving.json.

    Args:
        repeats: turns of each contender.
        seconds: of each load on a server.

    Raises:
        HostError: if data, models or packages are missing, or a contender fails.
    """
    params = load_params()
    set_environment(params.compute)
    from stages.rows import prepared

    texts = prepared.read_split(paths.TEST, prepared.read_labels()).texts
    with tempfile.TemporaryDirectory() as place:
        folders, exports = write_exports(Path(place), params)
        given = Path(place) / "texts.json"
        given.write_text(json.dumps(texts), encoding="utf-8")
        turns: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
        for repeat in range(repeats):
            for name, measured in turns.items():
                print(f"repeat {repeat + 1} of {repeats}: {name}", flush=True)
                folder = folders[EXPORTS[name]] if name in EXPORTS else Path.cwd()
                measured.append(
                    measure_server(folder, texts, seconds)
                    if name.startswith("server")
                    else measure_contender(name, folder, given)
                )
    results = {
        "rows": len(texts),
        "clients": CLIENTS,
        "threads": threads_of(params.compute),
        "contenders": {name: summary(name, turns) for name in NAMES},
        "exports": exports,
    }
    write_json(paths.SERVING, results)
    print(table_of(results))


def write_exports(place: Path, params: Params) -> tuple[dict[str, Path], dict[str, Any]]:
    """Return the folders of merged, onnx and int8 exports, and how each compares with the adapter.

    Raises:
        HostError: if something that an export needs is missing.
    """
    from stages.tools.export import Wanted, write_export

    wanted = {"merged": Wanted("merged"), "onnx": Wanted("onnx"), "int8": Wanted("onnx", int8=True)}
    folders = {name: place / name for name in wanted}
    checks = {name: write_export(folders[name], each, params) for name, each in wanted.items()}
    return folders, {name: check.model_dump() for name, check in checks.items()}


def measure_contender(name: str, folder: Path, given: Path) -> dict[str, float]:
    """Return what a contender measured; see `serving_contenders.time_one`.

    Raises:
        HostError: if it fails, with its last line.
    """
    module = "stages.tools.benchmark.serving_contenders"
    command = [sys.executable, "-m", module, name, str(folder), str(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        what = f"benchmark: {name}: {printable(last, 200)}"
        raise HostError(what, "mend that and run again")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure_server(folder: Path, texts: list[str], seconds: float) -> dict[str, float]:
    """Return the largest load that a server holds, single texts, and half of that load.

    Returns:
        rows_per_second under 32 clients and their load_p50_ms, load_p99_ms; p50_ms and p99_ms of a
        client alone; half_p50_ms, half_p99_ms at half of rows_per_second; errors of all.
    """
    with running_server(folder) as url:
        measure_load(url, texts, CLIENTS, seconds / 4)  # warms up
        full = measure_load(url, texts, CLIENTS, seconds)
        single = measure_load(url, texts, 1, seconds)
        half = measure_load(url, texts, CLIENTS, seconds, rate=full.rows_per_second / 2)
    return {
        "rows_per_second": full.rows_per_second,
        "load_p50_ms": full.p50_ms,
        "load_p99_ms": full.p99_ms,
        "p50_ms": single.p50_ms,
        "p99_ms": single.p99_ms,
        "half_p50_ms": half.p50_ms,
        "half_p99_ms": half.p99_ms,
        "errors": full.errors + single.errors + half.errors,
    }


@contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """Give the address of a server in a process of its own, which ends with the block.

    Raises:
        HostError: if it does not start, with its last line.
    """
    command = [sys.executable, "-m", "stages.tools.cli", "serve", str(folder), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield _address(process.stderr)
    finally:
        process.terminate()
        process.wait()


def _address(log: IO[str] | None) -> str:
    lines = []
    for line in log or []:
        lines.append(line)
        if found := URL.search(line):
            return found[1]
    last = printable(lines[-1].strip() if lines else "no message", 200)
    raise HostError(f"benchmark: the server does not start: {last}", "mend that and run again")


def summary(name: str, turns: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return a contender's figures: rows a second by turn, medians, ratios to the pipeline."""
    own = turns[name]
    ratios = [
        mine["rows_per_second"] / peer["rows_per_second"]
        for mine, peer in zip(own, turns["pipeline"], strict=True)
    ]
    return {
        "rows_per_second": [turn["rows_per_second"] for turn in own],
        "median": statistics.median(turn["rows_per_second"] for turn in own),
        "to_pipeline": {
            "median": statistics.median(ratios),
            "low": min(ratios),
            "high": max(ratios),
        },
        **{
            key: max(turn[key] for turn in own)
            if key == "errors"
            else statistics.median(turn[key] for turn in own)
            for key in own[0]
            if key != "rows_per_second"
        },
    }


def table_of(results: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        f"| {results['rows']:,} texts, {results['threads']} threads | rows a second "
        "| times *pipeline* | p50, one text | p99, one text | p99, half load |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in results["contenders"].items():
        ratio = found["to_pipeline"]
        half = f"{found['half_p99_ms']:.0f} ms" if "half_p99_ms" in found else ""
        lines.append(
            f"| *{name}* | {found['median']:.0f} | {ratio['median']:.1f} ({ratio['low']:.1f} to "
            f"{ratio['high']:.1f}) | {found['p50_ms']:.1f} ms | {found['p99_ms']:.1f} ms | {half} |"
        )
    return "\n".join(lines)
