"""The search space: params of params.yaml, each with a range or choices, and what they mean.

An entry has one of two forms, under the param's dotted path:

    train.learning_rate: {low: 0.0003, high: 0.003, log: true}    integers at both ends: an integer
    lora.target_modules: {choices: [attention, mlp, all-linear]}
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from stages.core.errors import ParamsError, printable
from stages.core.params import Params
from stages.core.params_errors import parse_yaml, read_text, resolve
from stages.reporting.search_records import shown

if TYPE_CHECKING:  # heavy libraries are imported once the params have been checked
    from optuna.distributions import BaseDistribution

# What a search may not choose, and why.
REFUSED = {
    "seed": "the best of several seeds is luck, not a setting",
    "data": "another split or other rows give scores that cannot be compared",
    "compute": "it decides how results are computed, not how good they are",
    "tfidf": "no training depends on it",
    "search": "it is the space itself",
    "model.source": "search each base model apart: -S model.source=NAME",
    "train.evaluations": "trials are compared at their evaluation steps",
    "lora.task_type": "it is fixed",
    "lora.inference_mode": "training needs false",
}
RANGE, CHOICES = {"low", "high"}, {"choices"}
FORMS = "{low: ..., high: ...}, with log: true or step: ... if wanted, or {choices: [...]}"


@dataclass(frozen=True)
class Entry:
    """One param to choose.

    Attributes:
        path: the param's dotted path.
        values: its choices; None for a range.
        low: the range's lower end.
        high: its upper end.
        log: whether it is searched on a logarithmic scale.
        step: the distance of two values, None for any.
    """

    path: str
    values: tuple[Any, ...] | None = None
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None

    def distribution(self) -> BaseDistribution:
        """Return Optuna's distribution. A choice is its JSON text, since a list is none."""
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        if self.values is not None:
            return CategoricalDistribution([json.dumps(value) for value in self.values])
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log, step=int(self.step or 1))
        return FloatDistribution(float(self.low), float(self.high), log=self.log, step=self.step)

    def to_json(self) -> str:
        """Return Optuna's distribution as JSON, with choices in words."""
        from optuna.distributions import CategoricalDistribution, distribution_to_json

        if self.values is not None:
            return distribution_to_json(CategoricalDistribution([shown(v) for v in self.values]))
        return distribution_to_json(self.distribution())

    def value_of(self, suggested: Any) -> Any:
        """Return the param's value for what Optuna suggested; a float has four digits."""
        if self.values is not None:
            return json.loads(suggested)
        return suggested if isinstance(suggested, int) else float(f"{suggested:.4g}")

    def suggestion_of(self, value: Any) -> Any:
        """Return what Optuna would call a value of the param, None if it is outside the space."""
        if self.values is not None:
            return json.dumps(value) if value in self.values else None
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        inside = number and self.low <= value <= self.high
        if not inside or not self.distribution()._contains(value):
            return None
        return value

    def words(self) -> str:
        """Return the range or the choices in words."""
        if self.values is not None:
            return ", ".join(shown(value) for value in self.values)
        scale = " (logarithmic)" if self.log else f" in steps of {self.step:g}" if self.step else ""
        return f"{shown(self.low)} to {shown(self.high)}{scale}"


def read_space(file: Path) -> dict[str, Any]:
    """Return the entries of a file, unchecked.

    Raises:
        ParamsError: if it cannot be read or is not YAML.
    """
    return parse_yaml(read_text(file), file)


def check_space(entries: Mapping[str, Any], params: Params, where: str) -> tuple[Entry, ...]:
    """Return the space, checked against the schema of params.yaml.

    Args:
        entries: range or choices by the param's path.
        params: the settings that the space changes.
        where: what an error calls the place, for example "params.yaml: search".

    Raises:
        ParamsError: with every fault.
    """
    faults: list[tuple[str, str]] = []
    space = []
    for path, content in entries.items():
        place = f"{where}.{printable(path)}"
        wrong = _wrong_path(str(path), params) or _wrong_form(content)
        if wrong:
            faults.append((f"{place}: {wrong[0]}", wrong[1]))
            continue
        entry = _entry(str(path), content)
        tried = entry.values if entry.values is not None else (entry.low, entry.high)
        if entry.path == "train.epochs" and 0 in tried:
            faults.append((f"{place}: 0 trains nothing", "take it out of the space"))
        refused = [reason for value in tried for reason in _refusals(params, entry.path, value)]
        faults += [(f"{place}: {what}", fix) for what, fix in dict.fromkeys(refused)]
        space.append(entry)
    if not entries:
        faults.append((f"{where}: nothing to choose", f"name a param: {FORMS}"))
    if faults:
        raise ParamsError.from_faults(faults)
    return tuple(space)


