"""What `bert-lora search` is asked for: its options, the settings it starts from, and the space.

The space maps dotted paths of params to entries of one of two forms:

    train.learning_rate: {low: 0.0003, high: 0.003, log: true}    integers at both ends: an integer
    lora.target_modules: {choices: [attention, mlp, all-linear]}
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial
from pydantic import ValidationError

from stages.core import paths
from stages.core.artefacts import read_yaml
from stages.core.errors import ParamsError, printable
from stages.core.params import Params, load_params, parse_yaml
from stages.running.run import threads_of

Values = dict[str, Any]  # by the param's dotted path
Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
Space = dict[str, Distribution]  # likewise; a choice is its JSON text, since a list is none

# What a search may not choose, and why.
REFUSED = {
    "seed": "the best of several seeds is luck, not a setting",
    "data": "another split or other rows give scores that cannot be compared",
    "compute": "it decides how results are computed, not how good they are",
    "tfidf": "no training depends on it",
    "model.source": "search each base model apart",
    "train.evaluations": "trials are compared at their evaluation steps",
}
# What -S would change without effect, and why.
UNREAD = {
    "tfidf": "no training depends on it",
    "compute.processes": "a trial is one process; give --workers N",
}
OWN_STORAGE = f"sqlite:///{paths.STUDIES}/studies.db"
FORMS = "{low: ..., high: ...}, with log: true or step: ... if wanted, or {choices: [...]}"


@dataclass(frozen=True)
class Options:
    """What the user typed; see `bert-lora search --help`."""

    trials: int
    minutes: float | None
    workers: int
    overrides: list[str]
    storage: str
    top: int
    seeds: int


@dataclass(frozen=True)
class Settings:
    """Where a search starts, checked."""

    params: Params  # the settings that the space changes, called the defaults
    overrides: Values  # what in them is not as in params.yaml
    entries: dict[str, Any]  # the space as it was written
    space: Space  # the space as Optuna's distributions


def read_settings(options: Options) -> Settings:
    """Return settings and space; `-S search.PATH={...}` changes an entry of the space.

    The threads are this process's share.
    """
    own = load_params()
    entries = dict(own.search)
    overrides: Values = {}
    for option in options.overrides:
        what = f"bert-lora search: -S {printable(option)}"
        key, equals, text = option.partition("=")
        if not key or not equals:
            raise ParamsError(what, "give KEY=VALUE, any param of params.yaml")
        value = parse_yaml(f"value: {text}", Path(f"-S {printable(option)}"))["value"]
        if key.startswith("search."):
            entries[key.removeprefix("search.")] = value
            continue
        if fault := _unknown(key, own) or _listed(key, UNREAD, "has no effect"):
            raise ParamsError(f"{what}: {fault[0]}", fault[1])
        overrides[key] = value
    try:
        params = with_values(own, overrides)
    except ValidationError as error:
        what = f"bert-lora search: -S {', '.join(map(printable, overrides))}: {reason_of(error)}"
        raise ParamsError(what, "see the comments in params.yaml") from None
    if params.train.epochs == 0:
        raise ParamsError("train.epochs: 0 trains nothing", "set it to 1 or more")
    _check_prepared(params, overrides, own)
    threads = threads_of(params.compute, options.workers)
    params = params.model_copy(
        update={"compute": params.compute.model_copy(update={"threads": threads})}
    )
    return Settings(params, overrides, entries, check_space(entries, params))


def _check_prepared(params: Params, overrides: Values, own: Params) -> None:
    """Refuse what an earlier stage would have to read first: the search trains on its outputs.

    What the stages have read stands in dvc.lock; before their first run by DVC, params.yaml counts.
    """
    lock = read_yaml(paths.LOCK).get("stages", {}) if paths.LOCK.exists() else {}
    known: Values = {"data": own.data.model_dump(), "model.source": own.model.source}
    for stage in ("prepare", "fetch_base"):
        known |= lock.get(stage, {}).get("params", {}).get(str(paths.PARAMS), {})
    known |= {f"data.{key}": value for key, value in known.pop("data").items()}
    for key, before in known.items():
        now = value_at(params, key)
        if now != before and key != "data.max_length":  # that one the training reads itself
            typed = f"{key}={json.dumps(now)}"
            run = f"dvc exp run -S {typed}" if key in overrides else "dvc repro"
            raise ParamsError(
                f"bert-lora search: {printable(typed)}, but data and base model were prepared "
                f"with {printable(json.dumps(before))}",
                f"first run: {run} prepare fetch_base",
            )


def check_space(entries: Mapping[str, Any], params: Params) -> Space:
    """Return the space, checked against the schema of params.yaml.

    Args:
        entries: range or choices by the param's path.
        params: the settings that the space changes.
    """
    space, faults, where = {}, [], f"{paths.PARAMS}: search"
    for path, entry in entries.items():
        fault = _listed(path, REFUSED, "cannot be searched") or _unknown(path, params)
        try:
            if fault is None:
                space[path] = _distribution(path, entry, params)
        except (ValueError, TypeError) as error:  # pydantic's, and Optuna's
            fault = reason_of(error), f"correct it; the forms are {FORMS}"
        if fault:
            faults.append((f"{where}.{printable(path)}: {fault[0]}", fault[1]))
    if not entries:
        faults.append((f"{where}: nothing to choose", f"name a param: {FORMS}"))
    if faults:
        raise ParamsError.from_faults(faults)
    return space


def _distribution(path: str, entry: Any, params: Params) -> Distribution:
    """Return an entry of the space as Optuna's distribution; what it refuses is a ValueError."""
    keys = set(entry) if isinstance(entry, dict) else set()
    if keys != {"choices"} and not {"low", "high"} <= keys <= {"low", "high", "log", "step"}:
        raise ValueError(f"expected a range or choices, got {printable(entry)}")
    tried = entry["choices"] if "choices" in entry else [entry["low"], entry["high"]]
    if not isinstance(tried, list):
        raise ValueError(f"choices: expected a list, got {printable(tried)}")
    values = []
    for value in tried:
        if path == "train.epochs" and value == 0:
            raise ValueError("0 trains nothing")
        try:
            values.append(value_at(with_values(params, {path: value}), path))
        except ValidationError as error:
            raise ValueError(f"{printable(value)} is refused: {reason_of(error)}") from None
    if "choices" in entry:
        return CategoricalDistribution([json.dumps(value) for value in values])
    if not isinstance(entry.get("log", False), bool):
        raise ValueError(f"log: expected true or false, got {printable(entry['log'])}")
    whole = isinstance(entry["low"], int) and isinstance(entry["high"], int)
    if whole and not isinstance(entry.get("step", 1), int):
        raise ValueError(f"step: expected an integer, got {printable(entry['step'])}")
    return IntDistribution(**entry) if whole else FloatDistribution(**entry)


