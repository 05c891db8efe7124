"""The numbers behind the plots: ROC, reliability, confusion, the gain's distribution."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.artefacts import replacing
from stages.reporting.results import MODELS, Curves
from stages.reporting.significance import Gain, resampled_gains
from stages.scoring.scores import bins_of

if TYPE_CHECKING:  # heavy libraries are imported once the params have been checked
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, np.dtype[np.float64]]
    Numbers = np.ndarray[Any, np.dtype[np.int64]]

POINTS = 101  # of a ROC curve
BINS = 40  # of the gain's distribution


def trace_curves(
    probabilities: dict[str, Array],
    targets: Numbers,
    gain: Gain,
    seed: int,
    training: pd.DataFrame,
    validation: pd.DataFrame,
) -> Curves:
    """Return the curves of base and adapter.

    Args:
        probabilities: by model, shape (rows, classes).
        targets: true label numbers, shape (rows,).
        gain: of the adapter over the base.
        seed: that of the gain's interval, so that it is an interval of this distribution.
        training: the training's own curve, as `training.curves` reads it.
        validation: its evaluation steps on the validation rows.
    """
    import pandas as pd
    from sklearn.metrics import confusion_matrix

    def reliability(table: Array) -> pd.DataFrame:
        return pd.DataFrame(
            dict(zip(("confidence", "accuracy", "rows"), bins_of(table, targets), strict=True))
        )

    classes = range(next(iter(probabilities.values())).shape[1])
    return Curves(
        roc={name: roc_curve(table, targets) for name, table in probabilities.items()},
        reliability={name: reliability(table) for name, table in probabilities.items()},
        confusion={
            name: confusion_matrix(targets, table.argmax(axis=1), labels=classes)
            for name, table in probabilities.items()
        },
        gains=resampled_gains(gain.fixed, gain.broken, gain.rows, seed),
        training=training,
        validation=validation,
    )


def roc_curve(probabilities: Array, targets: Numbers) -> tuple[Array, Array]:
    """Return 101 points of the ROC curve: false positive rates from 0 to 1, true positive rates.

    Of two classes the second is the positive one; of more, the one-vs-rest curves are averaged
    at equal false positive rates. A class without test rows, or with all of them, has no curve.
    """
    import numpy as np
    from sklearn import metrics

    grid = np.linspace(0, 1, POINTS)
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    curves = []
    for number in classes:
        positive = targets == number
        if 0 < positive.sum() < len(positive):
            false, true, _ = metrics.roc_curve(positive, probabilities[:, number])
            curves.append(np.interp(grid, false, true))
    mean: Array = np.mean(curves, axis=0)
    mean[0] = 0.0
    return grid, mean


def gain_edges(curves: Curves) -> Array:
    """Return the edges, in points, of about 40 bins of the gain's distribution.

    A gain is a whole number of rows, so every bin spans equally many rows; otherwise some would
    contain more of the possible gains than others, and the distribution would look ragged.
    """
    import numpy as np

    rows = int(next(iter(curves.confusion.values())).sum())
    steps = np.rint(curves.gains * rows)
    width = max(1, round((steps.max() - steps.min()) / BINS))
    edges: Array = np.arange(steps.min() - 0.5, steps.max() + width, width) * 100 / rows
    return edges


def write_curves(curves: Curves, path: Path) -> None:
    """Write the curves as the tables that dvc.yaml's plots read."""
    import numpy as np
    import pandas as pd

    counts, edges = np.histogram(100 * curves.gains, bins=gain_edges(curves))
    tables = {
        "gain": pd.DataFrame(
            {"gain_points": (edges[:-1] + edges[1:]) / 2, "share": counts / counts.sum()}
        )
    }
    for name in MODELS:
        false, true = curves.roc[name]
        tables[f"roc_{name}"] = pd.DataFrame(
            {"false_positive_rate": false, "true_positive_rate": true}
        )
        tables[f"reliability_{name}"] = curves.reliability[name]
    with replacing(path) as folder:
        folder.mkdir()
        for name, table in tables.items():
            table.to_csv(
                folder / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n"
            )