def with_values(params: Params, values: Mapping[str, Any]) -> Params:
    """Return the params with other values, given by dotted path.

    Raises:
        pydantic.ValidationError: if params.yaml would not take them together.
    """
    content = params.model_dump()
    for path, value in values.items():
        *sections, key = path.split(".")
        place = content
        for section in sections:
            place = place[section]
        place[key] = value
    return Params.model_validate(content)


def values_of(suggested: Mapping[str, Any], space: tuple[Entry, ...]) -> dict[str, Any]:
    """Return the params' values for what Optuna suggested; one that it has not yet is left out."""
    return {e.path: e.value_of(suggested[e.path]) for e in space if e.path in suggested}


def value_at(params: Params, path: str) -> Any:
    """Return the value at a dotted path."""
    value: Any = params.model_dump()
    for name in path.split("."):
        value = value[name]
    return value


def _wrong_path(path: str, params: Params) -> tuple[str, str] | None:
    reason = REFUSED.get(path) or REFUSED.get(path.partition(".")[0])
    if reason:
        return f"cannot be searched: {reason}", "take it out of the space"
    return unknown(path, params)


def unknown(path: str, params: Params) -> tuple[str, str] | None:
    """Return what to say of a dotted path that no param has, and the fix."""
    known = params.model_dump(exclude={"search"})
    section, _, key = path.partition(".")
    fields = known.get(section)
    if (key in fields) if isinstance(fields, dict) else (section in known and not key):
        return None
    keys = [f"{name}.{k}" for name, of in known.items() if isinstance(of, dict) for k in of]
    close = difflib.get_close_matches(path, keys, n=1)
    hint = f", did you mean {close[0]}?" if close else ""
    return f"no such param{hint}", f"use one of {', '.join(k for k in keys if k not in REFUSED)}"


def _wrong_form(content: Any) -> tuple[str, str] | None:
    keys = set(content) if isinstance(content, dict) else set()
    if keys == CHOICES:
        values = content["choices"]
        if isinstance(values, list) and values:
            return None
        return f"choices: expected a list, got {printable(values)}", "name what to choose from"
    if not (keys >= RANGE and keys <= RANGE | {"log", "step"}):
        return f"expected a range or choices, got {printable(content)}", f"write {FORMS}"
    low, high, step = content["low"], content["high"], content.get("step")
    for name, value in (("low", low), ("high", high), ("step", step)):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and math.isfinite(value)) and not (name == "step" and value is None):
            return f"{name}: expected a number, got {printable(value)}", "write a number"
    if low >= high:
        return f"low {low} is not below high {high}", "write the lower end as low"
    if not isinstance(content.get("log", False), bool):
        return f"log: expected true or false, got {printable(content['log'])}", "set it to true"
    if content.get("log") and (low <= 0 or step is not None):
        return "a logarithmic range needs low above 0, and no step", "set log to false"
    whole = isinstance(low, int) and isinstance(high, int)
    if step is not None and (step <= 0 or (whole and not isinstance(step, int))):
        return f"step: {printable(step)} does not divide the range", "write a step above 0"
    return None


def _entry(path: str, content: dict[str, Any]) -> Entry:
    if "choices" in content:
        return Entry(path, values=tuple(content["choices"]))
    low, high = content["low"], content["high"]
    return Entry(path, None, low, high, content.get("log", False), content.get("step"))


def _refusals(params: Params, path: str, value: Any) -> list[tuple[str, str]]:
    """Return what is wrong with one value, and the fix, as params.yaml would say it."""
    try:
        with_values(params, {path: value})
    except ValidationError as error:
        fault = error.errors()[0]
        field = resolve(Params, path.split("."))[1]
        if field and field.description:
            what = f"{shown(value)} is refused: {path} is {field.description}"
            return [(what, "narrow the space")]
        return [(f"{shown(value)} is refused: {printable(fault['msg'], 200)}", "narrow the space")]
    return []
