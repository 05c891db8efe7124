"""The physical limit: the least work of a row, counted by hand."""

from __future__ import annotations

import pytest

from stages.tools.benchmark.limit import least_work, multiplication_rate
from stages.tools.benchmark.setting import Setting


def test_the_least_work_by_hand(setting: Setting) -> None:
    lengths = [len(text.split()) + 2 for text in setting.train.texts]
    tokens = sum(lengths) / len(lengths)
    squares = sum(length**2 for length in lengths) / len(lengths)
    frozen = 2 * tokens * 2 * (4 * 32 * 32 + 2 * 32 * 64)  # two layers of hidden size 32
    trained = 2 * tokens * 2 * 3 * 2 * 4 * 32  # r 4 on query, key and value
    attention = 2 * 4 * squares * 32
    found = least_work(setting)
    assert found["scoring"] == pytest.approx(frozen + attention)
    assert found["training"] == pytest.approx(2 * frozen + 3 * trained + 3 * attention)


def test_the_machine_multiplies_at_some_rate(setting: Setting) -> None:
    assert multiplication_rate(setting) > 1e6  # operations a second
