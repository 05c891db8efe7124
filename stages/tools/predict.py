"""Classify texts with the trained adapter, and with the base beside it if wanted.

Only models/ is needed: labels and maximal length come from the adapter's own manifest.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core import paths
from stages.core.artefacts import replacing, require
from stages.core.errors import DataError, printable
from stages.core.params import Params, load_params
from stages.rows.tables import ENDINGS, Faults, read_table
from stages.running.stage import set_environment

Row = dict[str, Any]

OUTPUT_ENDINGS = (".csv", ".jsonl", ".parquet")
TABLE_WIDTH = 120  # characters; on a wider terminal the numbers would stand far from their text
# Valid inside JSON, but a terminal obeys them and some readers of lines break at them: C1 controls,
# Unicode's line ends, and marks that turn the direction of writing.
NOT_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Request:
    """What the user asks for; see `bert-lora predict --help`. Paths are absolute."""

    texts: tuple[str, ...] = ()
    file: Path | None = None
    text_column: str | None = None
    output: Path | None = None
    with_base: bool = False
    every_class: bool = False
    as_json: bool = False


def predict(request: Request) -> None:
    """Classify the texts of the request and print or write one row for each, in their order.

    Raises:
        DataError: if a text is missing or cannot be read.
        HostError: if a model is missing, naming the stage that makes it.
        ModelError: if the adapter does not belong to the base.
    """
    params = load_params()
    for model in (paths.BASE_MODEL, paths.ADAPTER, *([paths.HEAD] if request.with_base else [])):
        require(model)
    texts = read_texts(request, params.data.text_column)
    set_environment(params.compute)
    rows = classify(texts, params, request.with_base, request.every_class)
    if request.output:
        write_file(rows, request.output)
        print(f"{printable(request.output, 200)}: {len(rows):,} rows", file=sys.stderr)
    elif request.as_json or not sys.stdout.isatty():
        sys.stdout.buffer.write("".join(map(json_line, rows)).encode())  # UTF-8 in any locale
    else:
        print_table(rows)
    sys.stdout.flush()  # here, so that a reader that left, as `head` does, ends this quietly


def read_texts(request: Request, text_column: str) -> list[str]:
    """Return the texts of the file, standard input or the arguments, verbatim.

    Raises:
        DataError: naming every empty or unreadable text by its line or number.
    """
    if request.file:
        return _from_file(request.file, request.text_column or text_column)
    if request.texts in ((), ("-",)):
        return _from_standard_input()
    found = [(number, _fault(text)) for number, text in enumerate(request.texts, start=1)]
    faults = [(f"text {number}: {fault[0]}", fault[1]) for number, fault in found if fault]
    if faults:
        raise DataError.from_faults(faults)
    return list(request.texts)


def _from_file(file: Path, column: str) -> list[str]:
    if not file.is_file():
        raise DataError(f"{printable(file, 200)}: no such file", "check the name after --file")
    if file.suffix not in ENDINGS:
        raise DataError(
            f"{printable(file, 200)}: unknown ending",
            f"use one of {' '.join(ENDINGS)}; for plain lines: bert-lora predict < FILE",
        )
    frame = read_table(file, column)
    return _checked(file, [text or "" for text in frame["text"]], frame["line"].tolist())


def _from_standard_input() -> list[str]:
    if sys.stdin.isatty():
        print("one text a line; Ctrl-D ends", file=sys.stderr)
    # What is not UTF-8 becomes a surrogate, which _fault finds: so every such line is named.
    content = sys.stdin.buffer.read().decode("utf-8-sig", "surrogateescape")
    texts = [line.removesuffix("\r") for line in content.removesuffix("\n").split("\n")]
    return _checked(Path("standard input"), texts, list(range(1, len(texts) + 1)))


def _checked(name: Path, texts: list[str], lines: list[int]) -> list[str]:
    faults = Faults(name)
    for line, text in zip(lines, texts, strict=True):
        if found := _fault(text):
            faults.add(line, *found)
    faults.check()
    return texts


def _fault(text: str) -> tuple[str, str] | None:
    """Return what is wrong with a text and the remedy, or None."""
    if not text.strip():
        return "empty text", "fill it in or leave it out"
    if "\x00" in text:
        return "holds a NUL character", "remove it; the input may be binary"
    if any("\ud800" <= c <= "\udfff" for c in text):
        return "not UTF-8", "give the text as UTF-8"
    return None


def classify(texts: list[str], params: Params, with_base: bool, every_class: bool) -> list[Row]:
    """Return a row for each text: text, label, probability; with base_label, base_probability.

    With `every_class`, p_<class> (and base_p_<class>) follow. Probabilities lie in [0, 1].
    """
    # Heavy libraries are imported once the texts are known to be right.
    from stages.model import classifier as model
    from stages.model import device as compute
    from stages.model import frozen
    from stages.model import saved as adapter_files
    from stages.scoring import logits as scoring

    hardware = compute.set_up(params.compute)
    manifest = adapter_files.read_manifest(paths.ADAPTER)
    labels, max_length = manifest["labels"], manifest["max_length"]
    base = model.load_base(paths.BASE_MODEL, labels, params.seed)
    _note_long(texts, base.tokenizer, max_length)

    def scores(classifier: model.Classifier, who: str) -> list[list[float]]:
        logits = scoring.predict_logits(classifier, texts, max_length, hardware, who)
        rounded: list[list[float]] = scoring.probabilities_of(logits).round(9).tolist()
        return rounded

    beside = {}
    if with_base:  # scored first: the adapter goes into this very model
        model.load_head(base, paths.HEAD)
        beside["base_"] = scores(base, "base")
    tuned = frozen.merge_lora(adapter_files.load_adapter(base, paths.ADAPTER, paths.BASE_MODEL))
    frozen.round_frozen(tuned, hardware)
    return _rows(texts, labels, {"": scores(tuned, "adapter")} | beside, every_class)


def _rows(
    texts: list[str], labels: list[str], scores: dict[str, list[list[float]]], every_class: bool
) -> list[Row]:
    """Return a row for each text; `scores` holds each model's (rows, classes) by its prefix."""
    rows: list[Row] = [{"text": text} for text in texts]
    for number, row in enumerate(rows):
        for who, table in scores.items():
            best = max(table[number])
            row |= {f"{who}label": labels[table[number].index(best)], f"{who}probability": best}
        for who, table in scores.items() if every_class else ():
            row |= {f"{who}p_{label}": table[number][at] for at, label in enumerate(labels)}
    return rows


