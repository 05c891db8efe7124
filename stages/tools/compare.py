"""`bert-lora compare`: compare what two revisions recorded, row by row, with a verdict.

A revision is a commit, a tag, a branch, an experiment, or the workspace.
"""

import json
import logging
import sys
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import pandas as pd
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.scm import RevError
from rich.console import Console
from rich.markdown import Markdown

from stages.core import paths
from stages.core.artefacts import remake, require
from stages.core.errors import HostError, ParamsError, printable
from stages.core.params import Params, parse_params
from stages.reporting.records import identity_of
from stages.reporting.results import percent, shown_p, step, verdict
from stages.reporting.significance import Gain, paired_gain, wilson
from stages.running.dvc import git
from stages.scoring.predictions import aligned, read_predictions

WORKSPACE = "workspace"
Model = Literal["adapter", "base"]
FILES = {"adapter": paths.ADAPTER_PREDICTIONS, "base": paths.BASE_PREDICTIONS}


def compare(
    revisions: tuple[str, str],
    model: Model = "adapter",
    form: Literal["table", "json", "md"] = "table",
    fail_under: float | None = None,
    tolerance: float | None = None,
) -> int:
    """Print the comparison, and return 1 if the second revision fails a check, else 0.

    Args:
        revisions: the earlier one, and the one that is checked.
        model: whose predictions are compared.
        form: for a person, for a program, or for a pull request.
        fail_under: accuracy that the second one must have, as a share; None asks for none.
        tolerance: by how much accuracy may fall, as a share; None allows any fall.

    Raises:
        ParamsError: if there is no such revision.
        HostError: if a revision's predictions are not available.
        DataError: if the two have other test rows.
        ModelError: if their classes differ.
    """
    names = (printable(revisions[0], 40), printable(revisions[1], 40))
    tables = [predictions_of(revision, FILES[model]) for revision in revisions]
    fix = "compare revisions with the same data.source, split seed and limit"
    first, second = aligned(tables[0], tables[1], names, fix)
    right = [(frame["label"] == frame["predicted"]).to_numpy() for frame in (first, second)]
    gain = paired_gain(right[0], right[1])
    ends = [wilson(round(share * gain.rows), gain.rows) for share in (gain.first, gain.second)]
    if form == "json":
        found = asdict(gain) | {
            "model": model,
            "revisions": names,
            "gain": gain.gain,
            "first_interval": ends[0],
            "second_interval": ends[1],
            "distinguishable": gain.distinguishable,
            "verdict": verdict(gain, names),
        }
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        text = as_markdown(gain, ends, names, model)
        Console().print(Markdown(text)) if form == "table" else print(text)
    failures = []
    if fail_under is not None and gain.second < fail_under:
        failures.append(f"accuracy {gain.second:.4f} is below --fail-under {fail_under:g}")
    if tolerance is not None and gain.gain < -tolerance - 1e-12:
        failures.append(f"accuracy fell by {-gain.gain:.4f}, more than --tolerance {tolerance:g}")
    sys.stdout.flush()
    for failure in failures:
        print(f"check failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def as_markdown(
    gain: Gain, ends: list[tuple[float, float]], names: tuple[str, str], model: str
) -> str:
    """Return the comparison as GitHub Markdown; `ends` are those of both accuracies' intervals."""
    safe = [f"`{name.replace('|', '').replace('`', '')}`" for name in names]
    of = [f"{100 * low:.1f} to {100 * high:.1f} %" for low, high in ends]
    rows = [
        (f"{model} on the same rows", *safe),
        ("---", "---:", "---:"),
        ("accuracy", percent(gain.first), percent(gain.second)),
        ("95 % interval", *of),
        ("right where the other is wrong", f"{gain.broken:,} rows", f"{gain.fixed:,} rows"),
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        f"**{verdict(gain, (safe[0], safe[1]))}**\n\n{table}\n\n"
        f"difference {step(gain.first, gain.second)} points, {shown_p(gain.p)}; "
        f"the smallest that these {gain.rows:,} rows could show: {100 * gain.smallest:.1f} points"
    )


@dataclass(frozen=True)
class Run:
    """What an experiment recorded; `identity` is what it was made of."""

    params: Params
    precision: str
    identity: dict[str, str]
    base: pd.DataFrame
    adapter: pd.DataFrame


def predictions_of(revision: str, path: Path) -> pd.DataFrame:
    """Return the predictions that a revision recorded under `path`."""
    name = f"{printable(revision)}: {path}"
    fix = remake(path)
    if revision == WORKSPACE:
        return read_predictions(require(path), name, fix)
    return read_predictions(BytesIO(content_of(revision, path)), name, fix)


def content_of(revision: str, path: Path) -> bytes:
    """Return the bytes of a file of a revision, tracked by git or by DVC."""
    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # the errors below say it
    if not revision.strip():  # an unset variable; DVC would take it for the workspace
        raise ParamsError("a revision is empty", "name a commit, tag, branch or experiment")
    root = Path(git("rev-parse", "--show-toplevel").strip())
    inside = (Path.cwd().resolve().relative_to(root) / path).as_posix()
    try:
        # The project may be a folder of a larger repository, with a DVC of its own.
        files = DVCFileSystem(str(root), rev=revision, subrepos=True)
        known = files.info(inside)  # `exists` would hide an unknown revision
        if "md5" in known or "dvc_info" not in known:  # DVC has run it, or git keeps it
            return bytes(files.read_bytes(inside))
    except (RevError, AttributeError):  # the latter for HEAD:a/file and other git syntax
        raise ParamsError(
            f"{printable(revision)}: no such commit, tag, branch or experiment",
            "see: git log --oneline, dvc exp list --all-commits",
        ) from None
    except (OSError, DvcException) as error:
        raise HostError(
            f"{printable(revision)}: {path} is neither in git nor in the DVC cache nor in a remote",
            "fetch it: dvc fetch --all-commits, or make it there: git checkout (of an experiment: "
            "dvc exp apply), then dvc repro",
        ) from error
    raise HostError(
        f"{printable(revision)}: its dvc.lock records no {path}",
        "name a revision that ran, or run dvc repro there and commit dvc.lock",
    )


def read_run(name: str) -> Run:
    """Return what an experiment recorded.

    Raises:
        HostError: if its results are not available, or its manifest does not say how it was made.
    """
    try:
        manifest = json.loads(content_of(name, paths.ADAPTER_MANIFEST))
        precision, identity = str(manifest["precision"]), identity_of(manifest)
    except (ValueError, KeyError, TypeError):
        raise HostError(
            f"{printable(name)}: {paths.ADAPTER_MANIFEST}: records no precision, or not what it "
            "was made of",
            "run it again with the present code",
        ) from None
    return Run(
        parse_params(content_of(name, paths.PARAMS).decode(), paths.PARAMS),
        precision,
        identity,
        predictions_of(name, paths.BASE_PREDICTIONS),
        predictions_of(name, paths.ADAPTER_PREDICTIONS),
    )
