"""What other tools make of a table: the exports of annotation tools, and the ways to wrap JSON.

Everything here works on values that `reading` has parsed. A tool's export is recognised by its
first row. Each annotator's answer becomes a row of its own, so that `data.on_conflict` decides
where two disagree; answers that were skipped are counted and left out.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stages.core.errors import printable

MISSING = object()
# Label Studio's answers about a whole text
CLASSIFIES = ("choices", "rating", "taxonomy", "number")
DEPTH = 3  # levels of objects around the rows of wrapped JSON
Fields = tuple[int, Mapping[str, Any]]  # the line, and what stands there by name


# Columns, by their maybe dotted names, as annotation tools write them: data.text, annotations.0.x


def field_of(value: Any, name: str) -> Any:
    """Return the field of a row by its name, or MISSING.

    A name that is there as it stands comes first; then each part between dots is a key of an
    object, or the place in a list, from 0.
    """
    if isinstance(value, list):
        first, _, rest = name.partition(".")
        if not (first.isascii() and first.isdecimal() and len(first) < 9):
            return MISSING
        if int(first) >= len(value):
            return None  # an empty list of annotations: there is none
        return field_of(value[int(first)], rest) if rest else value[int(first)]
    if value is None:
        return None
    if not isinstance(value, Mapping):
        return MISSING
    if name in value:
        return value[name]
    at = name.find(".")
    while at >= 0:  # a key may hold dots itself
        if name[:at] in value:
            found = field_of(value[name[:at]], name[at + 1 :])
            if found is not MISSING:
                return found
        at = name.find(".", at + 1)
    return MISSING


def takes_one_of_several(row: Mapping[str, Any], name: str) -> bool:
    """Return whether a number in a dotted name picks one value out of a list of several."""
    parts = name.split(".")
    lists = (
        field_of(row, ".".join(parts[:place]))
        for place, part in enumerate(parts)
        if place and part.isdecimal()
    )
    return any(isinstance(found, list) and len(found) > 1 for found in lists)


# Annotation tools. Each reader yields the answers of one row: the question, the labels that were
# chosen, and why the answer is none ("" where it is one).

Answers = Iterator[tuple[str, list[Any], str]]
Row = Mapping[str, Any]
Fault = Callable[[int, str, str], None]  # takes line, fault and remedy


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _tasks(row: Row) -> str:
    return "annotations" if "annotations" in row else "completions"


def _is_skipped(annotation: Row) -> bool:
    return bool(annotation.get("was_cancelled") or annotation.get("skipped"))


def _label_studio(row: Row, _: str) -> Answers:
    for one in row[_tasks(row)]:
        if _is_skipped(one):
            yield "", [], "skipped"
            continue
        chosen = defaultdict[str, list[Any]](list)
        for result in _as_list(one.get("result")):
            kind, value = result.get("type"), result.get("value") or {}
            if kind in CLASSIFIES and "start" not in value:  # with one it is about a span
                chosen[result.get("from_name", kind)] += [
                    "/".join(map(str, one)) if kind == "taxonomy" and isinstance(one, list) else one
                    for one in _as_list(value.get(kind))
                ]
        yield from ((question, labels, "") for question, labels in chosen.items())


def _label_studio_table(row: Row, column: str) -> Answers:
    """Read a row of JSON-MIN or CSV, where several choices are an object, maybe written as text."""
    value = row.get(column, MISSING)
    if isinstance(value, str) and value.startswith('{"choices"'):
        value = json.loads(value)
    if isinstance(value, Mapping) and "choices" in value:
        value = value["choices"]
    if value is not MISSING:
        yield column, _as_list(value), ""


def _doccano(row: Row, _: str) -> Answers:
    """Read doccano's older export: annotations, each with a label and the user who gave it."""
    by_user = defaultdict[Any, list[Any]](list)
    for one in row["annotations"]:
        by_user[one.get("user")].append(one.get("label"))
    yield from (("label", labels, "") for labels in by_user.values())


def _prodigy(row: Row, column: str) -> Answers:
    """Read an example: a label, or the options that were accepted, and what was answered to it."""
    if row["answer"] == "ignore":
        yield column, [], "skipped"
    elif column == "answer":
        yield column, [row["answer"]], ""
    elif column in ("label", "accept") and row["answer"] == "reject":
        yield column, [], "rejected"
    elif column in ("label", "accept") and {"label", "accept"} & set(row):
        yield column, _as_list(row["accept" if "accept" in row else "label"]), ""


