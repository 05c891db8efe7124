"""`bert-lora compare`: compare two revisions row by row, with a verdict."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stages.core import paths
from stages.core.errors import ParamsError, printable
from stages.core.params import load_params
from stages.reporting.significance import Gain, paired_gain, wilson
from stages.reporting.verdict import points, shown_p, verdict
from stages.scoring.predictions import aligned
from stages.tools.project import enter_project
from stages.tools.revisions import predictions_of

if TYPE_CHECKING:  # heavy libraries are imported once the options have been checked
    import pandas as pd

FILES = {"adapter": paths.ADAPTER_PREDICTIONS, "base": paths.BASE_PREDICTIONS}
EXAMPLE = "Example: bert-lora compare main workspace --tolerance 0.01"


class Model(StrEnum):
    """Whose predictions are compared."""

    adapter = "adapter"
    base = "base"


@dataclass(frozen=True)
class CompareOptions:
    """What the user wants; see `bert-lora compare --help`. Accuracies are shares."""

    revisions: tuple[str, str] = ("HEAD", "workspace")
    model: str = "adapter"
    fail_under: float | None = None
    tolerance: float | None = None
    as_json: bool = False
    as_markdown: bool = False


def command(
    first: Annotated[str, typer.Argument(metavar="REV_A", help="The earlier one.")] = "HEAD",
    second: Annotated[
        str, typer.Argument(metavar="REV_B", help="The one that is checked.")
    ] = "workspace",
    of: Annotated[Model, typer.Option(help="Whose predictions.")] = Model.adapter,
    fail_under: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Exit code 1 if REV_B's accuracy is below this."
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Exit code 1 if accuracy fell by more than this."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--md", help="Print Markdown for a pull request.")
    ] = False,
) -> None:
    """Compare two revisions on the same test rows: difference, interval, p-value, verdict.

    A revision is a commit, a tag, a branch, an experiment, or "workspace". Accuracies are shares.
    """
    if as_json and as_markdown:
        raise ParamsError("bert-lora compare: both --json and --md", "give one of them")
    enter_project()
    options = CompareOptions((first, second), of.value, fail_under, tolerance, as_json, as_markdown)
    raise typer.Exit(compare(options))


def compare(options: CompareOptions) -> int:
    """Print the comparison, and return 1 if the second revision fails a check, else 0.

    Raises:
        ParamsError: if there is no such revision.
        HostError: if a revision's predictions are not available.
        DataError: if the two have other test rows.
        ModelError: if their classes differ.
    """
    seed = load_params().seed
    first, second = read_pair(options.revisions, FILES[options.model])
    right = [(frame["label"] == frame["predicted"]).to_numpy() for frame in (first, second)]
    gain = paired_gain(right[0], right[1], seed)
    names = (printable(options.revisions[0], 40), printable(options.revisions[1], 40))
    if options.as_json:
        print(json.dumps(as_object(gain, names, options.model), indent=2, ensure_ascii=False))
    elif options.as_markdown:
        print(as_markdown(gain, names, options.model))
    else:
        print_table(gain, names, options.model)
    failures = failed_checks(gain, options)
    sys.stdout.flush()
    for failure in failures:
        print(f"check failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def read_pair(revisions: tuple[str, str], path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both revisions' predictions, row by row of the same test row."""
    first, second = (predictions_of(revision, path) for revision in revisions)
    names = (printable(revisions[0]), printable(revisions[1]))
    fix = "compare revisions with the same data.source, split seed and limit"
    return aligned(first, second, names, fix)


def failed_checks(gain: Gain, options: CompareOptions) -> list[str]:
    """Return a line for each check that the second revision does not pass."""
    failures = []
    under, tolerance = options.fail_under, options.tolerance
    if under is not None and gain.second < under:
        failures.append(f"accuracy {gain.second:.4f} is below --fail-under {under:g}")
    if tolerance is not None and gain.gain < -tolerance - 1e-12:
        failures.append(f"accuracy fell by {-gain.gain:.4f}, more than --tolerance {tolerance:g}")
    return failures


def intervals(gain: Gain) -> list[tuple[float, float]]:
    """Return the Wilson interval of both accuracies."""
    rights = (round(accuracy * gain.rows) for accuracy in (gain.first, gain.second))
    return [wilson(right, gain.rows) for right in rights]


def as_object(gain: Gain, names: tuple[str, str], model: str) -> dict[str, object]:
    """Return the comparison for machines; accuracies are shares."""
    lows = intervals(gain)
    return asdict(gain) | {
        "model": model,
        "revisions": list(names),
        "gain": gain.gain,
        "first_interval": list(lows[0]),
        "second_interval": list(lows[1]),
        "distinguishable": gain.distinguishable,
        "verdict": verdict(gain, names),
    }


def lines_of(gain: Gain) -> list[tuple[str, str, str]]:
    """Return (what, first, second) for a person."""
    (low, high), (other_low, other_high) = intervals(gain)
    return [
        ("accuracy", f"{100 * gain.first:.2f} %", f"{100 * gain.second:.2f} %"),
        (
            "95 % interval",
            f"{100 * low:.1f} to {100 * high:.1f} %",
            f"{100 * other_low:.1f} to {100 * other_high:.1f} %",
        ),
        ("right where the other is wrong", f"{gain.broken:,} rows", f"{gain.fixed:,} rows"),
    ]


def closing(gain: Gain) -> str:
    """Return what the rows can show at all."""
    return (
        f"difference {points(gain.gain)} points, {shown_p(gain.p)}; "
        f"the smallest that these {gain.rows:,} rows could show: {100 * gain.smallest:.1f} points"
    )


def print_table(gain: Gain, names: tuple[str, str], model: str) -> None:
    """Print the comparison for a person."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(box=None, pad_edge=False)
    table.add_column(Text(f"{model} on the same rows"))
    for name in names:
        table.add_column(Text(name), justify="right", overflow="fold")
    for line in lines_of(gain):
        table.add_row(*map(Text, line))
    console.print(table)
    console.print(Text(f"{closing(gain)}\n{verdict(gain, names)}"))


def as_markdown(gain: Gain, names: tuple[str, str], model: str) -> str:
    """Return the comparison as GitHub Markdown."""
    safe = [name.replace("|", "\\|").replace("`", "'") for name in names]
    rows = [f"| {what} | {before} | {after} |" for what, before, after in lines_of(gain)]
    head = f"| {model} on the same rows | `{safe[0]}` | `{safe[1]}` |"
    sentence = verdict(gain, (f"`{safe[0]}`", f"`{safe[1]}`"))
    return "\n".join(
        [f"**{sentence}**", "", head, "| --- | ---: | ---: |", *rows, "", closing(gain)]
    )
