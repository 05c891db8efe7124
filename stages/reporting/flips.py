"""Where the adapter changed the answer, and which labels may be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.artefacts import replacing
from stages.reporting.results import Flips, Group
from stages.reporting.significance import paired_gain

if TYPE_CHECKING:  # heavy libraries are imported once the params have been checked
    import pandas as pd

# English; on texts of another language these groups stay empty and are left out.
NEGATION = (
    r"(?i)\b(?:no|not|never|none|nothing|nobody|neither|nor|without|hardly|barely|cannot)\b"
    r"|n['’]t\b"
)
CONTRAST = (
    r"(?i)\b(?:but|yet|although|though|however|despite|except|unless|nevertheless|still|instead)\b"
)
CONFIDENCE = (0.6, 0.8)  # edges of the groups by the base's confidence
SUSPECTS = 50
COLUMNS = ["id", "change", "text", "label", "base_predicted", "base_confidence"]
COLUMNS += ["adapter_predicted", "adapter_confidence", "words", "negation", "contrast"]


def find_flips(base: pd.DataFrame, adapter: pd.DataFrame, test: pd.DataFrame, seed: int) -> Flips:
    """Return the flipped rows, counted by group, and the adapter's surest mistakes.

    Args:
        base: predictions of the base, `predictions.aligned` with those of the adapter.
        adapter: predictions of the adapter, row by row those of the base.
        test: the prepared test rows, of the same ids: id, text and maybe rating.
        seed: of the groups' intervals.
    """
    rows = describe_rows(base, adapter, test)
    right = {name: rows["label"] == rows[f"{name}_predicted"] for name in ("base", "adapter")}
    rows["change"] = ""
    rows.loc[~right["base"] & right["adapter"], "change"] = "fixed"
    rows.loc[right["base"] & ~right["adapter"], "change"] = "broken"
    columns = [*COLUMNS, *(["rating"] if "rating" in rows else [])]
    surest = rows.sort_values("adapter_confidence", ascending=False, kind="stable")[columns]
    return Flips(
        rows=surest[surest["change"] != ""].reset_index(drop=True),
        groups=count_groups(rows, right["base"], right["adapter"], seed),
        suspects=surest[~right["adapter"].loc[surest.index]][:SUSPECTS].reset_index(drop=True),
    )


def describe_rows(base: pd.DataFrame, adapter: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """Return a line for each row: both answers, text, number of words, negation, contrast."""
    from stages.scoring.predictions import probabilities_of

    rows = base[["id", "label"]].copy()
    for name, frame in (("base", base), ("adapter", adapter)):
        rows[f"{name}_predicted"] = frame["predicted"]
        rows[f"{name}_confidence"] = probabilities_of(frame).max(axis=1)
    known = test.set_index("id").reindex(rows["id"])
    for column in ("text", "rating"):
        if column in known:
            rows[column] = known[column].to_numpy()
    text = rows["text"].astype("str")
    return rows.assign(
        words=text.str.count(r"\w+"),
        negation=text.str.contains(NEGATION),
        contrast=text.str.contains(CONTRAST),
    )


def count_groups(
    rows: pd.DataFrame, right_base: pd.Series[bool], right_adapter: pd.Series[bool], seed: int
) -> list[Group]:
    """Return the flips by the base's confidence, by length, by negation and by contrast."""
    groups = []
    for kind, name, chosen in groupings(rows):
        if not chosen.any():
            continue
        gain = paired_gain(right_base[chosen].to_numpy(), right_adapter[chosen].to_numpy(), seed)
        groups.append(
            Group(
                kind=kind,
                name=name,
                rows=gain.rows,
                fixed=gain.fixed,
                broken=gain.broken,
                base=gain.first,
                adapter=gain.second,
                low=gain.low,
                high=gain.high,
            )
        )
    return groups


def groupings(rows: pd.DataFrame) -> list[tuple[str, str, pd.Series[bool]]]:
    """Return (kind, name, which rows) of each group; the groups of a kind share no row."""
    sure, words = rows["base_confidence"], rows["words"]
    low, high = CONFIDENCE
    short, long = (int(words.quantile(q)) for q in (1 / 3, 2 / 3))
    middle = f"{short + 1} to {long} words" if long > short + 1 else f"{long} words"
    return [
        ("base's confidence", f"below {100 * low:.0f} %", sure < low),
        ("base's confidence", f"{100 * low:.0f} to {100 * high:.0f} %", sure.between(low, high)),
        ("base's confidence", f"above {100 * high:.0f} %", sure > high),
        ("length", f"up to {short} words", words <= short),
        ("length", middle, (words > short) & (words <= long)),
        ("length", f"more than {long} words", words > long),
        ("negation", "with a negation", rows["negation"]),
        ("negation", "without", ~rows["negation"]),
        ("contrast", "with a contrast word", rows["contrast"]),
        ("contrast", "without", ~rows["contrast"]),
    ]


def write_rows(rows: pd.DataFrame, path: Path) -> None:
    """Write rows of `Flips` as a CSV file."""
    with replacing(path) as temporary:
        rows.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