def _listed(path: str, reasons: dict[str, str], what: str) -> tuple[str, str] | None:
    reason = reasons.get(path) or reasons.get(path.partition(".")[0])
    return (f"{what}: {reason}", "take it out") if reason else None


def _unknown(path: str, params: Params) -> tuple[str, str] | None:
    """Return what to say of a dotted path that no param has, and the fix."""
    sections = params.model_dump(exclude={"search", "seed"})
    known = ["seed", *(f"{name}.{key}" for name, fields in sections.items() for key in fields)]
    if path in known or path.startswith("peft."):  # whose fields the type has, not the params
        return None
    close = difflib.get_close_matches(path, known, n=1)
    hint = f", did you mean {close[0]}?" if close else ""
    return f"no such param{hint}", f"use one of {', '.join(known)}"


def reason_of(error: BaseException) -> str:
    """Return the first thing that pydantic, or another library, found, in a line."""
    text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    return printable(text.partition("\n")[0].rstrip("."), 200)


def suggested(trial: BaseTrial, path: str, choice: Distribution) -> Any:
    """Return the value that Optuna suggests for a param; a float has four digits."""
    match choice:
        case CategoricalDistribution(choices=choices):
            return json.loads(str(trial.suggest_categorical(path, choices)))
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(path, low, high, step=step, log=log)
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return float(f"{trial.suggest_float(path, low, high, step=step, log=log):.4g}")


def with_values(params: Params, values: Mapping[str, Any]) -> Params:
    """Return the params with other values.

    Raises:
        pydantic.ValidationError: if params.yaml would not take them together.
    """
    content = params.model_dump()
    for path, value in values.items():
        section, _, key = path.rpartition(".")
        (content[section] if section else content)[key] = value
    return Params.model_validate(content)


def value_at(params: Params, path: str) -> Any:
    """Return the value at a dotted path, None if there is none."""
    value: Any = params.model_dump()
    for name in path.split("."):
        value = value.get(name)
    return value
