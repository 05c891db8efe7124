"""The table in tests/faults/README.md names the tests of faults, each of them and no other."""

from __future__ import annotations

import ast
import re
from collections import Counter

from tests.support.tiny import ROOT

FAULTS = ROOT / "tests/faults"


def test_the_table_names_every_test_of_a_fault_once_and_no_other() -> None:
    named = Counter(re.findall(r"`(test_\w+)`", (FAULTS / "README.md").read_text(encoding="utf-8")))
    present = {
        node.name
        for file in FAULTS.glob("test_*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert set(named) == present
    assert [name for name, times in named.items() if times > 1] == []
