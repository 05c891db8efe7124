"""Read the labelled texts, check every row, and split them into train, validation and test."""

import tempfile
from collections import Counter
from pathlib import Path

from stages.core import paths
from stages.core.artefacts import write_json
from stages.core.params import Params
from stages.rows.checks import read_rows
from stages.rows.labels import label_list, name_labels
from stages.rows.prepared import write_splits
from stages.rows.reading import own_splits
from stages.rows.splits import COUNTS, describe, notes, sample, split_rows, summarise
from stages.sources.locate import locate_data


def prepare(params: Params) -> None:
    """Write the three splits, the label list and metrics/data.json; nothing if a check fails."""
    counts: Counter[str] = Counter({f"rows_{name}": 0 for name in COUNTS})
    with tempfile.TemporaryDirectory() as folder:
        source = own_splits(locate_data(params.data.source, Path(folder)))
        checked = read_rows(source, params.data, counts)
        if params.data.label_names:
            checked, source = name_labels(checked, source, params.data.label_names)
        labels = label_list(checked, source)

    kept = sample(checked, params.data.limit, params.data.split_seed)
    counts["rows_not_sampled"] = len(checked) - len(kept)
    splits = split_rows(kept, params.data)
    summary = summarise(splits, labels, params.data.max_length)
    summary |= {**counts, "source_sha256": source.sha256}

    write_splits(splits, labels)
    write_json(paths.DATA_SUMMARY, summary)
    print("\n".join([describe(summary), *notes(splits, labels, counts["rows_repeated"])]))
