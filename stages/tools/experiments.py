"""DVC experiments: run one, list those of the present commit, tell whether the project changed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.tools.git import git

# What a run does not depend on: results, documentation, tests and CI.
UNREAD = (":!metrics", ":!dvc.lock", ":!README.md", ":!tests", ":!.github", ":!.ci")


def experiments_of_head() -> set[str]:
    """Return the names of the experiments that the present commit has.

    Raises:
        HostError: if this is no git clone.
    """
    commit = git("rev-parse", "HEAD").strip()
    lines = git("for-each-ref", "--format=%(refname)", f"refs/exps/{commit[:2]}/{commit[2:]}/")
    return {line.rpartition("/")[2] for line in lines.splitlines()}


def state_of(overrides: tuple[str, ...]) -> tuple[str, str]:
    """Return the last commit, and 8 hex digits of the overrides and every change since then.

    The user's own data counts too: git does not see it, but DVC takes it along into an experiment.
    """
    changes = git("diff", "HEAD", "--", ".", *UNREAD)
    files = (path for path in sorted(paths.RAW.rglob("*")) if path.is_file())
    data = [(path.as_posix(), sha256_of(path)) for path in files if path.suffix != ".dvc"]
    mark = hashlib.sha256(json.dumps([overrides, changes, data]).encode()).hexdigest()[:8]
    return git("rev-parse", "HEAD").strip(), mark


def dvc(*arguments: str) -> int:
    """Run a DVC command, whose output is the user's to see, and return its exit code."""
    with subprocess.Popen([sys.executable, "-m", "dvc", *arguments]) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            # The terminal interrupts DVC too, which ends the stage and clears up after itself.
            child.wait()
            print("interrupted: the same command continues from here", file=sys.stderr)
            raise
