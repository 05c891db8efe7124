"""Each guard that is marked in stages/ has a test that needs it (.ci/remove_guards.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.scripts import load_script
from tests.support.tiny import ROOT


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Return the script that removes guards."""
    return load_script("remove_guards")


@pytest.fixture
def mark_in(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes a repository whose one stage file holds a text."""

    def write(text: str) -> Path:
        (tmp_path / "stages").mkdir()
        (tmp_path / "stages/stage.py").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def test_a_guard_without_a_test_and_a_test_without_its_guard_are_found(script: ModuleType) -> None:
    guards = {guard.name for guard in script.guards_in(ROOT)}
    assert guards == set(script.tests_of_guards(ROOT))
    assert len(guards) >= 20


def test_code_without_a_guard_still_compiles(script: ModuleType) -> None:
    for guard in script.guards_in(ROOT):
        text = (ROOT / guard.file).read_text(encoding="utf-8")
        changed = script.without(guard, text)
        assert changed != text
        compile(changed, str(guard.file), "exec")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("if x:  # guard: a\n    y()\n", "if False:\n    y()\n"),
        ("if (\n    x\n):  # guard: a\n    y()\n", None),
        ("# guard: a\nif (\n    x\n):\n    y()\n", "# guard: a\nif False:\n    y()\n"),
        ("f()  # guard: a\ng()\n", "pass\ng()\n"),
        ("# guard: a\nf(\n    1,\n)\n", "# guard: a\npass\n"),
        ("if x:\n    return_(1)  # guard: a -> return_(2)\n", "if x:\n    return_(2)\n"),
        ("with x:  # guard: a -> if True:\n    y()\n", "if True:\n    y()\n"),
        ("with x:  # guard: a\n    y()\n", None),
        ("f()  # guard: a\ng()  # guard: a\n", None),
    ],
)
def test_a_mark_replaces_its_statement_or_is_refused(
    script: ModuleType, mark_in: Callable[[str], Path], text: str, expected: str | None
) -> None:
    root = mark_in(text)
    if expected is None:
        with pytest.raises(SystemExit, match=r"^stages/stage\.py:"):
            script.guards_in(root)
    else:
        (guard,) = script.guards_in(root)
        assert script.without(guard, text) == expected
