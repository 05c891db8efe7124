"""`bert-lora serve`: answer over HTTP, with a page for people."""

from __future__ import annotations

import ipaddress
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stages.core import paths
from stages.core.artefacts import require
from stages.core.errors import HostError, ModelError, printable
from stages.core.params import ComputeParams, load_params
from stages.running.run import set_environment
from stages.serving.http.limits import Limits
from stages.tools.project import enter_models

if TYPE_CHECKING:  # heavy libraries are imported once the options have been checked
    from stages.serving.served import Served

EXAMPLE = "Example: bert-lora serve --port 8080"
EXTRA = ("fastapi", "uvicorn", "prometheus_client", "captum")
AUTO = ComputeParams(device="auto", precision="auto", threads="auto")
DEFAULT = Limits()
LOCAL = ("localhost", "127.0.0.1", "::1")

Folder = Annotated[
    Path | None,
    typer.Argument(
        help="An adapter, or what `bert-lora export` wrote; by default models/adapter.",
        metavar="FOLDER",
        resolve_path=True,
    ),
]
Host = Annotated[str, typer.Option(help="Address; 0.0.0.0 is every one of this machine.")]
Port = Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 chooses a free one.")]
WithBase = Annotated[
    bool | None,
    typer.Option(
        "--base/--no-base",
        help="Answer for the base too; by default beside an adapter, not an export.",
        show_default=False,
    ),
]
WithExamples = Annotated[
    bool | None,
    typer.Option(
        "--examples/--no-examples",
        help="Show test rows on the page; by default on a loopback address alone.",
        show_default=False,
    ),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        help="Another name that requests may give the server; may be repeated. By default its "
        "own on a loopback address, and any on others.",
        metavar="NAME",
    ),
]


def _limit(text: str, most: int) -> Any:
    return typer.Option(min=1, max=most, help=text)


def command(
    folder: Folder = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    base: WithBase = None,
    examples: WithExamples = None,
    allow_host: AllowHost = None,
    max_body: Annotated[int, _limit("Bytes of a request.", 1 << 30)] = DEFAULT.body_bytes,
    max_texts: Annotated[int, _limit("Texts of a request.", 100_000)] = DEFAULT.texts,
    max_characters: Annotated[int, _limit("Of a text.", 10_000_000)] = DEFAULT.characters,
    max_waiting: Annotated[int, _limit("Texts that wait; more get 503.", 1_000_000)] = (
        DEFAULT.waiting
    ),
    max_batch: Annotated[int, _limit("Texts computed together.", 10_000)] = DEFAULT.batch,
) -> int:
    """Answer over HTTP: POST /predict, a page on /, the interface on /docs.

    Ctrl-C or SIGTERM ends it once all accepted requests are answered.
    """
    limits = Limits(max_body, max_texts, max_characters, max_waiting, max_batch)
    limits.check()
    check_extra()
    wanted = enter(folder)
    compute = load_params().compute if paths.PARAMS.exists() else AUTO
    if wanted is None:
        require(paths.ADAPTER)
        require(paths.BASE_MODEL)
    set_environment(compute)

    from stages.serving.examples import read_examples
    from stages.serving.http.run import listen, run, url_of
    from stages.serving.http.service import Service

    listener = listen(host, port)
    shows = is_loopback(host) if examples is None else examples
    rows = read_examples(paths.FLIPS) if shows else {}
    served = load(wanted, compute, base)
    service = Service(served, limits, rows, hosts_of(host, allow_host or []))
    service.batcher.call(lambda: served.model.score(["warm up"])).result()
    name = printable(wanted or paths.ADAPTER, 200)
    where = f"{url_of(listener)} (page: /, interface: /docs)"
    print(f"serving {name} at {where}", file=sys.stderr, flush=True)
    return run(service, listener)


def check_extra() -> None:
    """Check that the packages of the extra are installed.

    Raises:
        HostError: if one is missing.
    """
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        what = f"bert-lora serve: {', '.join(missing)} not installed"
        raise HostError(what, "run: pip install -e '.[serve]' -c .github/constraints.txt")


def enter(folder: Path | None) -> Path | None:
    """Make the folder with models/ the working folder, and return what to serve there.

    Args:
        folder: absolute; a project, its models/adapter, or an export.

    Returns:
        None for models/adapter, otherwise the export's folder.

    Raises:
        HostError: if there is no such folder.
        ModelError: if it is nothing that can be served.
    """
    if folder is None:
        enter_models()
        return None
    if not folder.is_dir():
        what = f"bert-lora serve: {printable(folder, 200)}: no such folder"
        raise HostError(what, "name a folder of bert-lora export, or leave it out for models/")
    adapter = folder if (folder / paths.ADAPTER_MANIFEST.name).is_file() else folder / paths.ADAPTER
    if not (adapter / paths.ADAPTER_MANIFEST.name).is_file():
        enter_models()
        return folder
    root = adapter.parents[1]
    if root / paths.ADAPTER != adapter:
        what = f"{printable(adapter, 200)}: an adapter outside models/adapter has no base beside it"
        raise ModelError(what, "export it (bert-lora export), and serve the export")
    os.chdir(root)
    return None


def load(folder: Path | None, compute: ComputeParams, base: bool | None) -> Served:
    """Return what to serve.

    Raises:
        HostError: if a folder is missing.
        ModelError: if a file is damaged.
    """
    if folder is None:
        from stages.serving.served import serve_adapter

        return serve_adapter(compute, paths.HEAD.is_dir() if base is None else base)
    from stages.serving.served_export import serve_export

    return serve_export(folder, compute, bool(base))


def hosts_of(host: str, allowed: list[str]) -> frozenset[str] | None:
    """Return the names that requests may give the server, None for any."""
    if not is_loopback(host) and not allowed:
        return None
    return frozenset(name.lower() for name in (*LOCAL, host, *allowed))


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
