"""`bert-lora push`: publish adapter or merged model, with its card, on the Hugging Face Hub."""

from __future__ import annotations

import re
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from stages.core import paths
from stages.core.artefacts import require
from stages.core.errors import ParamsError, UserError, printable
from stages.core.params import Params, load_params
from stages.running.run import set_environment, sole_run
from stages.sources.catalogue import HUB_ID
from stages.tools.project import enter_project

EXAMPLE = "Example: bert-lora push owner/name --dry-run"
NEEDED = (paths.BASE_MODEL, paths.ADAPTER, paths.MODEL_CARD, paths.TEST)

Name = Annotated[str, typer.Argument(help="Repository on the Hub.", metavar="OWNER/NAME")]
Merged = Annotated[
    bool, typer.Option("--merged", help="Push the merged model, not the adapter; see export.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List what would be uploaded, and stop.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Public = Annotated[
    bool, typer.Option("--public", help="Let everyone see it; without, it is private.")
]


def command(
    name: Name,
    merged: Merged = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    public: Public = False,
) -> None:
    """Publish the trained classifier on the Hugging Face Hub, with its model card.

    Lists what will be uploaded and asks. Private unless told otherwise. The texts of the data are
    never uploaded. HF_TOKEN holds the access token, HF_ENDPOINT the address of another Hub.
    """
    if not re.fullmatch(HUB_ID, name):
        what = f"bert-lora push: {printable(repr(name))} is no name of a repository"
        raise ParamsError(what, "give owner/name, as in: bert-lora push me/film-reviews")
    enter_project()
    params = load_params()
    for path in NEEDED:
        require(path)
    from stages.sources.hub import set_up
    from stages.sources.hub_upload import require_token, upload

    if not dry_run:
        require_token()
        if not yes and not sys.stdin.isatty():
            raise ParamsError("bert-lora push: nobody to ask on standard input", "add --yes")
    set_environment(params.compute)
    set_up()  # before the model's libraries import the Hub's, which reads the environment once
    with ExitStack() as stack:
        files = _merged(params, stack) if merged else _adapter()
        _show(name, files, public)
        if dry_run:
            print("nothing was uploaded: --dry-run")
            return
        if not yes and not typer.confirm("Upload?"):
            raise UserError("nothing was uploaded", "run again and answer y, or add --yes")
        print(f"uploaded: {upload(name, files, private=not public)}")


def _adapter() -> dict[str, Path]:
    """Return the adapter's files, checked against its manifest."""
    from stages.model.saved import check_adapter, read_manifest
    from stages.serving.published import OF_ADAPTER, files_to_publish

    check_adapter(read_manifest(paths.ADAPTER)["labels"], paths.ADAPTER, paths.BASE_MODEL)
    return files_to_publish(paths.ADAPTER, OF_ADAPTER)


def _merged(params: Params, stack: ExitStack) -> dict[str, Path]:
    """Return the files of a merged folder, made and checked in a temporary place."""
    from stages.serving.export import Wanted, write_export
    from stages.serving.published import OF_MERGED, files_to_publish

    place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bert-lora-push-")))
    with sole_run("export"):
        write_export(place / "merged", Wanted("merged"), params, lambda _: None)
    return files_to_publish(place / "merged", OF_MERGED)


def _show(name: str, files: dict[str, Path], public: bool) -> None:
    """Print what would be uploaded, and where."""
    print(f"to {name} on the Hub, {'public: everyone sees it' if public else 'private'}:")
    width = max(len(file) for file in files)
    for file, path in files.items():
        print(f"  {file:<{width}}  {path.stat().st_size:>13,} bytes")
    print(f"  {'together':<{width}}  {sum(p.stat().st_size for p in files.values()):>13,} bytes")
