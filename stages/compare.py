"""Pair base and adapter row by row: the gain, its significance, where it lies, and the report."""

from __future__ import annotations

from stages.core import artefacts, paths
from stages.core.params import Params
from stages.reporting.results import Results
from stages.rows.source_changed import warn_if_source_changed
from stages.running.stage import run_stage
from stages.scoring.significance import Gain, wilson


def compare(params: Params) -> None:
    """Write the comparison, the details, the ladder, the flips and the report to metrics/."""
    # Heavy libraries are imported once the params are known to be right.
    from stages.reporting.gather import gather

    results = gather(params)
    write(results)
    print(results.verdict)


def write(results: Results) -> None:
    """Write the files of `metrics/` and the model card beside the adapter."""
    from stages.reporting import curves, figures, flips, ladder, page

    drawn = figures.draw(results)
    card, summary = page.model_card(results), page.report_md(results)
    artefacts.write_json(paths.COMPARISON, headline(results.gain), decimals=None)
    artefacts.write_json(paths.DETAILS, results.details)
    ladder.write_ladder(results.ladder, paths.LADDER)
    flips.write_rows(results.flips.rows, paths.FLIPS)
    flips.write_rows(results.flips.suspects, paths.SUSPECTS)
    curves.write_curves(results.curves, paths.CURVES)
    with artefacts.replacing(paths.FIGURES) as folder:
        figures.save_pngs(drawn, folder)
    page.write_page(results, drawn, paths.REPORT_HTML)
    for path, text in ((paths.REPORT_MD, summary), (paths.MODEL_CARD, card)):
        with artefacts.replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def headline(gain: Gain) -> dict[str, float | int]:
    """Return the comparison as metrics/comparison.json holds it; accuracies are shares."""
    rows = gain.rows
    intervals = {
        "base": wilson(round(gain.first * rows), rows),
        "adapter": wilson(round(gain.second * rows), rows),
    }
    shares = {
        "accuracy_base": gain.first,
        "accuracy_adapter": gain.second,
        "accuracy_gain": gain.gain,
        "accuracy_gain_low": gain.low,
        "accuracy_gain_high": gain.high,
        "accuracy_gain_smallest": gain.smallest,
        **{f"accuracy_{name}_low": ends[0] for name, ends in intervals.items()},
        **{f"accuracy_{name}_high": ends[1] for name, ends in intervals.items()},
    }
    return {key: round(value, 6) + 0.0 for key, value in shares.items()} | {
        "rows": rows,
        "fixed": gain.fixed,
        "broken": gain.broken,
        "mcnemar_p": float(f"{gain.p:.3g}"),  # however small, it is not zero
    }


if __name__ == "__main__":
    run_stage(compare, before=warn_if_source_changed)
