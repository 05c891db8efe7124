"""What a fault of the data says, through the whole of prepare: brief, located, safe to print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.core.errors import DataError
from stages.prepare import prepare
from tests.support.tiny import params_for

Rows = list[tuple[str, Any]]
TWO: Rows = [(f"text {number}", "pos" if number % 2 else "neg") for number in range(60)]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(rows: Rows, path: str = "mine.csv") -> Path:
    file = Path(path)
    file.parent.mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(file, index=False)
    return file


def refused(source: Path, **changes: Any) -> str:
    with pytest.raises(DataError) as caught:
        prepare(params_for(source, **changes))
    assert not Path("metrics/data.json").exists()
    return str(caught.value)


def test_a_text_repeated_a_thousand_times_is_listed_once() -> None:
    fault = refused(table([*TWO, *[("same", "pos")] * 1000, ("same", "neg")]))
    assert fault.startswith("error: mine.csv:62 and mine.csv:1062: one text with two labels")


def test_zero_width_characters_alone_are_no_text() -> None:
    fault = refused(table([*TWO, ("\u200b", "pos"), ("\u200b\u200b", "neg")]))
    assert "mine.csv: lines 62, 63: empty text" in fault


def test_a_quote_that_never_closes_is_named_by_the_row_that_opens_it() -> None:
    Path("mine.csv").write_text('text,label\na,b\n"c,d\n' + "e,f\n" * 30, encoding="utf-8")
    assert "in the row that starts on line 3" in refused(Path("mine.csv"))


def test_control_characters_of_a_path_do_not_reach_the_terminal() -> None:
    fault = refused(table([("", "pos")], "mine\x1b[2J.csv"))
    assert "\x1b" not in fault
