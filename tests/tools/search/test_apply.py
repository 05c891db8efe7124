"""Values written into params.yaml: nothing else in the file changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import ParamsError
from stages.core.params import load_params
from stages.tools.search.apply import apply
from stages.tools.search.space import value_at
from tests.support.bad_params import LINES, SHIPPED, line_of

FILE = Path("params.yaml")


@pytest.mark.usefixtures("tmp_cwd")
@pytest.mark.parametrize(
    ("path", "value", "typed"),
    [
        ("train.learning_rate", 0.0004, "0.0004"),
        ("train.learning_rate", 5e-05, "5e-05"),
        ("lora.target_modules", "attention", "attention"),
        ("lora.target_modules", ["query", "value"], '["query", "value"]'),
        ("lora.modules_to_save", None, "null"),
        ("lora.use_dora", True, "true"),
        ("head.l2", [0.5], "[0.5]"),
    ],
)
def test_one_value_changes_and_no_other_byte(path: str, value: Any, typed: str) -> None:
    FILE.write_text(SHIPPED, encoding="utf-8")
    apply({path: value}, FILE)
    lines = FILE.read_text(encoding="utf-8").split("\n")
    at = line_of(path)
    assert lines[:at] + lines[at + 1 :] == SHIPPED.split("\n")[:at] + SHIPPED.split("\n")[at + 1 :]
    assert lines[at] == f"{LINES[at].partition(':')[0]}: {typed}"
    assert value_at(load_params(FILE), path) == value


@pytest.mark.usefixtures("tmp_cwd")
def test_a_block_a_comment_behind_the_value_and_windows_lines_stay() -> None:
    text = SHIPPED.replace("  l2: [0.00001, 0.0001, 0.001]", "  l2:\n    - 0.1\n    - 1  # large")
    text = text.replace("  epochs: 2", "  epochs: 2  # two").replace("\n", "\r\n")
    FILE.write_bytes(text.encode())
    apply({"head.l2": [0.5], "train.epochs": 3}, FILE)
    after = FILE.read_bytes().decode()
    assert after == text.replace("epochs: 2 ", "epochs: 3 ").replace(
        "    - 0.1\r\n    - 1  # large\r\n", "    [0.5]\r\n"
    )
    assert load_params(FILE).head.l2 == [0.5]


@pytest.mark.usefixtures("tmp_cwd")
@pytest.mark.parametrize(
    ("changes", "fault"),
    [({"lora.rank": 3}, "has no key lora.rank"), ({"lora.r": 0}, "lora.r: expected an integer")],
)
def test_a_wrong_change_leaves_the_file_as_it_is(changes: dict[str, Any], fault: str) -> None:
    FILE.write_text(SHIPPED, encoding="utf-8")
    with pytest.raises(ParamsError, match=fault):
        apply({"train.epochs": 3, **changes}, FILE)
    assert FILE.read_text(encoding="utf-8") == SHIPPED
