"""Texts and labels: from the values in a file to strings, and the list of classes.

A csv file knows text alone, JSON knows numbers and booleans, Parquet knows thirty types, and Excel
makes a number of what looks like one. So that the same table in two formats is the same data, a
label is compared as text, and a number is spelled in one way: 1, 1.0, "1" and "1.0" are one label.
Texts, labels and groups are compared by one folding; what is written is not folded.
"""

import difflib
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from stages.core.errors import DataError, printable
from stages.sources.locate import DataSource

MAX_CLASSES = 1000
NO_FRACTION = re.compile(r"(-?[0-9]+)\.0+")
NUMBERED = re.compile(r"([0-9]+)[\s,;:]+([^\t]+).*")  # a line of a file with names: 0 <tab> good
BOOLEANS = ("true", "false")  # Python writes True, R and Excel TRUE, most others true
# Ignorable by Unicode, but not by its category: joiners, Hangul and Khmer fillers, selectors of
# variants. BERT's tokenizer drops U+FFFD as well.
IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\ufffd"
    "\U000e0100-\U000e01ef]"
)
MANY = 0.05  # share of the rows from which a comma in the label is no chance
LIST = re.compile(r"[\[({].*[\])}]", re.DOTALL)
PARTS = re.compile(r"\s*[,;|#]\s*")  # doccano joins the labels of a text by #
TO_UTF8 = "save the file as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"


class _Kept(dict[int, int | None]):
    """By its number what folding keeps of a character: the character, or nothing."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        unseen = unicodedata.category(character) in ("Cc", "Cf", "Co") and character not in "\t\n\r"
        self[code] = None if unseen or IGNORABLE.match(character) else code
        return self[code]


KEPT = _Kept()


def fold(text: str) -> str:
    """Return the text as a reader sees it, for comparing.

    NFKC and case folded, spaces squeezed, and without the characters that are not seen: controls,
    format characters, private use and what else Unicode calls ignorable. BERT's tokenizers drop
    all but the last.
    """
    if not (text.isascii() and text.isprintable()):  # others are NFKC and hold nothing unseen
        text = unicodedata.normalize("NFKC", text.translate(KEPT))
    return " ".join(text.casefold().split())


@lru_cache(maxsize=10_000)
def fold_label(label: str) -> str:
    """Return the label as `fold` does; a class is folded once, not for each row."""
    return fold(label)


def is_utf8(text: str) -> bool:
    """Return whether no byte of a text was read as a surrogate, since it is not UTF-8."""
    return text.isascii() or not any("\udc80" <= c <= "\udcff" for c in text)


class NoValueError(ValueError):
    """A cell that is no single text, number or boolean: what it is, and the remedy."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what, fix)
        self.what, self.fix = what, fix


def text_of(value: Any) -> str | None:
    """Return a text verbatim, and a number or boolean as Python writes it; None for nothing.

    Raises:
        NoValueError: if it is of another kind, or holds what is no text.
    """
    return _plain(value, "text")


def label_of(
    value: Any, names: tuple[str, ...] | None = None, column: str = "<column>"
) -> str | None:
    """Return the one spelling of a label, None for nothing; a list of one is its only value.

    Args:
        value: as the file has it.
        names: of integer labels from 0, where the source has such; -1 is then no label.
        column: what it is called, for the remedy.

    Raises:
        NoValueError: if it is no label, or an integer outside the source's names.
    """
    if names and isinstance(value, (int, float)) and not isinstance(value, bool):
        if value == -1 or value != value:  # unlabelled on the Hub; NaN
            return None
        if not (0 <= value < len(names) and float(value).is_integer()):
            what = f"label {value} is none of the {len(names)} that the source names"
            raise NoValueError(what, "correct the row, or set data.label_column")
        return names[int(value)]
    if isinstance(value, list):
        if len(value) > 1:
            raise NoValueError(
                "more than one label: here each text has one class (several are another task, "
                "multi-label)",
                f"keep one label in each row, or set data.label_column to {column}.0 to read the "
                "first",
            )
        value = value[0] if value else None
    label = _plain(value, "label")
    return None if label is None else _spelling(label)


@lru_cache(maxsize=10_000)  # one string object for a class, not one for a row
def _spelling(label: str) -> str:
    """Return a number without an empty fraction, a boolean in small letters, and NFC."""
    if label.lower() in BOOLEANS:
        return label.lower()
    number = NO_FRACTION.fullmatch(label)
    if number is None:
        return unicodedata.normalize("NFC", label)
    return "0" if number[1] == "-0" else number[1]


