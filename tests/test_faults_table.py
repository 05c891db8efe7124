"""The table in tests/faults/README.md names each test of a fault, and none that is not there."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

from tests.support.tiny import ROOT

FAULTS = ROOT / "tests/faults"


def names_in(folder: Path) -> set[str]:
    return {
        node.name
        for file in folder.rglob("test_*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_the_table_names_every_test_of_a_fault_once_and_others_that_are_there() -> None:
    named = Counter(re.findall(r"`(test_\w+)`", (FAULTS / "README.md").read_text(encoding="utf-8")))
    assert names_in(FAULTS) <= set(named) <= names_in(ROOT / "tests")
    assert [name for name, times in named.items() if times > 1] == []
