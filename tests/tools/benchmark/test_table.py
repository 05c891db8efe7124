"""The table of results: a line for each contender that was measured."""

from __future__ import annotations

import json

from stages.tools.benchmark.table import NAMES, table_of
from tests.support.tiny import ROOT


def test_the_committed_results_are_a_table_of_five_columns() -> None:
    results = json.loads((ROOT / "metrics/benchmark.json").read_text(encoding="utf-8"))
    lines = table_of(results).split("\n\n")[0].splitlines()
    assert {line.count("|") for line in lines} == {6}
    for what in ("training", "scoring"):
        names = [name for name in NAMES if f"{what}: *{name}*" in "\n".join(lines)]
        assert names == [name for name in NAMES if name in results[what]]
        ours = results[what]["ours"]
        assert f"| {what}: *ours* | {ours['median']:.0f} |" in "\n".join(lines)
