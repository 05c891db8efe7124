"""A stopped `bert-lora predict --output` goes on, to the same bytes; another input is refused."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from stages.core import paths
from stages.serving.predictor import Predictor
from stages.tools.predict_resume import Part, chunk_sizes
from tests.support.command import Command

ROWS = 200
TEXTS = [f"{('good', 'bad')[n % 2]} w{n % 50} {'w7 ' * (n % 9)}" for n in range(ROWS)]


class StoppedError(RuntimeError):
    """Stands for whatever ends a run between two chunks."""


@pytest.fixture
def source(project: Path) -> Path:
    file = project / "mine.csv"
    file.write_text("id;text\n" + "".join(f"{n};{t}\n" for n, t in enumerate(TEXTS)))
    return file


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Return what makes the predictor end after some chunks (0: never); it counts the texts."""
    real = Predictor.probabilities

    def stop_after(chunks: int) -> list[int]:
        sizes: list[int] = []

        def probabilities(self: Predictor, texts: list[str]) -> Any:
            if chunks and len(sizes) == chunks:
                raise StoppedError
            sizes.append(len(texts))
            return real(self, texts)

        monkeypatch.setattr(Predictor, "probabilities", probabilities)
        return sizes

    return stop_after


def stopped(command: Command, *arguments: str) -> None:
    """Run the command until the predictor ends it."""
    from stages.tools import cli

    with pytest.raises(StoppedError):
        cli.main(list(arguments))
    command.capture.readouterr()


def test_chunks_begin_small_and_grow() -> None:
    assert list(islice(chunk_sizes(), 9)) == [16, 32, 64, 128, 256, 512, 1024, 1024, 1024]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_stopped_run_goes_on_to_the_same_bytes(
    command: Command, source: Path, stopping: Callable[[int], list[int]], ending: str
) -> None:
    line = ("predict", "--file", str(source), "--all", "--with-base", "--output")
    stopping(0)
    assert command(*line, f"whole.{ending}").code == 0
    out = source.parent / f"out.{ending}"
    out.write_text("the answers of another day")
    stopping(2)
    stopped(command, *line, out.name)
    assert out.read_text() == "the answers of another day"
    part = out.with_name(f"{out.name}.part")
    assert len(part.read_bytes().splitlines()) == 1 + 16 + 32
    sizes = stopping(0)
    result = command(*line, out.name)
    assert result.code == 0
    assert f"{part}: going on after 48 rows\n" in result.err
    assert result.err.endswith(f"{out}: 200 rows\n")
    assert sizes == [64, 88]
    assert out.read_bytes() == (source.parent / f"whole.{ending}").read_bytes()
    assert not part.exists()


@pytest.mark.parametrize("cut", [1, 5, 200, 4000, 6000, 9000])
def test_whatever_a_stop_left_of_the_rows_the_result_is_the_same(
    command: Command, source: Path, stopping: Callable[[int], list[int]], cut: int
) -> None:
    line = ("predict", "--file", str(source), "--output")
    stopping(0)
    assert command(*line, "whole.csv").code == 0
    stopping(3)
    stopped(command, *line, "out.csv")
    part = source.parent / "out.csv.part"
    content = part.read_bytes()
    assert len(content) > 9000
    part.write_bytes(content[:-cut] + b"\0" * (cut % 3))  # a machine that stopped leaves zeros
    stopping(0)
    assert command(*line, "out.csv").code == 0
    whole = source.parent / "whole.csv"
    assert (source.parent / "out.csv").read_bytes() == whole.read_bytes()
    with whole.open(encoding="utf-8", newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == TEXTS


def test_a_header_that_was_cut_off_starts_anew(command: Command, source: Path) -> None:
    (source.parent / "out.jsonl.part").write_bytes(b'{"made')
    assert command("predict", "--file", str(source), "--output", "out.jsonl").code == 0
    assert len((source.parent / "out.jsonl").read_bytes().splitlines()) == ROWS


@pytest.mark.parametrize(
    ("options", "difference"),
    [(("--all",), "--all"), (("--with-base", "--all"), "--with-base and --all")],
)
def test_other_options_are_refused(
    command: Command,
    source: Path,
    stopping: Callable[[int], list[int]],
    options: tuple[str, ...],
    difference: str,
) -> None:
    line = ("predict", "--file", str(source), "--output", "out.jsonl")
    stopping(1)
    stopped(command, *line)
    part = source.parent / "out.jsonl.part"
    before = part.read_bytes()
    result = command(*line, *options)
    assert result.code == 2
    assert result.err.partition("\n")[2] == (
        f"error: {part}: was begun with another {difference}. "
        f"Fix: give what it was begun with, or start anew: rm {part}\n"
    )
    assert part.read_bytes() == before


def test_another_model_is_refused(
    command: Command, source: Path, stopping: Callable[[int], list[int]]
) -> None:
    line = ("predict", "--file", str(source), "--output", "out.jsonl")
    stopping(1)
    stopped(command, *line)
    manifest = json.loads(paths.ADAPTER_MANIFEST.read_text(encoding="utf-8"))
    paths.ADAPTER_MANIFEST.write_text(json.dumps({**manifest, "max_length": 16}))
    result = command(*line)
    assert result.code == 2
    assert "out.jsonl.part: was begun with another model. Fix: " in result.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda texts: ["another", *texts[1:]], "row 1 is the answer to another text"),
        (lambda texts: [*texts[:40], "x", *texts[41:]], "row 41 is the answer to another text"),
        (lambda texts: texts[:20], "has more rows than the 20 of this input"),
    ],
)
def test_another_input_is_refused(
    command: Command,
    source: Path,
    stopping: Callable[[int], list[int]],
    change: Callable[[list[str]], list[str]],
    message: str,
) -> None:
    stopping(2)
    stopped(command, "predict", "--file", str(source), "--output", "out.jsonl")
    part = source.parent / "out.jsonl.part"
    before = part.read_bytes()
    other = "\n".join(change(TEXTS)).encode()
    result = command("predict", "--output", "out.jsonl", stdin=other)
    assert result.code == 2
    assert f"error: {part}: {message}. Fix: give the input that it was begun with" in result.err
    assert part.read_bytes() == before


