"""What `bert-lora seeds`, `export`, `curve` and `search` record, and what of it belongs to a run.

A record of seeds belongs to settings, a precision and test rows; each combination has one. It also
names what it was made of, and is shown beside a run that was made of the same. A record of an
export belongs to the adapter that was exported, a curve to all that its name is made from, a
search to data, split, base, pooling and method. What reads a record raises a DataError if its file
is damaged.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, TypeAdapter, ValidationError

from stages.core import paths
from stages.core.artefacts import back, read_json, read_object, replacing, write_json
from stages.core.errors import DataError, printable
from stages.core.methods import FACTS, facts_of
from stages.core.params import Params
from stages.reporting.results import between, points
from stages.reporting.significance import gain_interval, spread, wilson

FIGURES = ("accuracy_base", "accuracy_adapter", "accuracy_gain")
KEY = ("settings", "precision", "test_rows")


def settings_of(params: Params) -> str:
    """Return 16 hex digits that name the settings which a result depends on.

    Left out are the seed, so that runs which differ in it alone belong together; what the
    machine decides; and what the method does not read. A key at its schema's default does not
    count either, so settings keep their name when a later version adds a key.
    """
    content = params.model_dump(
        exclude={"seed", "compute", "tfidf", "search"}, exclude_defaults=True
    )
    for name in facts_of(params).unread:
        section, _, key = name.partition(".")
        if key:
            content.get(section, {}).pop(key, None)
        else:
            content.pop(section, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def digest_of_rows(predictions: pd.DataFrame) -> str:
    """Return the sha256 of the test rows of the predictions: their ids and labels."""
    lines = predictions["id"].str.cat(predictions["label"], sep=",")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def identity_of(manifest: dict[str, Any]) -> dict[str, str]:
    """Return what a result was made of, as an adapter's manifest names it: sha256 by name.

    These are the rows of training and validation with their labels, the base's files and the code.
    """
    base = json.dumps(manifest["base"], sort_keys=True)
    return {**manifest["made_of"], "base": hashlib.sha256(base.encode()).hexdigest()}


def record_of(
    seeds: list[int], bases: list[pd.DataFrame], adapters: list[pd.DataFrame]
) -> dict[str, Any]:
    """Return the figures of several seeds: each, mean, sd, interval of the mean; shares.

    Args:
        seeds: their numbers.
        bases: the base's predictions of each seed, with the rows in one order.
        adapters: the adapter's, likewise.

    Returns:
        Among others `gain_rows_low` and `_high`, the interval over the test rows of the mean gain
        over the seeds; `limits`, which says which of the two intervals is the wider; and `right`,
        a character for each row in the order of the ids: 48 plus how many seeds have it right. An
        interval over seeds is never narrower than what the test rows allow.
    """
    base, adapter = (  # shape (seeds, rows)
        np.array([(frame["label"] == frame["predicted"]).to_numpy() for frame in frames])
        for frames in (bases, adapters)
    )
    rows, count = len(bases[0]), len(seeds)
    fixed, broken = ((adapter & ~base).sum() / count, (base & ~adapter).sum() / count)
    low, high = gain_interval(float(fixed), float(broken), rows)
    over_rows = [wilson(of.sum() / count, rows) for of in (base, adapter)]
    means = [base.mean(axis=1), adapter.mean(axis=1)]
    fields: dict[str, Any] = {}
    for name, values, ends in zip(
        FIGURES, [*means, means[1] - means[0]], [*over_rows, (low, high)], strict=True
    ):
        own = spread(values.tolist())
        fields |= {
            name: values.tolist(),
            f"{name}_mean": own.mean,
            f"{name}_sd": own.sd,
            f"{name}_low": min(own.low, ends[0]) if count > 1 else None,
            f"{name}_high": max(own.high, ends[1]) if count > 1 else None,
        }
    over_seeds = own.high - own.low  # of the last, the gain
    limits = "the seeds" if over_seeds > high - low else "the test set"
    order = np.argsort(bases[0]["id"].to_numpy())
    return {
        "test_rows": digest_of_rows(bases[0]),
        "rows": rows,
        "seeds": seeds,
        "gain_rows_low": low,
        "gain_rows_high": high,
        "limits": limits if count > 1 else None,
        "right": "".join(chr(48 + n) for n in adapter.sum(axis=0)[order]),
        **fields,
    }


def right_of(record: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the share of a record's seeds that have each row right, in the order of the ids."""
    counts = np.array([ord(character) - 48 for character in record["right"]])
    return counts / len(record["seeds"])