def _argilla(row: Row, _: str) -> Answers:
    """Read a record of version 2, nested, flat or of a data set, or of version 1.

    Some responses are drafts, or discarded.
    """
    responses = row.get("responses") or {}
    found: list[tuple[str, Any, Any]] = []
    if "annotation" in row:  # version 1, one label a record
        found.append(("annotation", row["annotation"], str(row.get("status")).lower()))
    if isinstance(responses, list):  # version 1: a response with answers to all questions
        for one in responses:
            values = (one.get("values") or {}).items()
            found += [(name, answer.get("value"), one.get("status")) for name, answer in values]
    else:
        columns = {name: value for name, value in row.items() if _is_responses(value)}
        for name, given in (responses | columns).items():
            found += [(name, one.get("value"), one.get("status")) for one in given]
    for key in row:
        if key.endswith(".responses"):  # flat: the values, and their status beside them
            values = _as_list(row[key])
            status = _as_list(row.get(f"{key}.status")) or [None] * len(values)
            name = key.removesuffix(".responses")
            found += [(name, *pair) for pair in zip(values, status, strict=False)]
    for name, value, status in found:
        if status in ("discarded", "draft"):
            yield name, [], "skipped"
        elif value is not None:
            yield name, _as_list(value), ""


def _is_responses(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, Mapping) and {"user_id", "value"} <= set(first)


def _is_argilla(row: Row) -> bool:
    if "annotation" in row:
        return str(row.get("status")) in ("Validated", "Default", "Discarded")
    nested = isinstance(row.get("fields"), Mapping) and isinstance(
        row.get("responses"), (Mapping, list)
    )
    flat = any(name.endswith(".responses") for name in row)
    return nested or flat or any(map(_is_responses, row.values()))


# By its name, how a tool's row is recognised and read.
TOOLS: dict[str, tuple[Callable[[Row], bool], Callable[[Row, str], Answers]]] = {
    "Label Studio": (
        lambda row: isinstance(row.get("data"), Mapping) and isinstance(row.get(_tasks(row)), list),
        _label_studio,
    ),
    "Label Studio's table": (
        lambda row: "annotation_id" in row and ("annotator" in row or "lead_time" in row),
        _label_studio_table,
    ),
    "doccano": (lambda row: "text" in row and isinstance(row.get("annotations"), list), _doccano),
    "Prodigy": (
        lambda row: row.get("answer") in ("accept", "reject", "ignore") and "text" in row,
        _prodigy,
    ),
    "Argilla": (_is_argilla, _argilla),
}


def tool_of(row: Row) -> str | None:
    """Return the annotation tool that wrote a row, or None."""
    return next((name for name, (matches, _) in TOOLS.items() if matches(row)), None)


def _fields(row: Row, tool: str) -> dict[str, Any]:
    """Return a row with the fields of its text on top."""
    inner = next((row[name] for name in ("data", "fields", "inputs") if name in row), None)
    fields = {**inner, **row} if isinstance(inner, Mapping) else {**row}
    if tool == "Label Studio":  # a dotted name does not lead to a skipped answer
        fields[_tasks(row)] = [one for one in row[_tasks(row)] if not _is_skipped(one)]
    return fields


def answered(
    rows: Iterator[Fields],
    tool: str,
    column: str | None,
    left_out: Counter[str],
    fault: Fault,
) -> Iterator[Fields]:
    """Yield a row for each answer that an export holds.

    Args:
        rows: the rows of the export.
        tool: a key of TOOLS.
        column: the column of the label: a question of the tool (of a single one any name will do),
            or a field of its rows. None yields each text once.
        left_out: takes the answers that are none, by the reason.
        fault: takes a row of another layout, or whose question is not clear.
    """
    matches, read = TOOLS[tool]
    base, _, place = (column or "").rpartition(".")
    question = base if place.isdecimal() else column or ""  # label.0 is the first of several
    offered = defaultdict[Any, set[str]](set)  # the labels of Prodigy, by what was answered
    line = 1
    for line, row in rows:
        if not matches(row):
            fault(line, f"no row of {tool}, as the first is", "keep one layout in a file")
            continue
        fields = _fields(row, tool)
        if column is None:
            yield line, fields
            continue
        given, reasons = defaultdict[str, list[list[Any]]](list), list[str]()
        for name, labels, why in read(row, question):
            if why:
                reasons.append(why)
            else:
                given[name].append(labels)
        left_out.update(reasons)
        offered[row.get("answer")].add(str(row.get("label")))
        if question in given or not given or field_of(fields, column) is not MISSING:
            chosen = given.get(question)
        elif len(given) == 1:
            (chosen,) = given.values()
        else:
            questions = printable(", ".join(given), 200)
            fix = f"set data.label_column to one of them: {questions}"
            fault(line, f"answers to several questions: {questions}", fix)
            continue
        yield from ((line, {**fields, question: labels}) for labels in chosen or ())
        if chosen is None and (given or not reasons):
            yield line, fields
    if tool == "Prodigy" and question == "label":
        _check_binary(offered, line, fault)


