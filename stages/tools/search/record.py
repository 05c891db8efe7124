"""What is kept of a search in metrics/, and its last lines on the terminal."""

from __future__ import annotations

from statistics import mean
from typing import Any

from optuna.study import Study
from optuna.trial import TrialState

from stages.core import paths
from stages.core.artefacts import read_object
from stages.core.errors import printable
from stages.reporting.search_records import Row
from stages.tools.search.conclusion import Changes, Finalist
from stages.tools.search.live import NAMES, option_line
from stages.tools.search.space import value_at, values_of
from stages.tools.search.study import DONE, trials_of
from stages.tools.search.wanted import Search


def rows_of(study: Study, wanted: Search, phase: str) -> list[Row]:
    """Return the table's rows of the trials that have ended."""
    rows, best = [], float("inf")
    for trial in trials_of(study, *DONE, TrialState.FAIL):
        attributes = trial.user_attrs
        if attributes.get("reason") in ("stopped", "not needed"):
            continue
        changes = attributes.get("changes")
        if changes is None:
            changes = values_of(trial.params, wanted.space)
        else:
            changes = {e.path: changes.get(e.path, value_at(wanted.params, e.path))
                       for e in wanted.space}  # fmt: skip
        best = min(best, trial.values[0]) if trial.values else best
        rows.append(
            {
                "trial": trial.number,
                "phase": phase,
                "state": NAMES[trial.state],
                "validation_loss": attributes.get("loss"),
                "validation_accuracy": attributes.get("accuracy"),
                "best_so_far": best if best < float("inf") and phase == "search" else None,
                "seed": attributes.get("seed", wanted.params.seed),
                **{name: attributes.get(name) for name in ("epochs", "seconds", "precision")},
                **changes,
            }
        )
    return rows


def findings_of(
    study: Study, results: list[Finalist], best: Changes | None, verdict: str, wanted: Search
) -> dict[str, Any]:
    """Return what metrics/search.json holds."""
    states = [NAMES[trial.state] for trial in trials_of(study, *DONE)]
    return {
        "study": study.study_name,
        "data": read_object(paths.DATA_SUMMARY, "source_sha256")["source_sha256"],
        "model": wanted.params.model.source,
        "method": wanted.params.train.method,
        "space": wanted.entries,
        "distributions": {entry.path: entry.to_json() for entry in wanted.space},
        "trials": {name: states.count(name) for name in ("complete", "pruned")},
        "finalists": [
            {
                "changes": finalist.changes,
                "found": finalist.found,
                "seeds": finalist.seeds,
                "losses": finalist.losses,
                "accuracies": finalist.accuracies,
            }
            for finalist in results
        ],
        "best": best,
        "verdict": verdict,
    }


def closing_lines(results: list[Finalist], best: Changes | None, verdict: str) -> str:
    """Return the last lines: the finals, the verdict, and the command that uses the best."""
    lines = []
    for finalist in results:
        accuracy = 100 * mean(finalist.accuracies)
        found = "" if finalist.found is None else f" (found with {finalist.found:.4f})"
        lines.append(
            f"{finalist.loss:.4f} validation loss, {accuracy:.2f} % accuracy over "
            f"{len(finalist.seeds)} further seeds{found}: {finalist.name}"
        )
    lines.append(verdict)
    lines.append(
        f"{paths.SEARCH_TABLE} holds every trial; dvc repro compare brings it into the report"
    )
    if best:
        lines.append(option_line(best))
    return "\n".join(printable(line, 2000) for line in lines)
