"""Remove each marked guard in turn, in a copy of the last commit, and show that its tests fail.

    python .ci/remove_guards.py [WORD]     # only the guards whose name holds the word

A guard is a check that the tests must miss. A comment marks it, on its first line or alone on the
line above it:

    if free < size + SPARE:  # guard: free space

Without it, an `if` reads `if False:` and any other statement `pass`. Where that would not do, the
comment gives what takes the statement's place (the first line of a compound statement's):

    return seal == hashes  # guard: complete checkpoint -> return True

The tests that need the guard have the marker `@pytest.mark.guard("free space")`. The script takes
some minutes, and ends with exit code 1 if the tests of a guard pass without it.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARK = re.compile(r"# guard: (?P<name>[^>]+?)(?: -> (?P<instead>.+))?$")


@dataclass(frozen=True)
class Guard:
    """A marked statement.

    Attributes:
        name: as the mark has it.
        file: relative to the repository.
        first: its first line, counted from 1.
        last: the last line to replace.
        instead: what takes the place of these lines, without indentation.
    """

    name: str
    file: Path
    first: int
    last: int
    instead: str


def guards_in(root: Path) -> list[Guard]:
    """Return the guards that are marked in stages/, in the order of the files.

    Raises:
        SystemExit: if a mark belongs to no statement, or two have one name.
    """
    guards: dict[str, Guard] = {}
    for path in sorted((root / "stages").rglob("*.py")):
        for guard in _guards_of(path.relative_to(root), path.read_text(encoding="utf-8")):
            if guard.name in guards:
                sys.exit(f"{guard.file}:{guard.first}: another guard is named {guard.name!r}")
            guards[guard.name] = guard
    return list(guards.values())


def _guards_of(file: Path, text: str) -> Iterator[Guard]:
    statements = {
        node.lineno: node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt)
    }
    for number, line in enumerate(text.splitlines(), start=1):
        mark = MARK.search(line)
        if mark is None:
            continue
        first = number + 1 if line.lstrip().startswith("#") else number
        statement = statements.get(first)
        if statement is None:
            sys.exit(f"{file}:{number}: no statement starts at this mark")
        body = getattr(statement, "body", None)
        last = body[0].lineno - 1 if body else statement.end_lineno or first
        instead = mark["instead"] or ("if False:" if isinstance(statement, ast.If) else "pass")
        if body and not instead.endswith(":"):
            sys.exit(f"{file}:{number}: give what takes the place of this line, after ' -> '")
        yield Guard(mark["name"], file, first, last, instead)


def without(guard: Guard, text: str) -> str:
    """Return a file's text without one of its guards."""
    lines = text.splitlines()
    indent = re.match(r" *", lines[guard.first - 1])
    lines[guard.first - 1 : guard.last] = [(indent[0] if indent else "") + guard.instead]
    return "\n".join(lines) + "\n"


def tests_of_guards(root: Path) -> dict[str, list[str]]:
    """Return the ids of the tests that have a guard's marker, by the guard's name."""
    tests: dict[str, list[str]] = defaultdict(list)
    for path in sorted((root / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            test = f"{path.relative_to(root).as_posix()}::{node.name}"
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.guard":
                    tests[ast.literal_eval(call.args[0])].append(test)
    return dict(tests)


def fails_without(guard: Guard, tests: list[str], folder: Path) -> bool:
    """Return whether a test fails in a clone of the repository once the guard is removed."""
    path = folder / guard.file
    text = path.read_text(encoding="utf-8")
    path.write_text(without(guard, text), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-x", "-m", "slow or not slow", *tests]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True)
    path.write_text(text, encoding="utf-8")
    return done.returncode == 1  # 0: all passed; 2 to 5: they did not run


def main(word: str = "") -> None:
    """Remove every guard whose name holds the word, one at a time."""
    missed = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "copy"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)  # noqa: S607  # git by name
        tests = tests_of_guards(folder)
        guards = [guard for guard in guards_in(folder) if word in guard.name]
        for number, guard in enumerate(guards, start=1):
            failed = fails_without(guard, tests.get(guard.name, []), folder)
            state = "fails" if failed else "PASSES"
            print(f"{number}/{len(guards)} {state} without: {guard.name}", flush=True)
            missed += [] if failed else [guard.name]
    sys.exit(f"no test fails without: {', '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
