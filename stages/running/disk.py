"""Check that the disk has room, since DVC does not: a full cache ends in exit code 0.

DVC 3.67 prints an error when its cache cannot take an output, but records the run as done, and a
later checkout may remove the only copy. So a stage checks before it works, and again when it
knows what it wrote.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.core.errors import HostError, printable
from stages.running.dvc_files import bytes_recorded, bytes_written

SPARE = 20_000_000  # bytes: what else a run writes, from locks to logs


def cache_folder() -> Path:
    """Return the folder of DVC's cache, wherever the user's configuration puts it.

    Raises:
        HostError: if this is no DVC repository, or its configuration is damaged.
    """
    from dvc.config import Config, ConfigError

    home = Path(".dvc").absolute()
    if not home.is_dir():
        raise HostError(".dvc: not found", "work in a git clone of the project")
    try:
        folder = Config(dvc_dir=str(home))["cache"].get("dir")
    except ConfigError as error:
        what = f".dvc/config: {printable(error, 200)}"
        raise HostError(what, "correct it, or run: git checkout .dvc/config") from None
    return Path(folder) if folder else home / "cache"


@contextmanager
def enough_room(stage: str) -> Iterator[None]:
    """Check before the block for the size last written, and after it for the size written now.

    Does nothing where DVC does not run the stage: then nothing goes into its cache.

    Raises:
        HostError: if workspace or cache lack the room.
    """
    if "DVC_STAGE" not in os.environ:
        yield
        return
    cache = cache_folder()
    require_room(bytes_recorded(stage), Path(), cache)
    yield
    require_room(bytes_written(stage), cache)


def require_room(size: int, *folders: Path) -> None:
    """Check that each folder's file system has room for so many bytes, and some to spare.

    Raises:
        HostError: naming the first folder that lacks it.
    """
    for folder in folders:
        free = room(folder)
        if free < size + SPARE:  # guard: free space
            raise HostError(
                f"{printable(folder)}: {free / 1e6:,.0f} MB free, "
                f"{(size + SPARE) / 1e6:,.0f} MB are needed",
                "free some space there (dvc gc --workspace drops what no longer counts), "
                "and run again",
            )


def room(folder: Path) -> int:
    """Return the free bytes of the file system that the folder is on, or will be on."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
