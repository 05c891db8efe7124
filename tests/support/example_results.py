"""Results of invented predictions, with any number of classes and any labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from stages.core.params import Params
from stages.reporting import details
from stages.reporting.answer import caveats
from stages.reporting.results import MODELS, Results, headline
from stages.reporting.significance import paired_gain
from stages.scoring.predictions import probabilities_of, targets_of

BASE = {"accuracy": 0.6, "majority": 0.4, "untrained": 0.35, "untrained_sd": 0.02, "l2": 0.01}
HOSTILE = ['<script>alert("x")</script>', "a|b`c`\n---\nx: [@me", "$\\frac{", "\x1b[31m\u202ered"]
TFIDF = {"accuracy": 0.65, "ngrams": 2, "c": 10.0}


def predictions(labels: list[str], rows: int, strength: float, seed: int) -> pd.DataFrame:
    """Return predictions that are right more often with a greater `strength`."""
    targets = np.arange(rows) % len(labels)
    noise = np.random.default_rng(seed).normal(size=(rows, len(labels)))
    powers = np.exp(noise + strength * np.eye(len(labels))[targets])
    table = powers / powers.sum(axis=1, keepdims=True)
    return pd.DataFrame(
        {
            "id": [f"id{number}" for number in range(rows)],
            "label": [labels[target] for target in targets],
            "predicted": [labels[number] for number in table.argmax(axis=1)],
            **{f"p_{label}": table[:, at] for at, label in enumerate(labels)},
        }
    )


def texts_of(base: pd.DataFrame, text: str) -> pd.DataFrame:
    """Return a text for each row, as the prepared test rows have it."""
    return base[["id", "label"]].assign(text=[f"{text} {number}" for number in range(len(base))])


def example(
    params: Params, labels: list[str], text: str = "a text", rows: int = 200, trained: bool = True
) -> Results:
    """Return the results of invented predictions."""
    frames = {
        "base": predictions(labels, rows, 0.8, seed=1),
        "adapter": predictions(labels, rows, 2.0, seed=2),
        "tfidf": predictions(labels, rows, 1.0, seed=3),
    }
    tables = {name: probabilities_of(frames[name]) for name in ("base", "adapter")}
    targets = targets_of(frames["base"])
    right = {n: (frame["label"] == frame["predicted"]).to_numpy() for n, frame in frames.items()}
    gain = paired_gain(right["base"], right["adapter"])
    over_tfidf = paired_gain(right["tfidf"], right["adapter"])
    models = {name: frames[name] for name in MODELS}
    described = details.describe_rows(models, texts_of(frames["base"], text))
    scores = {n: details.scores_of(tables[n], targets, labels, 1.5) for n in MODELS}
    training, validation = curves_of(trained)
    data = {"rows_train": 1000, "rows_validation": 200, "rows_test": rows, "rows_repeated": 2}
    return Results(
        labels=labels,
        predictions=models,
        gain=gain,
        over_tfidf=over_tfidf,
        verdict=headline(gain, over_tfidf, []),
        details=scores,
        ladder=details.build_ladder(BASE, TFIDF, gain.second, "lora", rows, {}, "1.5 MB"),
        against_full=None,
        rows=described,
        groups=details.count_groups(described),
        curves=details.trace_curves(tables, targets, 1.5),
        confused=details.confused_pairs(models),
        training=training,
        validation=validation,
        data=data,
        warnings=caveats(gain, data, len(labels), "trained"),
        kept="trained",
        size={"bytes": 1_500_000, "trained": 300_000, "base": 22_700_000},
        seeds=None,
        search=None,
        curve=pd.DataFrame(),
        contenders=pd.DataFrame(columns=["data"]),
        exports={},
        made_of={},
        params=params,
    )


def curves_of(trained: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the curves of a training, or empty ones where nothing was trained."""
    steps: list[Any] = [10, 20, 30] if trained else []
    rising = [step / 100 for step in steps]
    return (
        pd.DataFrame({"step": steps, "epoch": rising, "loss": rising, "learning_rate": rising}),
        pd.DataFrame({"step": steps, "epoch": rising, "loss": rising, "accuracy": rising}),
    )