def read_records() -> list[dict[str, Any]]:
    """Return the records of several seeds, an empty list where there is no such file."""
    content = read_json(paths.SEEDS) if paths.SEEDS.exists() else []
    if isinstance(content, list) and all(
        isinstance(record, dict) and set(KEY) <= set(record) for record in content
    ):
        return content
    raise DataError(f"{paths.SEEDS}: not a list of records", back(paths.SEEDS))


def records_of_run(
    predictions: pd.DataFrame, params: Params, precision: str, identity: dict[str, str]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the records that belong beside a run by method, and why others are not shown.

    They have the run's settings (but for the method), test rows and precision, and were made of the
    same rows, base and code.

    Args:
        predictions: of the run.
        params: its settings.
        precision: that it was trained in.
        identity: what it was made of, see `identity_of`.
    """
    rows, wanted = digest_of_rows(predictions), {}
    for method in FACTS:
        train = params.train.model_copy(update={"method": method})
        wanted[settings_of(params.model_copy(update={"train": train}))] = method
    records: dict[str, dict[str, Any]] = {}
    notes = []
    for record in read_records():
        if record["settings"] not in wanted or record["test_rows"] != rows:
            continue
        method = wanted[record["settings"]]
        known = record.get("made_of", {})
        other = [name for name, sha in identity.items() if known.get(name) != sha]
        if record["precision"] != precision:
            other.append(f"{record['precision']} instead of {precision}")
        if other:
            notes.append(
                f"The seeds of {FACTS[method].title} in {paths.SEEDS} are not shown, as they were "
                f"made with other things ({', '.join(other)}): bert-lora seeds makes them again"
            )
        else:
            records[method] = record
    return records, notes


def store(record: dict[str, Any]) -> None:
    """Put a record of several seeds into its file, in place of one with the same key."""
    key = [record[name] for name in KEY]
    kept = [other for other in read_records() if [other[name] for name in KEY] != key]
    write_json(paths.SEEDS, sorted([*kept, record], key=lambda r: [str(r[name]) for name in KEY]))


class Check(BaseModel):
    """An exported folder beside the adapter, on the test rows. Accuracies are shares."""

    rows: int  # that were scored
    largest_difference: float  # of a logit from the adapter's, in batches and alone
    flipped: int  # rows with another label than the adapter's
    fixed: int  # rows that only the export has right
    broken: int  # rows that only the adapter has right
    accuracy: float  # of the export
    adapter_accuracy: float
    mcnemar_p: float  # exact, of the difference of the two accuracies
    rows_per_second: float  # with all rows given at once, on `threads` threads
    single_ms: float  # median milliseconds for one text alone
    threads: int  # of the processor
    bytes: int  # of all files of the folder


class Record(BaseModel):
    """The check of an export, and the sha256 of each file of the adapter that was exported."""

    adapter: dict[str, str]
    check: Check


RECORDS = TypeAdapter(dict[str, Record])


def record_export(name: str, record: Record) -> None:
    """Record an export in place of the last one of its kind: format and precision."""
    records = _exports() | {name: record}
    write_json(paths.EXPORTS, {name: one.model_dump() for name, one in records.items()})


def exports_of(adapter: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return the check of each recorded export of this adapter, by format and precision.

    Args:
        adapter: the sha256 of each file of the adapter.
    """
    records = _exports().items()
    return {name: one.check.model_dump() for name, one in records if one.adapter == adapter}


def _exports() -> dict[str, Record]:
    try:
        return RECORDS.validate_json(paths.EXPORTS.read_bytes() if paths.EXPORTS.exists() else "{}")
    except ValidationError as error:
        fault = error.errors()[0]
        place = ": ".join(map(str, (paths.EXPORTS, *fault["loc"])))
        raise DataError(
            f"{printable(place, 200)}: {printable(fault['msg'], 200)}", back(paths.EXPORTS)
        ) from error


# Of a line in metrics/records/curve.csv, a training of `bert-lora curve`.
CURVE_COLUMNS = ("curve", "rows", "seed", "tfidf", "base", "adapter", "seconds")
METHODS = {"tfidf": "TF-IDF", "base": "base", "adapter": "adapter"}


def curve_name(params: Params, identity: dict[str, str], precision: str) -> str:
    """Return 16 hex digits that name settings, rows, base, code and precision of a curve."""
    content = json.dumps([settings_of(params), identity, precision], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def read_curve(name: str) -> pd.DataFrame:
    """Return the trainings of a curve: rows, seed and an accuracy of each of METHODS.

    There are none where there is no record of it.
    """
    kinds = {"rows": "int64", "seed": "int64"} | dict.fromkeys(METHODS, "float64")
    if not paths.CURVE.exists():
        return pd.DataFrame(columns=[*kinds])
    try:
        frame = pd.read_csv(paths.CURVE, dtype={"curve": str}, encoding="utf-8")
        return frame[frame["curve"] == name][[*kinds]].astype(kinds)
    except (KeyError, ValueError) as error:
        raise DataError(
            f"{paths.CURVE}: not a record of bert-lora curve ({type(error).__name__}: {error})",
            back(paths.CURVE),
        ) from None


def curve_advice(trainings: pd.DataFrame) -> str:
    """Return in words from how many rows LoRA is worth it, and what twice the rows may bring.

    Args:
        trainings: of `read_curve`, at least one.
    """
    best = trainings[["tfidf", "base"]].max(axis=1)
    gains = (trainings["adapter"] - best).groupby(trainings["rows"])
    ahead = {count: spread(list(of)) for count, of in gains}
    sure = [count for count, gain in ahead.items() if gain.low > 0]
    if gains.size().min() == 1:
        said = "One seed for each number of rows: an interval needs bert-lora curve --seeds 3."
    elif not sure:
        said = "With none of these numbers of rows is LoRA ahead of both other methods for sure."
    else:
        gain = ahead[sure[0]]
        said = (
            f"From {sure[0]:,} training rows on LoRA is ahead of TF-IDF and base: by "
            f"{points(gain.mean)} points there, {between(gain.low, gain.high)} over the seeds."
        )
    means = trainings.groupby("rows")["adapter"].mean()
    if len(means) > 1:
        half, whole = means.index[-2:]
        said += (
            f" From {half:,} to {whole:,} rows its accuracy changes by "
            f"{points(means[whole] - means[half])} points; twice the rows rarely bring more than "
            "that again. Unknown is whether new rows would be like these."
        )
    return said


# Of metrics/records/search.csv; those of the params follow, under their dotted paths.
SEARCH_COLUMNS = (
    *("trial", "phase", "state", "validation_loss", "validation_accuracy", "best_so_far"),
    *("seed", "epochs", "seconds"),
)
SEARCH_KEYS = ("study", "data", "settings", "space", "trials", "finalists", "best", "verdict")
Row = dict[str, Any]


def search_settings(params: Params) -> dict[str, Any]:
    """Return the settings that a search's results depend on."""
    return params.model_dump(exclude={"compute", "tfidf", "search"})


def write_search(rows: list[Row], found: dict[str, Any]) -> None:
    """Write the record in place of the last search's.

    Args:
        rows: a mapping for each trial, with SEARCH_COLUMNS (phase: search or final; state:
            complete, pruned or failed; losses in nats; epochs until the best evaluation step)
            and params.
        found: SEARCH_KEYS: the study's name, the sha256 of the data's source, the settings that
            the search calls the defaults (see `search_settings`), the space (ranges or choices by
            path), the number of trials by state, the finalists (changes, the loss they were found
            by, seeds, losses, accuracies), the best (changed params, empty for the defaults, null
            without finals), and it in words; besides device and precision.
    """
    params = sorted({name for row in rows for name in row} - set(SEARCH_COLUMNS))
    known = [{k: v for k, v in row.items() if v is not None or k in params} for row in rows]
    lines = [{name: shown(value) for name, value in row.items()} for row in known]
    table = pd.DataFrame(lines, columns=[*SEARCH_COLUMNS, *params])
    with replacing(paths.SEARCH_TABLE) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    write_json(paths.SEARCH, found)


def shown(value: Any) -> str:
    """Return a param's value or a figure as the table, YAML and `-S` have it."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def words(changes: Mapping[str, Any]) -> str:
    """Return changed params as `KEY=VALUE`, one after the other."""
    return ", ".join(f"{path}={shown(value)}" for path, value in changes.items())


def read_search() -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """Return trials (every value as text) and findings of the last search, None without one."""
    if not (paths.SEARCH.exists() and paths.SEARCH_TABLE.exists() and read_json(paths.SEARCH)):
        return None
    found = read_object(paths.SEARCH, *SEARCH_KEYS)
    try:
        trials = pd.read_csv(paths.SEARCH_TABLE, dtype=str, keep_default_na=False)
        return trials.astype(dict.fromkeys([*SEARCH_COLUMNS, *found["space"]], str)), found
    except (ValueError, KeyError) as error:
        what = f"{paths.SEARCH_TABLE}: not a table of trials: {printable(error, 160)}"
        raise DataError(what, back(paths.SEARCH_TABLE)) from error


def search_of_run(params: Params, source: str) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """Return trials and findings of the last search, None if it has nothing to say of this run.

    That is a search of other data, another split, base model, pooling or method. What it found is
    there with a sentence more, `relation`: whether the run has the settings that were found best.

    Args:
        params: the run's settings.
        source: sha256 of the source of the run's data.
    """
    search = read_search()
    if search is None:
        return None
    trials, found = search
    known, now = _flat(found["settings"]), _flat(search_settings(params))
    # A key that a later version adds or drops is no difference.
    other = {path: now[path] for path in sorted(known) if now.get(path, known[path]) != known[path]}
    if found["data"] != source or any(
        path.startswith(("data.", "model.")) or path == "train.method" for path in other
    ):
        return None
    has = words(other) or "the same"
    if other == found["best"]:
        has = "the settings that were found best"
    defaults = words({path: known.get(path) for path in found["space"]})
    return trials, found | {"relation": f"The defaults were then {defaults}; this run has {has}"}


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings by dotted path."""
    sections = {name: of for name, of in settings.items() if isinstance(of, dict)}
    return {f"{name}.{key}": value for name, of in sections.items() for key, value in of.items()}


def complete(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the complete trials without the finals, which repeat settings."""
    return trials[(trials["phase"] == "search") & (trials["state"] == "complete")]


def history(search: tuple[pd.DataFrame, dict[str, Any]] | None) -> pd.DataFrame:
    """Return the complete trials: trial (from 1), validation_loss and best_so_far in nats."""
    found = complete(search[0])["validation_loss"] if search else pd.Series(dtype=float)
    losses = found.astype(float).reset_index(drop=True)
    frame = pd.DataFrame({"trial": losses.index + 1, "validation_loss": losses})
    return frame.assign(best_so_far=losses.cummin())
