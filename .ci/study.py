"""What the defaults give on data of other kinds: majority, TF-IDF, base and adapter on test rows.

    python .ci/study.py RESULTS.csv NAME=SOURCE[,PARAM=VALUE...] [--seeds 1,2,3] [-S PARAM=VALUE]

With `--settings old` the lines are of the recipe before: two epochs from the base's fitted head.

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
from contextlib import chdir
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.core import paths
from stages.core.params import Params, load_params
from stages.running.run import set_environment

COLUMNS = (
    *("data", "settings", "seed", "train_rows", "classes", "test_rows"),
    *("majority", "tfidf", "base", "base_log_loss"),
    *("adapter", "adapter_log_loss", "kept", "seconds", "precision"),
)
SETTINGS: dict[str, list[str]] = {
    "defaults": [],
    "old": [
        *("train.start=base", "train.epochs=2", "train.label_smoothing=0"),
        *("train.contrastive=0", "head.l2=[0.00001, 0.0001, 0.001]"),
    ],
    "full": ["train.method=full"],
}


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


def source_of(named: str) -> tuple[str, list[str]]:
    """Return the name and the changes of params that NAME=SOURCE[,PARAM=VALUE...] means."""
    name, _, rest = named.partition("=")
    source, *own = rest.split(",")
    source = str(Path(source).resolve()) if Path(source).exists() else source
    return name, [f"data.source={source}", *own]


def figures(params: Params, base_model: Path) -> dict[str, Any]:
    """Run the stages in an empty folder, and return what they measured."""
    from stages.prepare import prepare
    from stages.tools.curve import measured

    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        shutil.copytree(base_model, paths.BASE_MODEL)
        prepare(params)
        found = measured(params)
        data, base, fit, adapter, manifest = (
            json.loads(path.read_text(encoding="utf-8"))
            for path in (
                *(paths.DATA_SUMMARY, paths.BASE_METRICS, paths.HEAD_FIT),
                *(paths.ADAPTER_METRICS, paths.ADAPTER_MANIFEST),
            )
        )
    return found | {
        "train_rows": data["rows_train"],
        "classes": len(manifest["labels"]),
        "test_rows": data["rows_test"],
        "majority": fit["majority"],
        "base_log_loss": base["log_loss"],
        "adapter_log_loss": adapter["log_loss"],
        "kept": manifest["kept"],
        "precision": manifest["precision"],
    }


def main() -> None:
    """Compute the missing lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("sources", nargs="+", metavar="NAME=SOURCE")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--settings", choices=SETTINGS, default="defaults")
    parser.add_argument("-S", dest="changes", action="append", default=[], metavar="PARAM=VALUE")
    options = parser.parse_args()
    shipped = load_params()
    base_model = paths.BASE_MODEL.resolve()
    known = []
    if options.results.exists():
        with options.results.open(encoding="utf-8", newline="") as file:
            known = [(r["data"], r["settings"], r["seed"]) for r in csv.DictReader(file)]
    for seed in options.seeds.split(","):
        for named in options.sources:
            name, own = source_of(named)
            if (name, options.settings, seed) in known:
                continue
            wanted = [*SETTINGS[options.settings], *own, *options.changes, f"seed={seed}"]
            params = with_changes(shipped, wanted)
            set_environment(params.compute)
            line: dict[str, Any] = {"data": name, "settings": options.settings, "seed": seed}
            line |= figures(params, base_model)
            new = not options.results.exists()
            with options.results.open("a", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow(line)
            print(json.dumps(line), flush=True, file=sys.stderr)


if __name__ == "__main__":
    main()
