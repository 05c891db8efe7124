"""`bert-lora export`: the trained classifier as a folder that other tools take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stages.core import paths
from stages.core.artefacts import require
from stages.core.errors import ParamsError, printable
from stages.core.params import load_params
from stages.reporting.significance import ALPHA
from stages.running.run import set_environment, sole_run
from stages.tools.project import enter_project

if TYPE_CHECKING:  # heavy libraries are imported once the options have been checked
    from stages.serving.export_check import Check

EXAMPLE = "Example: bert-lora export models/onnx --format onnx --int8"
NEEDED = (paths.BASE_MODEL, paths.ADAPTER, paths.ADAPTER_METRICS, paths.TEST)

Folder = Annotated[
    Path, typer.Argument(help="Folder to make.", metavar="FOLDER", resolve_path=True)
]
Form = Annotated[
    Literal["merged", "onnx"],
    typer.Option(
        "--format",
        help="merged: a Transformers folder, LoRA merged into the weights. "
        "onnx: one file for ONNX Runtime, without torch.",
    ),
]
Int8 = Annotated[bool, typer.Option("--int8", help="8-bit weights; with --format onnx.")]
Tolerance = Annotated[
    float | None,
    typer.Option(
        help="Largest difference of a logit from the adapter's; beyond it nothing is written and "
        "the exit code is 1. By default 0.001, and no limit with --int8.",
        metavar="X",
        min=0,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an export that is there.")]


def command(
    folder: Folder,
    form: Form = "merged",
    int8: Int8 = False,
    tolerance: Tolerance = None,
    force: Force = False,
) -> None:
    """Export the trained classifier as a folder that other tools take.

    Before it is put in place it is checked against the adapter, on the test rows, in a fresh
    process; export.json in the folder has the figures, and so has metrics/exports.json.
    """
    if int8 and form != "onnx":
        raise ParamsError("bert-lora export: --int8 without --format onnx", "add --format onnx")
    enter_project()
    params = load_params()
    for path in NEEDED:
        require(path)
    # Heavy libraries are imported once the params have been checked.
    from stages.model.saved import read_manifest
    from stages.reporting.export_records import record_export
    from stages.serving.export import Wanted, check_target, write_export

    check_target(folder, force)
    set_environment(params.compute)
    if form == "onnx":
        from stages.serving.onnx_graph import check_installed

        check_installed()
    with sole_run("export"):
        check_target(folder, force)
        found = write_export(folder, Wanted(form, int8, tolerance), params, _say)
        name = f"{form} {'int8' if int8 else 'fp32'}"
        record_export(name, read_manifest(paths.ADAPTER)["files"], found.content())
    show(found)
    print(f"{paths.EXPORTS} holds this; dvc repro compare brings it into the report")
    print(f"{printable(folder)}: written")


def _say(what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)


def rows_of(found: Check) -> list[tuple[str, str]]:
    """Return the figures of a check as a person reads them."""
    return [
        ("test rows", f"{found.rows:,}"),
        ("largest difference of a logit", f"{found.largest_difference:.2g}"),
        ("rows with another label", f"{found.flipped:,}"),
        ("accuracy", f"{found.accuracy:.2%}, adapter {found.adapter_accuracy:.2%}"),
        ("only this right, only the adapter", f"{found.fixed:,}, {found.broken:,}"),
        ("exact McNemar p-value", f"{found.mcnemar_p:.3g}"),
        ("rows a second", f"{found.rows_per_second:,.0f}, threads: {found.threads}"),
        ("one text alone", f"{found.single_ms:.1f} ms"),
        ("size", f"{found.bytes / 1e6:.1f} MB"),
    ]


def show(found: Check) -> None:
    """Print the figures, one a line, and a warning if the export is worse than the adapter."""
    rows = rows_of(found)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    if found.broken > found.fixed and found.mcnemar_p < ALPHA:
        what = f"beyond chance: {found.broken} rows broken, {found.fixed} fixed"
        print(f"warning: less accurate than the adapter, {what}", file=sys.stderr)
