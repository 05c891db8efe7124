"""What the defaults give on data of other kinds: majority, TF-IDF, base, adapter, on the test rows.

    python .ci/study.py RESULTS.csv NAME=SOURCE[,PARAM=VALUE...] [--seeds 5] [-S PARAM=VALUE]

Each source is prepared as `data.source` would be, and every stage up to `evaluate_adapter` runs on
it in a folder of its own, once a seed; a line of RESULTS.csv is one seed. A line that is there
already is not computed again. Run it from the repository, after `dvc repro fetch_base`.
"""

import argparse
import csv
import json
import shutil
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.core import paths
from stages.core.params import Params, load_params
from stages.running.environment import set_environment

COLUMNS = (
    *("data", "changes", "seed", "train_rows", "classes", "test_rows", "majority", "tfidf", "base"),
    *("base_log_loss", "adapter", "adapter_log_loss", "kept", "seconds", "precision"),
)


def with_changes(params: Params, changes: list[str]) -> Params:
    """Return the params with changes such as `train.epochs=2`, checked."""
    content = params.model_dump()
    for change in changes:
        path, _, value = change.partition("=")
        *sections, key = path.split(".")
        place: dict[str, Any] = content
        for section in sections:
            place = place[section]
        place[key] = YAML(typ="safe", pure=True).load(value)
    return Params.model_validate(content)


def figures(params: Params, base_model: Path) -> dict[str, Any]:
    """Run the stages in an empty folder, and return what they measured."""
    from stages.evaluate_adapter import evaluate_adapter
    from stages.evaluate_base import evaluate_base
    from stages.evaluate_tfidf import evaluate_tfidf
    from stages.prepare import prepare
    from stages.train_lora import train_lora

    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        shutil.copytree(base_model, paths.BASE_MODEL)
        prepare(params)
        evaluate_tfidf(params)
        evaluate_base(params)
        start = time.perf_counter()
        train_lora(params)
        seconds = time.perf_counter() - start
        evaluate_adapter(params)
        data, base, tfidf, adapter, manifest = (
            json.loads(path.read_text(encoding="utf-8"))
            for path in (
                *(paths.DATA_SUMMARY, paths.BASE_METRICS, paths.TFIDF_METRICS),
                *(paths.ADAPTER_METRICS, paths.ADAPTER_MANIFEST),
            )
        )
    return {
        "train_rows": data["rows_train"],
        "classes": len(manifest["labels"]),
        "test_rows": data["rows_test"],
        "majority": base["majority"],
        "tfidf": tfidf["accuracy"],
        "base": base["accuracy"],
        "base_log_loss": base["log_loss"],
        "adapter": adapter["accuracy"],
        "adapter_log_loss": adapter["log_loss"],
        "kept": manifest["kept"],
        "seconds": round(seconds),
        "precision": manifest["precision"],
    }


def main() -> None:
    """Compute the missing lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("sources", nargs="+", metavar="NAME=SOURCE")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("-S", dest="changes", action="append", default=[], metavar="PARAM=VALUE")
    options = parser.parse_args()
    shipped = load_params()
    base_model = paths.BASE_MODEL.resolve()
    known = []
    if options.results.exists():
        with options.results.open(encoding="utf-8", newline="") as file:
            known = [(r["data"], r["changes"], r["seed"]) for r in csv.DictReader(file)]
    for seed in range(1, options.seeds + 1):
        for named in options.sources:
            name, _, rest = named.partition("=")
            source, *own = rest.split(",")
            source = str(Path(source).resolve()) if Path(source).exists() else source
            changes = " ".join(options.changes)
            if (name, changes, str(seed)) in known:
                continue
            wanted = [f"data.source={source}", *own, *options.changes, f"seed={seed}"]
            params = with_changes(shipped, wanted)
            set_environment(params.compute)
            line = {"data": name, "changes": changes, "seed": seed} | figures(params, base_model)
            new = not options.results.exists()
            with options.results.open("a", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow(line)
            print(json.dumps(line), flush=True, file=sys.stderr)


if __name__ == "__main__":
    main()
