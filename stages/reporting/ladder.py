"""The ladder: what each kind of method has right on the same test rows, from the floor upwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.core.artefacts import replacing
from stages.reporting.results import Rung
from stages.scoring.significance import wilson

NAMES = {
    "majority": "majority class",
    "untrained": "untrained head",
    "tfidf": "TF-IDF, logistic regression",
    "base": "frozen body, fitted head (base)",
    "lora": "LoRA",
    "full": "full fine-tuning",
}


def build_ladder(
    base: dict[str, float],
    tfidf: dict[str, float],
    adapter_accuracy: float,
    method: str,
    rows: int,
    records: dict[str, dict[str, Any]],
) -> list[Rung]:
    """Return the rungs in the order of NAMES.

    Args:
        base: metrics/base.json, which also holds the floors.
        tfidf: metrics/tfidf.json.
        adapter_accuracy: of the run at hand.
        method: what the run at hand trained: lora or full.
        rows: how many test rows.
        records: runs over seeds on the same test rows, by their method. That of another method
            than the run's becomes a rung of its own.
    """
    untrained, sd = base["untrained"], base["untrained_sd"]
    found = {
        "majority": (base["majority"], "the most frequent class of the training rows"),
        "untrained": (
            untrained,
            f"mean of ten fresh heads, sd {100 * sd:.1f} points; interval of a head",
        ),
        "tfidf": (
            tfidf["accuracy"],
            f"words and up to {tfidf['ngrams']:g}-word sequences, C {tfidf['c']:g} by validation",
        ),
        "base": (base["accuracy"], "a linear probe of the frozen model"),
    }
    for name, record in records.items():
        count = len(record["seeds"])
        note = f"mean of {count} seeds" if count > 1 else f"seed {record['seeds'][0]}"
        found[name] = (record["accuracy_adapter_mean"], note)
    found[method] = (adapter_accuracy, "this run")
    intervals = {
        name: wilson(round(accuracy * rows), rows) for name, (accuracy, _) in found.items()
    } | {"untrained": (untrained - 1.96 * sd, untrained + 1.96 * sd)}
    return _with_steps([(n, *found[n], *intervals[n]) for n in NAMES if n in found])


def _with_steps(found: list[tuple[str, float, str, float, float]]) -> list[Rung]:
    """Return the rungs with each one's step from the rung before, and its share of the way."""
    way = found[-1][1] - found[0][1]
    rungs: list[Rung] = []
    for key, accuracy, note, low, high in found:
        step = accuracy - rungs[-1].accuracy if rungs else 0.0
        share = step / way if way else 0.0
        rungs.append(Rung(key, NAMES[key], accuracy, low, high, step, share, note))
    return rungs


def write_ladder(ladder: list[Rung], path: Path) -> None:
    """Write the ladder as a table, lowest rung first; accuracies and steps are shares."""
    import pandas as pd

    frame = pd.DataFrame(ladder).rename(columns={"name": "rung", "share": "share_of_way"})
    columns = ["rung", "accuracy", "low", "high", "step", "share_of_way", "note"]
    with replacing(path) as temporary:
        frame[columns].to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")
