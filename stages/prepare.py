"""Read the labelled texts, check every row, and split them into train, validation and test."""

import tempfile
from collections import Counter
from pathlib import Path

from stages.core import paths
from stages.core.artefacts import write_json
from stages.core.params import Params
from stages.rows.checks import read_rows
from stages.rows.labels import label_list, name_labels, note_on_lists
from stages.rows.prepared import write_splits
from stages.rows.reading import own_splits
from stages.rows.splits import COUNTS, describe, notes, sample, settle_rare, split_rows, summarise
from stages.sources.locate import locate_data


def prepare(params: Params) -> None:
    """Write the three splits, the label list and metrics/data.json; nothing if a check fails."""
    data = params.data
    counts: Counter[str] = Counter({f"rows_{name}": 0 for name in COUNTS})
    with tempfile.TemporaryDirectory() as folder:
        source = own_splits(locate_data(data.source, Path(folder)))
        checked, said = read_rows(source, data, counts)
        if data.label_names:
            checked, source = name_labels(checked, source, data.label_names)
        said += note_on_lists(checked["label"])
        print("".join(f"note: {note}\n" for note in said), end="")  # before they become classes
        settled, rare = settle_rare(checked, data, counts)
        labels = label_list(settled, source)

    kept = sample(settled, data.limit, data.split_seed)
    counts["rows_not_sampled"] = len(settled) - len(kept)
    splits = split_rows(kept, data)
    summary = summarise(splits, labels, data.max_length)
    summary |= {name: counts[name] for name in counts if name.startswith("rows_")}
    summary |= {"source_sha256": source.sha256, "rare_classes": rare}
    if counts["rows_conflict"] or counts["rows_outvoted"]:
        summary["agreement"] = counts["labels_agreeing"] / counts["labels_several"]
    found = list(notes(splits, labels, counts, rare, data))

    write_splits(splits, labels)
    write_json(paths.DATA_SUMMARY, summary | {"notes": said + found})
    print("\n".join([describe(summary), *(f"note: {note}" for note in found)]))
