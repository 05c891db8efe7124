"""How `bert-lora predict` shows its answers: a table, JSON lines, or a file."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from stages.core.artefacts import replacing
from stages.core.errors import printable

Row = dict[str, Any]
OUTPUT_ENDINGS = (".csv", ".jsonl", ".parquet")
TABLE_WIDTH = 120  # characters; on a wider terminal the numbers would be far from their text
BATCH = 8192  # rows that are written to a parquet file at once
# Valid inside JSON, but a terminal obeys them and some readers of lines break at them: C1 controls,
# Unicode's line ends, and marks that turn the direction of writing.
NOT_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def json_line(row: Row) -> str:
    """Return the row as one line of JSON in Unicode, safe for a terminal."""
    content = json.dumps(row, ensure_ascii=False, allow_nan=False)
    return NOT_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", content) + "\n"


def print_table(rows: list[Row], labels: list[str], header: bool = True) -> None:
    """Print the rows for a person: a line each, texts made safe and cut, 3 decimals.

    Args:
        rows: some of the rows.
        labels: the classes, so that the columns of all tables of a run are equally wide.
        header: whether to print the names of the columns.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(box=None, width=min(console.width, TABLE_WIDTH), pad_edge=False)
    table.show_header = header
    longest = max(len(printable(label)) for label in labels)
    for name, value in rows[0].items():
        is_label = isinstance(value, str) and name != "text"
        table.add_column(
            Text(printable(name)),
            ratio=1 if name == "text" else None,  # takes the width that the others leave
            justify="right" if isinstance(value, float) else "left",
            min_width=max(len(printable(name)), longest if is_label else 0),
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:  # Text, not str: in a text, [bold] is no markup
        cells = (f"{v:.3f}" if isinstance(v, float) else printable(v, 120) for v in row.values())
        table.add_row(*map(Text, cells))
    console.print(table)


def write_file(rows: Iterable[Row], path: Path) -> None:
    """Write the rows in the format that the file's ending names, completely or not at all."""
    stream = iter(rows)
    first = next(stream)
    stream = chain([first], stream)
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(stream, first, temporary)
        elif path.suffix == ".jsonl":
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(map(json_line, stream))
        else:  # every string is quoted, which a lone carriage return needs
            with temporary.open("w", encoding="utf-8", newline="") as file:
                quoting: Any = csv.QUOTE_NONNUMERIC
                writer = csv.DictWriter(file, list(first), quoting=quoting, lineterminator="\n")
                writer.writeheader()
                writer.writerows(stream)


def _write_parquet(rows: Iterator[Row], first: Row, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {str: pa.string(), float: pa.float64()}
    schema = pa.schema([(name, kinds[type(value)]) for name, value in first.items()])
    with pq.ParquetWriter(path, schema) as writer:
        while batch := list(islice(rows, BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema))
