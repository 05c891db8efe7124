"""Read parquet in batches: the wanted columns alone, of any type that holds text or numbers."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stages.core.errors import DataError, printable
from stages.rows.fields import MISSING, field_of, no_column
from stages.rows.files import faults_of, open_bytes
from stages.rows.table import Row, Table
from stages.sources.data_files import compression_of

BATCH = 8192  # rows


def open_parquet(path: Path, names: list[str]) -> Table:
    """Return the table in a parquet file; a packed one is unpacked in memory.

    Raises:
        DataError: if it is not parquet, or lacks one of the columns `names`.
    """
    with faults_of(path, "utf-8"):
        # A path would be searched for hive partitions, as in x=1/.
        file = io.BytesIO(open_bytes(path).read()) if compression_of(path) else path.open("rb")
    with _faults_of_parquet(path):
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
    tops = [_top(path, schema, name) for name in names]
    single = {field.name for field in schema if pa.types.is_float32(field.type)}
    single |= {field.name for field in schema if pa.types.is_float16(field.type)}

    def rows() -> Iterator[Row]:
        line = 0
        with file:
            batches = parquet.iter_batches(BATCH, columns=sorted(set(tops)))
            while (batch := _next(path, batches)) is not None:
                columns = [
                    _values(batch, top, name, top in single)
                    for top, name in zip(tops, names, strict=True)
                ]
                for cells in zip(*columns, strict=True):
                    line += 1
                    yield line, list(cells)

    return Table("parquet", rows())


def _next(path: Path, batches: Iterator[Any]) -> Any:
    with _faults_of_parquet(path):
        return next(batches, None)


@contextmanager
def _faults_of_parquet(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's own
            raise
        raise DataError(
            f"{printable(path)}: line 1: not a parquet file: {printable(error)}", "write it again"
        ) from None


def _top(path: Path, schema: Any, name: str) -> str:
    """Return the column of the file in which a maybe dotted name lies."""
    if schema.names.count(name) > 1:
        raise DataError(
            f"{printable(path)}: line 1: column {printable(name)} occurs twice",
            "name each column once",
        )
    parts = name.split(".")
    tops = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    for top in tops:
        if top in schema.names:
            rest = name[len(top) + 1 :]
            if not rest or _has(schema.field(top).type, rest):
                return top
    raise no_column(path, name, [inner for field in schema for inner in _names(field)])


def _has(kind: Any, name: str) -> bool:
    first, _, rest = name.partition(".")
    if pa.types.is_struct(kind):
        inner = {kind.field(n).name: kind.field(n).type for n in range(kind.num_fields)}
        if name in inner:
            return True
        return first in inner and bool(rest) and _has(inner[first], rest)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return first.isdecimal() and (not rest or _has(kind.value_type, rest))
    return bool(pa.types.is_map(kind))


def _names(field: Any) -> list[str]:
    """Return the dotted names of the plain fields of a column."""
    kind, prefix = field.type, field.name
    if pa.types.is_struct(kind):
        inner = [name for n in range(kind.num_fields) for name in _names(kind.field(n))]
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        item = kind.value_field.with_name("0")
        inner = _names(item) if pa.types.is_struct(item.type) else []
    else:
        inner = []
    return [f"{prefix}.{name}" for name in inner] or [prefix]


def _values(batch: Any, top: str, name: str, single: bool) -> list[Any]:
    """Return the values of a column, or of a field in it."""
    values: list[Any] = batch.column(top).to_pylist(maps_as_pydicts="lossy")
    if single:  # 0.1 in single precision is 0.1, not 0.10000000149011612
        shortest: Callable[[Any], str] = lambda value: str(np.float32(value))  # noqa: E731
        values = [None if value is None else float(shortest(value)) for value in values]
    if name == top:
        return values
    found = [field_of(value, name[len(top) + 1 :]) for value in values]
    return [None if value is MISSING else value for value in found]
