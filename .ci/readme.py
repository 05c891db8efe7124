"""Write the measured figures into the READMEs, between their markers; a test checks them.

    python .ci/readme.py

Sources: metrics/report.md and *.json of the committed run, and in metrics/records/ seeds.json by
`bert-lora seeds`, serving.json by .ci/benchmark.py, and experiments.json, which records runs that
take long, each with its command.
"""

import csv
import json
import math
import re
import sys
from contextlib import chdir
from pathlib import Path
from statistics import mean
from typing import Any

from stages.reporting.contenders import advice, read_contenders
from stages.reporting.records import read_records
from stages.reporting.results import between, percent, points, shown_p
from stages.reporting.significance import spread

sys.path.insert(0, str(Path(__file__).parent))  # the scripts here are no package
from benchmark import serving_table, table_of  # after the path

ROOT = Path(__file__).parents[1]


def metrics(name: str) -> Any:
    """Return the content of metrics/<name>.json."""
    return json.loads((ROOT / "metrics" / f"{name}.json").read_text(encoding="utf-8"))


def table(name: str) -> list[dict[str, str]]:
    """Return the lines of metrics/<name>.csv."""
    with (ROOT / "metrics" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def by_data(runs: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """Return the runs of each data set, in their order."""
    names = dict.fromkeys(run["data"] for run in runs)
    return {name: [run for run in runs if run["data"] == name] for name in names}


def report() -> list[str]:
    """Return the paragraphs of metrics/report.md above its table of classes."""
    text = (ROOT / "metrics/report.md").read_text(encoding="utf-8")
    return text.partition("\n\n| class")[0].split("\n\n")


def ladder() -> str:
    """Return the ladder as a table."""
    return next(part for part in report() if part.startswith("| "))


def headline() -> str:
    """Return both gains as a sentence, and what several seeds say where they are recorded."""
    run, parts = metrics("comparison"), report()
    over = [
        f"{points(run[f'accuracy_gain{of}'])} points over {what}{strong} (95 % interval "
        + between(run[f"accuracy_gain_low{of}"], run[f"accuracy_gain_high{of}"])
        for of, what, strong in (("", "the frozen encoder", "**"), ("_tfidf", "TF-IDF", ""))
    ]
    sentence = f"**LoRA reaches {percent(run['accuracy_adapter'])}: {'), '.join(over)})."
    return "\n\n".join([sentence, *parts[parts.index(ladder()) + 1 :]])


def seeds_of(settings: str) -> Any:
    """Return the record of settings over the most seeds, or None."""
    with chdir(ROOT):
        records = [record for record in read_records() if record["settings"] == settings]
    return max(records, key=lambda record: len(record["seeds"]), default=None)


def diff() -> str:
    """Return what `dvc metrics diff baseline` prints: there the adapter scored as the base."""
    gain = metrics("gain")
    files = {
        "adapter": (metrics("base"), metrics("adapter")),
        "gain": (gain | {"gain": 0.0}, gain),
    }
    rows = [("Path", "Metric", "baseline", "workspace", "Change")]
    for name, (before, after) in files.items():
        for key in sorted(after):
            if before[key] != after[key]:
                old, new = (f"{round(value, 5)}" for value in (before[key], after[key]))
                change = f"{round(after[key] - before[key], 5)}"
                rows.append((f"metrics/{name}.json", key, old, new, change))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "  ".join(map(str.ljust, row, [*widths[:2], *(w + 2 for w in widths[2:])])).rstrip()
        for row in rows
    ]
    commands = ["$ dvc exp run --temp -n baseline -S train.epochs=0", "$ dvc metrics diff baseline"]
    return "\n".join(["```console", *commands, *lines, "```"])


def experiments() -> str:
    """Return the recorded runs as a table; the first is the committed one.

    An entry with `settings` has its figures in metrics/records/seeds.json.
    """
    default, *others = metrics("records/experiments")
    lines = [
        "| setting | base | adapter | gain, 95 % interval | minutes |",
        "| --- | ---: | ---: | --- | ---: |",
    ]
    for entry in (default | metrics("comparison"), *others):
        if settings := entry.get("settings"):
            record = seeds_of(settings)
            means = {key.removesuffix("_mean"): value for key, value in record.items()}
            entry |= means | {"setting": f"{entry['setting']}, {len(record['seeds'])} seeds"}
        interval = between(entry["accuracy_gain_low"], entry["accuracy_gain_high"])
        minutes = "not timed" if entry["minutes"] is None else f"{entry['minutes']:.1f}"
        lines.append(
            f"| {entry['setting']} | {percent(entry['accuracy_base'])} "
            f"| {percent(entry['accuracy_adapter'])} "
            f"| {points(entry['accuracy_gain'])} points, {interval} | {minutes} |"
        )
    return "\n".join(lines)


def transfer() -> str:
    """Return how two settings do on data that chose neither."""
    runs = table("records/transfer")
    settings = list(dict.fromkeys(run["settings"] for run in runs))
    heads = " | ".join(f"base, {name} | adapter" for name in settings)
    lines = [
        f"| data | test rows | {heads} | difference of the adapters, 95 % interval over seeds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for data, of_data in by_data(runs).items():
        columns = [
            [float(run[key]) for run in of_data if run["settings"] == name]
            for name in settings
            for key in ("accuracy_base", "accuracy_adapter")
        ]
        _, old, _, new = columns
        gain = spread([later - before for before, later in zip(old, new, strict=True)])
        means = " | ".join(percent(spread(values).mean) for values in columns)
        lines.append(
            f"| {data} | {int(of_data[0]['test_rows']):,} | {means} | {points(gain.mean)} points, "
            f"{between(gain.low, gain.high)} |"
        )
    return "\n".join(lines)


def methods() -> str:
    """Return how the training methods compare, a table for each data set, and what that says."""
    table = read_contenders()
    parts = []
    for data, of_data in table.groupby("data", sort=False):
        parts += [
            f"**{data}**",
            "| method | chosen on validation | trained | MB | s a step | MiB | accuracy on test | "
            "to LoRA (p) | to full (p) | log loss | calibration error |\n"
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
            + "\n".join(_method(line) for line in of_data.to_dict("records")),
        ]
    return "\n\n".join([*parts, *advice(table)])


def _method(line: dict[Any, Any]) -> str:
    chosen = json.loads(line["settings"])
    pairs = [
        ""
        if math.isnan(line[f"to_{to}"])
        else f"{points(line[f'to_{to}'])} ({shown_p(line[f'p_{to}'])})"
        for to in ("lora", "full")
    ]
    cells = [
        line["method"],
        ", ".join(f"`{path.partition('.')[2]}` {value}" for path, value in chosen.items()),
        f"{int(line['trained']):,}",
        f"{line['bytes'] / 1e6:.2f}",
        f"{line['seconds_a_step']:.2f}",
        f"{int(line['memory_mib']):,}",
        f"{percent(line['accuracy'])} ({between(line['low'], line['high'])})",
        *pairs,
        f"{line['log_loss']:.3f}",
        f"{line['calibration_error']:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def data_sets() -> str:
    """Return what the defaults give on data of other kinds, means over the seeds of each."""
    lines = [
        "| data | rows to train | classes | test rows | majority | TF-IDF | base | old | full "
        "| defaults | log loss: base, defaults | seeds: old, full, defaults | seconds |",
        f"| --- |{' ---: |' * 9} --- | --- | ---: |",
    ]
    for data, of_data in by_data(table("records/data-sets")).items():
        runs = {
            name: [run for run in of_data if run["settings"] == name]
            for name in ("old", "full", "defaults")
        }

        def average(key: str, of: str = "defaults", runs: Any = runs) -> float | None:
            return mean(float(run[key]) for run in runs[of]) if runs[of] else None

        accuracies = [float(run["adapter"]) for run in runs["defaults"]]
        shown = percent(mean(accuracies))
        if len(accuracies) > 1:
            ends = spread(accuracies)
            shown += f" ({percent(max(ends.low, 0))} to {percent(min(ends.high, 1))})"
        others = (average("majority"), average("tfidf"), average("base"))
        first = runs["defaults"][0]
        cells = [
            *(data, f"{int(first['train_rows']):,}", first["classes"]),
            f"{int(first['test_rows']):,}",
            *map(percent, (*others, average("adapter", "old"), average("adapter", "full"))),
            shown,
            f"{average('base_log_loss'):.2f}, {average('adapter_log_loss'):.2f}",
            ", ".join(str(len(of)) for of in runs.values()),
            f"{average('seconds'):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def data_sets_short() -> str:
    """Return the accuracies of `data_sets` alone."""
    runs = [run for run in table("records/data-sets") if run["settings"] == "defaults"]
    lines = [
        "| data | rows to train | classes | TF-IDF | base | LoRA | seeds |",
        f"| --- |{' ---: |' * 6}",
    ]
    for data, of_data in by_data(runs).items():
        accuracies = " | ".join(
            percent(mean(float(run[method]) for run in of_data))
            for method in ("tfidf", "base", "adapter")
        )
        first = of_data[0]
        lines.append(
            f"| {data} | {int(first['train_rows']):,} | {first['classes']} | {accuracies} "
            f"| {len(of_data)} |"
        )
    return "\n".join(lines)


def benchmark() -> str:
    """Return the measured speeds as a table."""
    return table_of(metrics("records/benchmark"))


def serving() -> str:
    """Return the measured ways to answer texts as a table, and what 8-bit weights changed."""
    measured = metrics("records/serving")
    int8 = measured["exports"]["int8"]
    return (
        f"{serving_table(measured)}\n\n8-bit weights changed {int8['flipped']} of "
        f"{int8['rows']:,} answers ({int8['fixed']} to the right class, {int8['broken']} to the "
        f"wrong one; accuracy {percent(int8['accuracy'])} instead of "
        f"{percent(int8['adapter_accuracy'])}, p = {int8['mcnemar_p']:.2f}), the fp32 exports none."
    )


BLOCKS = {
    "README.md": {
        "ladder": ladder,
        "headline": headline,
        "data-sets-short": data_sets_short,
        "diff": diff,
    },
    "metrics/README.md": {
        "data-sets": data_sets,
        "transfer": transfer,
        "experiments": experiments,
        "methods": methods,
        "benchmark": benchmark,
        "serving": serving,
    },
}


def filled(name: str) -> str:
    """Return the text of a README with the content of every block as the metrics have it.

    Raises:
        SystemExit: if a block is not in the text exactly once.
    """
    text = (ROOT / name).read_text(encoding="utf-8")
    for block, content in BLOCKS[name].items():
        text = with_block(text, block, content())
    return text


def with_block(text: str, name: str, content: str) -> str:
    """Return the text with the content between `<!-- name -->` and `<!-- /name -->`.

    Raises:
        SystemExit: if these markers are not in the text exactly once.
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"(?<={re.escape(start)}\n).*?(?={re.escape(end)})", re.DOTALL)
    text, count = pattern.subn(lambda _: content + "\n", text)
    if count != 1:
        raise SystemExit(f"{start} ... {end} is there {count} times, not once")
    return text


if __name__ == "__main__":
    for each in BLOCKS:
        (ROOT / each).write_text(filled(each), encoding="utf-8")
