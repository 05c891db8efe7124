"""Compare the results in the last commit with those of a run in this clone.

Data and base model must be the same bytes. Metrics must agree within a tolerance, since another
processor sums in another order or lacks bf16, and training amplifies that until two runs differ as
two seeds do. Figures of the trained model may differ by three standard deviations of the difference
between two seeds (metrics/records/seeds.json), figures of the frozen model by FROZEN. On the
machine that made the committed results all files are the same bytes; the last line says how many.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from stages.core.params import load_params

FROZEN = 0.01  # of the base's accuracy and F1: 11 of 1,057 rows
LOG_LOSS = 2  # times as much, in nats
EXACT = ("data/train.parquet", "data/validation.parquet", "data/test.parquet", "models/base")
METRICS = (
    "metrics/data.json",
    "metrics/base.json",
    "metrics/adapter.json",
    "metrics/comparison.json",
)
# Follow from the accuracies, or do not depend on them.
COUNTS = ("fixed", "broken", "mcnemar_p")
TRAINED = (*COUNTS, *(f"{key}_tfidf" for key in COUNTS), "accuracy_gain_smallest")


def committed(path: str) -> str:
    """Return a file's content in the last commit."""
    return subprocess.run(
        ["git", "show", f"HEAD:{path}"],  # noqa: S607  # git by name, as everyone calls it
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def hashes(lock: str) -> dict[str, str]:
    """Return the hash of every dependency and output that a dvc.lock names."""
    stages = YAML(typ="safe", pure=True).load(lock)["stages"].values()
    entries = [entry for stage in stages for kind in ("deps", "outs") for entry in stage[kind]]
    return {entry["path"]: entry["md5"] for entry in entries}


def allowed(path: str, key: str) -> float:
    """Return by how much a figure may differ from the committed one."""
    tolerance = FROZEN
    if path != "metrics/base.json":
        records = json.loads(committed("metrics/records/seeds.json"))
        model = load_params().model.source  # any of its settings: seeds move all alike
        spreads = [r["accuracy_adapter_sd"] for r in records if r["model"] == model]
        tolerance = 3 * math.sqrt(2) * max(spreads)
    return tolerance * (LOG_LOSS if key == "log_loss" else 1)


def main() -> None:
    """Print every disagreement and end with exit code 1 if there is one."""
    faults = []
    then, now = hashes(committed("dvc.lock")), hashes(Path("dvc.lock").read_text(encoding="utf-8"))
    for path in sorted({*then, *now}):
        fixed = path in EXACT or path.startswith("stages/")
        if fixed and then.get(path) != now.get(path):
            faults.append(f"dvc.lock: {path}: committed {then.get(path)}, here {now.get(path)}")
    for path in METRICS:
        old, new = json.loads(committed(path)), json.loads(Path(path).read_text(encoding="utf-8"))
        if set(old) != set(new):
            faults.append(f"{path}: other keys: {sorted(set(old) ^ set(new))}")
        for key in set(old) & set(new) - set(TRAINED):
            same = old[key] == new[key]
            close = isinstance(old[key], float) and abs(old[key] - new[key]) <= allowed(path, key)
            if not (same or (close and path != "metrics/data.json")):
                faults.append(f"{path}: {key}: committed {old[key]}, here {new[key]}")
    print("\n".join(faults) or "the committed results hold")
    if not faults:
        same = {path for path in now if then.get(path) == now[path]}
        print(f"{len(same)} of {len(now)} files are exactly the same bytes")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
