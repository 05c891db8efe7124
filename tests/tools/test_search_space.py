"""What `bert-lora search` takes as space and settings, and what it refuses before it starts."""

import json
import re
from typing import Any

import pytest
from optuna.trial import FixedTrial

from stages.core import paths
from stages.core.errors import ParamsError
from stages.core.params import Params
from stages.tools.search_space import Options, check_space, read_settings, suggested, value_at
from tests.support.tiny import changed, save_params, shipped


def options(*overrides: str, **values: Any) -> Options:
    """Return what a user types who asks for three trials."""
    typed: dict[str, Any] = {
        "trials": 3,
        "minutes": None,
        "workers": 1,
        "overrides": list(overrides),
        "storage": "sqlite:///studies.db",
        "top": 1,
        "seeds": 2,
    }
    return Options(**typed | values)


def test_the_shipped_space_is_accepted() -> None:
    assert list(check_space(shipped().search, shipped())) == list(shipped().search)


@pytest.mark.parametrize(
    ("path", "content", "text", "value"),
    [
        ("train.learning_rate", {"low": 1e-4, "high": 1e-2, "log": True}, 0.00123456, 0.001235),
        ("lora.r", {"low": 8, "high": 64, "step": 8}, 16, 16),
        ("lora.lora_dropout", {"low": 0, "high": 0.3}, 0.12, 0.12),
        ("lora.target_modules", {"choices": ["attention", ["query"]]}, '["query"]', ["query"]),
        ("train.attention_dropout", {"choices": [None, 0]}, "0.0", 0.0),
        ("peft.r", {"choices": [8, 16]}, "16", 16),  # a field of its type, not of params.yaml
    ],
)
def test_a_suggestion_becomes_a_value(
    path: str, content: dict[str, Any], text: Any, value: Any
) -> None:
    choice = check_space({path: content}, shipped())[path]
    found = suggested(FixedTrial({path: text}), path, choice)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("path", "content", "fault"),
    [
        ("lora.rank", {"low": 1, "high": 2}, "no such param, did you mean lora.r"),
        ("seed", {"low": 1, "high": 40}, "cannot be searched: the best of several seeds is luck"),
        ("data.split_seed", {"low": 1, "high": 9}, "cannot be searched: another split"),
        ("compute.precision", {"choices": ["bf16"]}, "cannot be searched: it decides how"),
        ("model.source", {"choices": ["all-MiniLM-L6-v2"]}, "cannot be searched: search each base"),
        ("train.epochs", {"choices": [0, 1]}, "0 trains nothing"),
        ("train.learning_rate", {"low": 0.01, "high": 0.001}, "`low <= high` must hold"),
        ("train.learning_rate", {"low": 0, "high": 0.1}, "0 is refused: Input should be greater"),
        ("lora.r", {"low": 4, "high": 8.5}, "8.5 is refused: Input should be a valid integer"),
        ("lora.r", {"low": 4, "high": 8, "step": 0.5}, "step: expected an integer, got 0.5"),
        ("lora.r", {"choices": []}, "must contain one or more"),
        ("lora.r", {"choices": 8}, "choices: expected a list, got 8"),
        ("lora.r", {"low": 8, "high": 9, "base": 2}, "expected a range or choices"),
        ("lora.r", {"low": 8, "high": 9, "log": "yes"}, "log: expected true or false, got yes"),
        ("lora.r", 8, "expected a range or choices, got 8"),
    ],
)
def test_what_params_yaml_would_refuse_is_refused(path: str, content: Any, fault: str) -> None:
    with pytest.raises(ParamsError) as caught:
        check_space({path: content}, shipped())
    (line,) = str(caught.value).split("\n")
    assert line.startswith(f"error: params.yaml: search.{path}: ")
    assert fault in line
    assert re.search(r"[.?] Fix: ", line)


def test_all_faults_come_together_and_nothing_is_one() -> None:
    with pytest.raises(ParamsError) as caught:
        check_space({"seed": {}, "lora.r": {"low": 0, "high": 20}, "x": 3}, shipped())
    assert re.findall(r"search\.([\w.]+):", str(caught.value)) == ["seed", "lora.r", "x"]
    with pytest.raises(ParamsError, match="nothing to choose"):
        check_space({}, shipped())


@pytest.mark.usefixtures("tmp_cwd")
def test_overrides_change_params_and_space(params: Params) -> None:
    save_params(params)
    settings = read_settings(options("train.epochs=3", "search.lora.r={choices: [4, 8]}"))
    assert settings.params.train.epochs == 3
    assert settings.entries == params.search | {"lora.r": {"choices": [4, 8]}}
    assert list(settings.space) == list(params.search)


@pytest.mark.usefixtures("tmp_cwd")
@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("train.epochs", "give KEY=VALUE"),
        ("train.epoch=3", "no such param, did you mean train.epochs?"),
        ("train.batch_size=three", "valid integer"),
        ("train.epochs=0", "trains nothing"),
        ("lora.r=[", "not valid YAML"),
        ("tfidf.c=[1]", "has no effect: no training depends on it"),
        ("compute.processes=2", "has no effect: a trial is one process; give --workers N"),
        ("data.split_seed=1", "data and base model were prepared with 42"),
        ("model.source=x", 'dvc exp run -S model.source="x" prepare fetch_base'),
    ],
)
def test_an_override_that_is_wrong_or_has_no_effect_is_refused(
    params: Params, override: str, fault: str
) -> None:
    save_params(params)
    with pytest.raises(ParamsError, match=re.escape(fault)):
        read_settings(options(override))


@pytest.mark.usefixtures("tmp_cwd")
def test_what_was_prepared_stands_in_the_lock(params: Params) -> None:
    limited = changed(params, data__limit=30)
    read = {"prepare": {"data": limited.data.model_dump()},
            "fetch_base": {"model.source": params.model.source}}  # fmt: skip
    stages = {stage: {"params": {"params.yaml": content}} for stage, content in read.items()}
    paths.LOCK.write_text(json.dumps({"stages": stages}), encoding="utf-8")  # JSON is YAML
    save_params(params)
    with pytest.raises(ParamsError, match=r"with 30\. Fix: first run: dvc repro prepare"):
        read_settings(options())
    save_params(limited)
    assert read_settings(options("data.max_length=16")).params.data.limit == 30
    assert value_at(limited, "data.limit") == 30