def _note_long(texts: list[str], tokenizer: Any, max_length: int) -> None:
    """Say on standard error how many texts are cut."""
    limit = min(max_length, tokenizer.model_max_length)
    one_more = tokenizer(texts, truncation=True, max_length=limit + 1)["input_ids"]
    if cut := sum(len(ids) > limit for ids in one_more):
        what = f"{cut:,} of {len(texts):,} texts have more than {limit} tokens"
        print(f"note: {what}; the rest of them is not read", file=sys.stderr)


def json_line(row: Row) -> str:
    """Return the row as one line of JSON in Unicode, safe for a terminal."""
    content = json.dumps(row, ensure_ascii=False, allow_nan=False)
    return NOT_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", content) + "\n"


def print_table(rows: list[Row]) -> None:
    """Print the rows for a person: a line each, texts made safe and cut, 3 decimals."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(box=None, width=min(console.width, TABLE_WIDTH), pad_edge=False)
    for name, value in rows[0].items():
        table.add_column(
            Text(printable(name)),
            ratio=1 if name == "text" else None,  # takes the width that the others leave
            justify="right" if isinstance(value, float) else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:  # Text, not str: in a text, [bold] is no markup
        cells = (f"{v:.3f}" if isinstance(v, float) else printable(v, 120) for v in row.values())
        table.add_row(*map(Text, cells))
    console.print(table)


def write_file(rows: list[Row], path: Path) -> None:
    """Write the rows in the format that the file's ending names, whole or not at all."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            frame.to_parquet(temporary, index=False)
        elif path.suffix == ".jsonl":
            temporary.write_text("".join(map(json_line, rows)), encoding="utf-8", newline="\n")
        else:  # every string is quoted: a lone carriage return in one would not be otherwise
            frame.to_csv(temporary, index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
