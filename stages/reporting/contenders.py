"""The comparison of training methods in metrics/records/methods.csv: in words, and as a picture."""

import pandas as pd
from matplotlib.figure import Figure

from stages.core import paths
from stages.core.artefacts import back
from stages.core.errors import DataError
from stages.reporting.figures import COLOURS, new_figure
from stages.reporting.results import percent
from stages.reporting.significance import ALPHA

NEEDED = {"data", "method", "trained", "accuracy", "low", "high", "p_lora", "seeds"}
REFERENCE = "LoRA"


def read_contenders() -> pd.DataFrame:
    """Return a line for each data set and method, none where there is no such file.

    Raises:
        DataError: if it is not that table.
    """
    if not paths.METHODS.exists():
        return pd.DataFrame(columns=sorted(NEEDED))
    try:
        table = pd.read_csv(paths.METHODS)
        table["accuracy"] = table["accuracy"].astype(float)
    except (ValueError, KeyError):
        table = pd.DataFrame()
    if not set(table) >= NEEDED:
        raise DataError(f"{paths.METHODS}: not the table of .ci/methods.py", back(paths.METHODS))
    return table


def level(of_data: pd.DataFrame) -> pd.DataFrame:
    """Return the methods of one data set that cannot be told from LoRA, LoRA among them."""
    return of_data[~(of_data["p_lora"] < ALPHA)]


def front(of_data: pd.DataFrame) -> pd.DataFrame:
    """Return the Pareto front: what no method with as few trained parameters beats."""
    ordered = of_data.sort_values(["trained", "accuracy"], ascending=[True, False])
    best = ordered["accuracy"].cummax().shift(fill_value=-1.0)
    return ordered[ordered["accuracy"] > best]


def advice(table: pd.DataFrame) -> list[str]:
    """Return a sentence for each data set: what is level with LoRA, and the smallest of it."""
    said = []
    for data, of_data in table.groupby("data", sort=False):
        same = level(of_data)
        best = of_data.sort_values("accuracy", kind="stable").iloc[-1]
        smallest = same.sort_values("trained", kind="stable").iloc[0]
        worse = of_data.drop(same.index)
        better = worse[worse["accuracy"] > same.set_index("method")["accuracy"].get(REFERENCE, 0)]
        told = f"{REFERENCE} cannot be told from {_and(same['method'])}"
        for title, which in (("better", better), ("behind", worse.drop(better.index))):
            told += f"; {title}: {_and(which['method'])}" if len(which) else ""
        said.append(
            f"{data}, {int(of_data['seeds'].max())} seeds each: {best['method']} has the most, "
            f"{percent(best['accuracy'])}. {told}. The smallest that is level is "
            f"{smallest['method']} with {int(smallest['trained']):,} trained parameters, "
            f"{percent(smallest['accuracy'])}."
        )
    return said


def _and(names: "pd.Series[str]") -> str:
    *first, last = [name for name in names if name != REFERENCE] or ["any other method"]
    return f"{', '.join(first)} and {last}" if first else last


def draw_contenders(table: pd.DataFrame) -> Figure:
    """Draw accuracy over trained parameters, a panel for each data set, with the Pareto front."""
    sets = list(table.groupby("data", sort=False))
    figure, grid = new_figure(7.2, 4.0 * len(sets), 1, len(sets), squeeze=False)
    for axes, (data, of_data) in zip(grid.flat, sets, strict=True):
        best = front(of_data)
        axes.step(
            best["trained"],
            100 * best["accuracy"],
            where="post",
            color=COLOURS["adapter"],
            alpha=0.5,
        )
        for place, line in enumerate(of_data.sort_values("trained").to_dict("records")):
            kind = "base" if line["method"] == REFERENCE else "muted"
            kind = "adapter" if line["method"] in set(best["method"]) and kind == "muted" else kind
            spans = [
                [100 * (line["accuracy"] - line["low"])],
                [100 * (line["high"] - line["accuracy"])],
            ]
            axes.errorbar(
                line["trained"], 100 * line["accuracy"], spans, fmt="o", markersize=5, capsize=2,
                color=COLOURS[kind], elinewidth=0.8,
            )  # fmt: skip
            above = place % 2
            axes.annotate(
                line["method"],
                (line["trained"], 100 * (line["high"] if above else line["low"])),
                (0, 4 if above else -4),
                textcoords="offset points",
                ha="center",
                va="bottom" if above else "top",
                fontsize=8,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.margins(0.08, 0.12)
        axes.set_title(str(data), loc="left")
        axes.set_xlabel("parameters that train, the head's included")
        axes.set_ylabel("accuracy on the test rows (%)")
    return figure
