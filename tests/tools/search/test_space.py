"""The search space: what it takes, what it refuses, and what a suggestion means."""

from __future__ import annotations

import re
from typing import Any

import pytest

from stages.core.errors import ParamsError
from stages.core.params import Params
from stages.tools.search.command import read_settings
from stages.tools.search.space import check_space, value_at, with_values
from tests.support.tiny import save_params, shipped

WHERE = "params.yaml: search"


def faults(entries: dict[str, Any]) -> list[str]:
    with pytest.raises(ParamsError) as caught:
        check_space(entries, shipped(), WHERE)
    return str(caught.value).split("\n")


def test_the_shipped_space_is_accepted() -> None:
    space = check_space(shipped().search, shipped(), WHERE)
    assert [entry.path for entry in space] == list(shipped().search)


@pytest.mark.parametrize(
    ("path", "content", "suggested", "value"),
    [
        ("train.learning_rate", {"low": 1e-4, "high": 1e-2, "log": True}, 0.00123456, 0.001235),
        ("lora.r", {"low": 4, "high": 64}, 7, 7),
        ("lora.r", {"low": 8, "high": 64, "step": 8}, 16, 16),
        ("lora.lora_dropout", {"low": 0, "high": 0.3}, 0.12, 0.12),
        ("lora.target_modules", {"choices": ["attention", ["query"]]}, '["query"]', ["query"]),
        ("train.attention_dropout", {"choices": [None, 0.0]}, "null", None),
    ],
)
def test_a_suggestion_becomes_a_value_and_back(
    path: str, content: dict[str, Any], suggested: Any, value: Any
) -> None:
    (entry,) = check_space({path: content}, shipped(), WHERE)
    assert entry.distribution()._contains(entry.distribution().to_internal_repr(suggested))
    assert entry.value_of(suggested) == value
    assert type(entry.value_of(suggested)) is type(value)
    assert value_at(with_values(shipped(), {path: value}), path) == value
    assert entry.value_of(entry.suggestion_of(value)) == value


@pytest.mark.parametrize(
    ("path", "content", "value"),
    [
        ("lora.r", {"low": 8, "high": 64, "step": 8}, 12),
        ("lora.r", {"low": 8, "high": 64}, 65),
        ("train.schedule", {"choices": ["linear", "cosine"]}, "constant"),
        ("train.attention_dropout", {"low": 0.0, "high": 0.2}, None),
    ],
)
def test_a_value_outside_has_no_suggestion(path: str, content: Any, value: Any) -> None:
    (entry,) = check_space({path: content}, shipped(), WHERE)
    assert entry.suggestion_of(value) is None


@pytest.mark.parametrize(
    ("path", "content", "fault"),
    [
        ("lora.rank", {"low": 1, "high": 2}, "no such param"),
        ("lora", {"choices": [1]}, "no such param"),
        ("rate", {"choices": [1]}, "no such param"),
        ("train.", {"choices": [1]}, "no such param"),
        ("seed", {"low": 1, "high": 40}, "cannot be searched: the best of several seeds is luck"),
        ("data.split_seed", {"low": 1, "high": 9}, "cannot be searched: another split"),
        ("data.test_fraction", {"choices": [0.1]}, "cannot be searched: another split"),
        ("compute.precision", {"choices": ["bf16"]}, "cannot be searched: it decides how"),
        ("model.source", {"choices": ["all-MiniLM-L6-v2"]}, "cannot be searched: search each base"),
        ("train.evaluations", {"low": 1, "high": 3}, "cannot be searched: trials are"),
        ("train.epochs", {"choices": [0, 1]}, "0 trains nothing"),
        ("train.learning_rate", {"low": 0.01, "high": 0.001}, "low 0.01 is not below high 0.001"),
        ("train.learning_rate", {"low": 0, "high": 0.1}, "0 is refused: train.learning_rate is a"),
        ("train.learning_rate", {"low": 0.1, "high": 11.0}, "11 is refused: train.learning_rate"),
        ("train.learning_rate", {"low": -1, "high": 0.1, "log": True}, "needs low above 0"),
        ("lora.r", {"low": 1, "high": 2000}, "2000 is refused: lora.r is an integer from 1 to"),
        ("lora.r", {"low": 4, "high": 8.5}, "8.5 is refused: lora.r is an integer"),
        ("lora.r", {"low": 4, "high": 8, "step": 0.5}, "step: 0.5 does not divide the range"),
        ("lora.r", {"choices": [8, "eight"]}, "eight is refused: lora.r is an integer"),
        ("lora.r", {"choices": []}, "choices: expected a list"),
        ("lora.r", {"choices": 8}, "choices: expected a list, got 8"),
        ("lora.r", {"low": 8}, "expected a range or choices"),
        ("lora.r", {"low": 8, "high": 9, "base": 2}, "expected a range or choices"),
        ("lora.r", {"low": "a", "high": 9}, "low: expected a number, got a"),
        ("lora.r", {"low": 8, "high": float("nan")}, "high: expected a number, got nan"),
        ("lora.r", {"low": 8, "high": 9, "log": "yes"}, "log: expected true or false, got yes"),
        ("lora.r", 8, "expected a range or choices, got 8"),
        ("lora.inference_mode", {"choices": [True]}, "cannot be searched"),
    ],
)
def test_what_params_yaml_would_refuse_is_refused(path: str, content: Any, fault: str) -> None:
    (line,) = faults({path: content})
    assert line.startswith(f"error: params.yaml: search.{path}: ")
    assert fault in line
    assert re.search(r"[.?] Fix: ", line)


def test_all_faults_come_together() -> None:
    lines = faults({"seed": {}, "lora.r": {"low": 0, "high": 2000}, "train.epochs": 3})
    assert [re.findall(r"search\.([\w.]+):", line) for line in lines] == [
        ["seed"],
        *[["lora.r"]] * 2,
        ["train.epochs"],
    ]


def test_an_empty_space_is_refused() -> None:
    (line,) = faults({})
    assert "nothing to choose" in line


@pytest.mark.usefixtures("tmp_cwd")
def test_overrides_change_params_and_space(params: Params) -> None:
    save_params(params)
    changed, entries, where = read_settings(
        ("train.epochs=3", "search.lora.r={choices: [4, 8]}"), None
    )
    assert changed.train.epochs == 3
    assert entries["lora.r"] == {"choices": [4, 8]}
    assert set(entries) == set(params.search)
    assert where == WHERE


@pytest.mark.usefixtures("tmp_cwd")
@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("train.epochs", "give KEY=VALUE"),
        ("=3", "give KEY=VALUE"),
        ("train.epoch=3", "no such param"),
        ("train.epochs=three", "valid integer"),
        ("train.epochs=0", "trains nothing"),
        ("lora.r=[", "not valid YAML"),
    ],
)
def test_a_wrong_override_is_refused(params: Params, override: str, fault: str) -> None:
    save_params(params)
    with pytest.raises(ParamsError, match=re.escape(fault)):
        read_settings((override,), None)