def _plain(value: Any, what: str) -> str | None:
    """Return a text, a number, a boolean or bytes as text; None for nothing, or NaN."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, str):
        if "\x00" in value:
            raise NoValueError("holds a NUL character", "remove it; the file may be binary")
        if not is_utf8(value):
            raise NoValueError("not UTF-8", TO_UTF8)
        if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            raise NoValueError("holds half of a surrogate pair", "write the complete character")
        return value
    if value is None or (isinstance(value, (float, Decimal)) and value != value):  # NaN
        return None
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, (bool, int, float)):
        return str(value)  # of a float the shortest that is this number again
    kind = "a list" if isinstance(value, list) else f"of type {type(value).__name__}"
    raise NoValueError(
        f"the {what} {printable(repr(value))} is {kind}, neither text nor a number",
        f"write it as text, or set data.{what}_column, maybe to a field of it: <column>.<field>",
    )


def name_labels(
    rows: pd.DataFrame, source: DataSource, given: list[str] | str
) -> tuple[pd.DataFrame, DataSource]:
    """Return the rows with names in place of their numbers, and the source with these names.

    Args:
        rows: labels are whole numbers: those that the file gives, or from 0, or from 1.
        source: where the rows are from.
        given: the names in order, or a file with a name (or number and name) on each line.

    Raises:
        DataError: naming what is no number of a name, or what is wrong with the file.
    """
    place, fix = "params.yaml: data.label_names", "give one name for each class, in order"
    lines, pairs, found = given, list[tuple[int, str]](), set(rows["label"])
    if isinstance(given, str):
        place = f"{place}: {printable(given)}"
        try:
            text = Path(given).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{place}: cannot be read: {printable(error)}", fix) from None
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        pairs = [(int(m[1]), m[2]) for m in map(NUMBERED.fullmatch, lines) if m]
    if not lines or len({name for _, name in pairs}) < len(lines):  # 1 star, 2 stars, 3 stars
        first = int("0" not in found and str(len(lines)) in found)
        if not first and "0" not in found and found <= {str(n) for n in range(1, len(lines))}:
            raise DataError(
                f"{place}: the labels have neither 0 nor {len(lines)}, so the first of the "
                f"{len(lines)} names is that of 0 or of 1",
                "name a file with a number and its name on each line, such as: 0 good",
            )
        pairs = list(enumerate(lines, start=first))
    known = {str(number): name for number, name in sorted(pairs)}
    if len(set(known.values())) < max(2, len(lines)):
        raise DataError(f"{place}: expected two or more names, each of them once", fix)
    if wrong := sorted(found - set(known)):
        row = rows[rows["label"] == wrong[0]].iloc[0]
        more = f", nor are {len(wrong) - 1} others" if len(wrong) > 1 else ""
        raise DataError(
            f"{printable(row['file'])}: line {row['line']}: label {printable(wrong[0])} is no "
            f"number from {min(pairs)[0]} to {max(pairs)[0]} that has one of the {len(known)} "
            f"names in {place}{more}",
            f"{fix}, or set data.label_names to null where the labels are names",
        )
    named = replace(source, label_names=tuple(known.values()))
    return rows.assign(label=rows["label"].map(known)), named


def note_on_lists(labels: "pd.Series[str]") -> list[str]:
    """Return a note if labels are lists written as text, such as ['late', 'rude'] or late,rude.

    A comma, semicolon, bar or # makes a list where a part is a label of its own, or each is a part
    of another one too, and where many rows have it.
    """
    counted = Counter(labels)
    parts = {label: found for label in counted if len(found := PARTS.split(label)) > 1}
    uses = Counter([*counted, *(part for found in parts.values() for part in set(found))])
    lists = [
        label
        for label, found in parts.items()
        if all(found) and (all(uses[p] > 1 for p in found) or any(p in counted for p in found))
    ]
    if sum(counted[label] for label in lists) <= MANY * len(labels):
        lists = []
    lists += [label for label in counted if LIST.fullmatch(label) and set(label) & set("'\",")]
    if not lists:
        return []
    rows = sum(counted[label] for label in set(lists))
    return [
        f"{rows:,} of {len(labels):,} labels are lists written as text, such as "
        f"{printable(max(lists, key=len))}, and each other list is a class of its own; several "
        "labels of one text are a multi-label task, which is another one: keep one label a row"
    ]


def label_list(rows: pd.DataFrame, source: DataSource) -> list[str]:
    """Return the classes in order: as the source names them, by number, or by the alphabet.

    Raises:
        DataError: if there are fewer than 2 or implausibly many, if two fold alike, or if one is in
            validation or test but not in train.
    """
    counted = Counter(rows["label"])
    files = printable(", ".join(str(file) for own in source.splits.values() for file in own), 200)
    if len(counted) < 2:
        raise DataError(
            f"{files}: label: only one class, {printable(next(iter(counted), 'none'))}",
            "give rows of at least two classes, or set data.label_column",
        )
    if len(counted) > MAX_CLASSES or len(counted) > max(20, len(rows) / 2):
        raise DataError(
            f"{files}: label: {len(counted)} different labels in {len(rows)} rows",
            "set data.label_column to the column with the class",
        )
    _check_spelling(rows, counted)
    if source.label_names and set(counted) <= set(source.label_names):
        return [name for name in source.label_names if name in counted]
    if all(re.fullmatch("-?[0-9]{1,18}", label) for label in counted):
        return sorted(counted, key=lambda label: (int(label), label))
    return sorted(counted)


def _check_spelling(rows: pd.DataFrame, counted: Counter[str]) -> None:
    """Refuse a label that is another one's misspelling, or that train lacks."""
    known = Counter(rows.loc[rows["split"].isin(["train", "all"]), "label"])
    alike = defaultdict(list)
    for label in known:
        alike[fold_label(label)].append(label)
    faults = []
    for label in counted:
        twin = next((other for other in alike[fold_label(label)] if other != label), None)
        if label in known and (twin is None or known[twin] < known[label]):
            continue
        close = twin or next(iter(difflib.get_close_matches(label, list(known), n=1)), None)
        first = rows[rows["label"] == label].iloc[0]
        where = f"{printable(first['file'])}: line {first['line']}"
        hint = f", did you mean {printable(close)}?" if close else ""
        alone = "differs from another in case, spaces or unseen characters alone"
        why = alone if label in known else "is not in train"
        fix = "spell each class in one way, and give train rows of every class"
        faults.append((f"{where}: label {printable(label)} {why}{hint}", fix))
    if faults:
        raise DataError.from_faults(faults)