def test_a_row_that_cannot_be_read_keeps_what_was_answered(
    command: Command, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.tools.predict_input.FILE_ROWS", 48)
    good = source.read_text()
    source.write_text(good.replace(f"100;{TEXTS[100]}\n", "100;\n"))
    line = ("predict", "--file", str(source), "--output", "out.jsonl")
    result = command(*line)
    assert result.code == 3
    part = source.parent / "out.jsonl.part"
    assert result.err.endswith(
        f"{part}: 48 rows are kept; the same command goes on from there\n"
        f"error: {source}: line 102: empty text. Fix: fill it in or leave it out\n"
    )
    source.write_text(good)
    assert f"{part}: going on after 48 rows" in command(*line).err
    assert len((source.parent / "out.jsonl").read_bytes().splitlines()) == ROWS


def test_two_runs_on_one_output_are_kept_apart(command: Command, source: Path) -> None:
    holder = Part(source.parent / "out.jsonl", {})
    result = command("predict", "--file", str(source), "--output", "out.jsonl")
    assert result.code == 5
    assert "out.jsonl.part: another run is writing it. Fix: wait for it" in result.err
    holder.close(done=True)


def test_the_first_answers_come_before_the_input_ends(
    command: Command, source: Path, stopping: Callable[[int], list[int]]
) -> None:
    stopping(1)
    from stages.tools import cli

    with pytest.raises(StoppedError):
        cli.main(["predict", "--file", str(source)])
    rows = [json.loads(line) for line in command.capture.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == TEXTS[:16]


@pytest.mark.slow
def test_a_killed_run_goes_on(project: Path, source: Path) -> None:
    many = 3000
    source.write_text("text\n" + "".join(f"{TEXTS[n % ROWS]} w{n % 59}\n" for n in range(many)))
    line = [sys.executable, "-m", "stages.tools.cli", "predict", "--file", source.name]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    whole = [*line, "--output", "whole.csv"]
    subprocess.run(whole, cwd=project, env=environment, check=True, capture_output=True)
    part = project / "out.csv.part"
    kills = 0
    for rows in (16, 500, 1500):
        process = subprocess.Popen(
            [*line, "--output", "out.csv"], cwd=project, env=environment, stderr=subprocess.DEVNULL
        )
        while process.poll() is None:
            if part.exists() and part.read_bytes().count(b"\n") > rows:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.001)
        process.wait()
    assert kills
    done = [*line, "--output", "out.csv"]
    subprocess.run(done, cwd=project, env=environment, check=True, capture_output=True)
    assert (project / "out.csv").read_bytes() == (project / "whole.csv").read_bytes()
    assert not part.exists()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(project: Path) -> None:
    code = """
import resource, sys
import numpy as np
from stages.serving.predictor import Predictor
Predictor.probabilities = lambda self, texts: np.full((len(texts), 2), 0.5)
Predictor.count_cut = lambda self, texts: 0
from stages.tools import cli
try:
    cli.main(["predict", "--file", sys.argv[1], "--output", "out.parquet"])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    peaks = []
    for rows in (100_000, 400_000):
        file = project / f"{rows}.csv"
        with file.open("w", encoding="utf-8") as handle:
            handle.write("text\n")
            handle.writelines(f"a text of some length with the number {n}\n" for n in range(rows))
        done = subprocess.run(
            [sys.executable, "-c", code, file.name],
            cwd=project,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.05 * peaks[0]
