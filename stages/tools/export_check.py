"""Score texts with an exported folder in a fresh process, and compare with the adapter.

    python -m stages.tools.export_check FOLDER TEXTS RESULT THREADS

The process that wrote the folder knows too much: here nothing but the folder answers.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.artefacts import HERE
from stages.core.errors import ModelError, printable
from stages.reporting.records import Check
from stages.reporting.significance import paired_gain
from stages.running.ends import exit_code_of
from stages.tools.predictor import Logits, open_predictor

SINGLES = 50  # texts that are scored alone


def check_export(
    folder: Path, texts: list[str], targets: list[int], adapter: Logits, threads: int
) -> Check:
    """Return how an exported folder, opened in a fresh process, compares with the adapter.

    Args:
        folder: the exported folder.
        texts: of the test rows.
        targets: their true label numbers.
        adapter: the adapter's logits, shape (texts, classes).
        threads: processor threads to use.

    Raises:
        ModelError: if the process fails.
    """
    result = _in_fresh_process(folder, texts, threads)
    ours, alone = result["logits"], result["alone"]
    differences = (np.abs(ours - adapter).max(), np.abs(alone - adapter[: len(alone)]).max())
    truth = np.array(targets)
    gain = paired_gain(adapter.argmax(1) == truth, ours.argmax(1) == truth)
    return Check(
        rows=len(texts),
        largest_difference=float(max(differences)),
        flipped=int((ours.argmax(1) != adapter.argmax(1)).sum()),
        fixed=gain.fixed,
        broken=gain.broken,
        accuracy=gain.second,
        adapter_accuracy=gain.first,
        mcnemar_p=gain.p,
        rows_per_second=float(result["rows_per_second"]),
        single_ms=float(result["single_ms"]),
        threads=threads,
        bytes=sum(file.stat().st_size for file in folder.iterdir()),
    )


def _in_fresh_process(folder: Path, texts: list[str], threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        given, result = Path(place) / "texts.json", Path(place) / "result.npz"
        given.write_text(json.dumps(texts), encoding="utf-8")
        command = [sys.executable, "-m", "stages.tools.export_check"]
        search = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
        done = subprocess.run(
            [*command, str(folder.absolute()), str(given), str(result), str(threads)],
            env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": str(threads)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2].removeprefix("error: ")
            what = f"the export does not run in a fresh process: {printable(last, 300)}"
            raise ModelError(what, "use another --format; nothing was written")
        with np.load(result) as arrays:
            return dict(arrays)


def score_and_time(folder: Path, texts: list[str], threads: int) -> dict[str, Any]:
    """Return the logits of the texts and how fast they came, after a warm-up.

    Returns:
        logits, shape (texts, classes); alone, those of the first texts, each scored alone;
        rows_per_second; single_ms, the median milliseconds for one text.
    """
    predictor = open_predictor(folder, threads=threads, unchecked=True)
    predictor.logits(texts[:SINGLES])  # warms up
    start = time.perf_counter()
    logits = predictor.logits(texts)
    seconds = time.perf_counter() - start
    alone, times = [], []
    for text in texts[:SINGLES]:
        before = time.perf_counter()
        alone.append(predictor.logits([text])[0])
        times.append(time.perf_counter() - before)
    return {
        "logits": logits,
        "alone": np.array(alone),
        "rows_per_second": len(texts) / seconds,
        "single_ms": 1000 * float(np.median(times)),
    }


def main() -> None:
    """Do what the module says, with the process's arguments."""
    folder, given, result, threads = sys.argv[1:]
    texts = json.loads(Path(given).read_text(encoding="utf-8"))
    np.savez(result, **score_and_time(Path(folder), texts, int(threads)))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