def _check_binary(offered: dict[Any, set[str]], line: int, fault: Fault) -> None:
    """Note a fault if Prodigy asked of each text whether one and the same label holds."""
    about = offered["reject"] | offered["accept"]
    if offered["reject"] and len(about) == 1 and about != {"None"}:
        what = f"all answers are about one label, {printable(about.pop())}: the classes are "
        fault(line, f"{what}accept and reject", "set data.label_column to answer")


# Wrapped JSON


def unwrapped(content: dict[str, Any], names: list[str]) -> tuple[str, list[Any]]:
    """Return how an object holds a table ("" where it is a row itself), and the table's rows.

    Args:
        content: a whole JSON file.
        names: the columns that are wanted.

    Raises:
        ValueError: with fault and remedy, if it holds several tables or uneven columns.
    """
    columns, data = content.get("columns"), content.get("data")
    if isinstance(columns, list) and isinstance(data, list):  # pandas: split
        return "columns and data", [
            dict(zip(map(str, columns), row, strict=True))
            if isinstance(row, list) and len(row) == len(columns)
            else row
            for row in data
        ]
    values, tables = list(content.values()), tables_in(content)
    wanted = {key: rows for key, rows in tables.items() if _has_one_of(names, key, rows[0])}
    tables = wanted if len(wanted) == 1 else tables  # beside data, pandas writes schema.fields
    if tool_of(content) or not values:
        return "", [content]
    objects = all(isinstance(value, dict) for value in values)
    named = any(name in content for name in names)
    by_row = objects and not named and any(field_of(values[0], n) is not MISSING for n in names)
    if objects and (by_row or (not named and all(map(str.isdecimal, content)))):  # pandas: index
        return "objects by row", values
    if objects and (named or not tables):  # pandas: columns
        keys = dict.fromkeys(key for column in values for key in column)
        return "objects by column", [
            {name: column.get(key) for name, column in content.items()} for key in keys
        ]
    if all(isinstance(value, list) for value in values) and (named or not tables):
        if len({len(value) for value in values}) > 1:
            sizes = ", ".join(f"{printable(name)} {len(value)}" for name, value in content.items())
            raise ValueError(f"columns of unequal length: {sizes}", "give each a value in each row")
        rows = zip(*values, strict=True)
        return "lists by column", [dict(zip(content, row, strict=True)) for row in rows]
    if len(tables) > 1 and not named:
        longest = max(tables, key=lambda key: len(tables[key]))
        raise ValueError(
            f"several lists of rows: {printable(', '.join(tables), 200)}",
            f"lead to one of them: set data.text_column to {printable(longest)}.0.NAME "
            "(NAME as in its rows), and data.label_column likewise",
        )
    return ("", [content]) if named or not tables else next(iter(tables.items()))


def _has_one_of(names: list[str], key: str, row: Any) -> bool:
    """Return whether a table's row has one of the columns, or one's name leads to the table."""
    leads = any(name.startswith(f"{key}.") for name in names)
    return leads or any(field_of(row, name) not in (MISSING, None) for name in names)


def tables_in(content: dict[str, Any], depth: int = DEPTH) -> dict[str, list[Any]]:
    """Return the lists of rows in an object, by their dotted names."""
    found: dict[str, list[Any]] = {}
    for name, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
            found[name] = value
        elif isinstance(value, dict) and depth > 1:
            inner = tables_in(value, depth - 1)
            found |= {f"{name}.{rest}": rows for rest, rows in inner.items()}
    return found


# Tables without a header


def looks_like_data(sample: list[list[Any]]) -> bool:
    """Return whether the first of some lines is a row, not the names of the columns.

    A cell that comes back in its column, a number and a sentence are no names.
    """
    first, *rest = sample or [[]]
    below = [{row[n] for row in rest if n < len(row)} for n in range(len(first))]
    return any(
        cell in column or _is_number(cell) or len(str(cell).split()) > 5  # words
        for cell, column in zip(first, below, strict=True)
        if cell not in (None, "")
    )


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def guessed_columns(sample: list[list[Any]]) -> tuple[int, int]:
    """Return the numbers of the likely columns of text (the longest) and label, from 1.

    The label is the column with the fewest different values beside the text, but more than one.
    """
    width = len(sample[0])  # above 1; rows of another width are faults of their own
    whole = [row for row in sample if len(row) == width]
    columns = [[str(row[n] or "") for row in whole] for n in range(width)]
    text = max(range(width), key=lambda n: sum(map(len, columns[n])))
    different = [len(set(column)) for column in columns]
    others = [n for n in range(width) if n != text]
    label = min(others, key=lambda n: (different[n] == 1, different[n]))
    return text + 1, label + 1
