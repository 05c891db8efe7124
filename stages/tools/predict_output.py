"""How `bert-lora predict` shows its answers: a table, JSON lines, or a file."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

from stages.core.artefacts import replacing
from stages.core.errors import printable

Row = dict[str, Any]
OUTPUT_ENDINGS = (".csv", ".jsonl", ".parquet")
TABLE_WIDTH = 120  # characters; on a wider terminal the numbers would be far from their text
# Valid inside JSON, but a terminal obeys them and some readers of lines break at them: C1 controls,
# Unicode's line ends, and marks that turn the direction of writing.
NOT_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def json_line(row: Row) -> str:
    """Return the row as one line of JSON in Unicode, safe for a terminal."""
    content = json.dumps(row, ensure_ascii=False, allow_nan=False)
    return NOT_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", content) + "\n"


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
    """Write the rows in the format that the file's ending names, completely or not at all."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            frame.to_parquet(temporary, index=False)
        elif path.suffix == ".jsonl":
            temporary.write_text("".join(map(json_line, rows)), encoding="utf-8", newline="\n")
        else:  # every string is quoted, which a lone carriage return needs
            frame.to_csv(temporary, index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
