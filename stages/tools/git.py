"""Ask git what the subcommands need to know."""

from __future__ import annotations

import subprocess

from stages.core.errors import HostError, printable


def git(*arguments: str) -> str:
    """Return what a git command prints.

    Raises:
        HostError: if it fails.
    """
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, errors="replace")  # noqa: S607  # git as the user has it
    if done.returncode:
        raise HostError(
            f"git {arguments[0]}: {printable(done.stderr.strip(), 200)}",
            "work in a git clone of the project",
        )
    return done.stdout
