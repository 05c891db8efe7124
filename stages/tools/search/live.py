"""What a search shows while it runs: a table on a terminal, otherwise a line for each trial."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import mean

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.live import Live
from rich.table import Table

from stages.core.params import Params
from stages.reporting.search_records import shown
from stages.tools.search.conclusion import changes_of, words
from stages.tools.search.space import Entry
from stages.tools.search.study import DONE

SHOWN = 8  # trials in the table
NAMES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclass
class Board:
    """The trials of a study, shown again whenever they change.

    Attributes:
        title: what is going on.
        wanted: how many trials there will be.
        workers: processes that train at once.
        space: the search space, to say what a trial changed.
        params: the settings that it changes.
        until: when the time is up, as `time.time` counts; None for no limit.
    """

    title: str
    wanted: int
    workers: int
    space: tuple[Entry, ...]
    params: Params
    until: float | None
    _live: Live | None = None
    _told: set[int] = field(default_factory=set)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the board while the block runs."""
        console = Console()
        if not console.is_terminal:
            print(f"{self.title}: {self.wanted} trainings", flush=True)
            yield
            return
        with Live(console=console, refresh_per_second=2) as self._live:
            yield

    def show(self, trials: list[FrozenTrial]) -> None:
        """Show the state of the trials."""
        if self._live is not None:
            self._live.update(self._table(trials))
            return
        for trial in trials:
            if trial.state.is_finished() and trial.number not in self._told:
                self._told.add(trial.number)
                print(self._line(trial), flush=True)

    def left(self, trials: list[FrozenTrial]) -> float | None:
        """Return the seconds that are left as far as is known, None before the first trial."""
        seconds = [t.user_attrs["seconds"] for t in trials if "seconds" in t.user_attrs]
        if not seconds:
            return None
        undone = self.wanted - sum(t.state in DONE for t in trials)
        left = max(0.0, undone * float(mean(seconds)) / self.workers)
        return left if self.until is None else min(left, max(0.0, self.until - time.time()))

    def _line(self, trial: FrozenTrial) -> str:
        attributes = trial.user_attrs
        if trial.state is TrialState.FAIL:
            result = attributes.get("reason", "")
        else:
            loss, accuracy = attributes.get("loss"), attributes.get("accuracy")
            result = "" if loss is None else f"validation loss {loss:.4f}, accuracy {accuracy:.4f}"
        return f"trial {trial.number}: {NAMES[trial.state]}, {result}; {self._settings(trial)}"

    def _settings(self, trial: FrozenTrial) -> str:
        if "changes" in trial.user_attrs:
            changes = trial.user_attrs["changes"] | {"seed": trial.user_attrs["seed"]}
            return words(changes)
        if not trial.params:
            return ""
        return words(changes_of(trial, self.space, self.params)) or "the defaults"

    def _table(self, trials: list[FrozenTrial]) -> Table:
        counts = {name: sum(t.state is state for t in trials) for state, name in NAMES.items()}
        left = self.left(trials)
        table = Table(
            title=f"{self.title}: "
            + ", ".join(f"{count} {name}" for name, count in counts.items() if count)
            + ("" if left is None else f", about {left / 60:.0f} min left"),
            title_justify="left",
        )
        for name in ("trial", "state", "validation loss", "accuracy", "settings"):
            table.add_column(name, justify="right" if name != "settings" else "left")
        best = sorted(
            (t for t in trials if t.state is TrialState.COMPLETE), key=lambda t: t.values[0]
        )
        running = [t for t in trials if t.state is TrialState.RUNNING]
        for trial in [*running, *best[:SHOWN]]:
            steps = trial.intermediate_values
            loss = min(steps.values()) if steps else None
            accuracy = trial.user_attrs.get("accuracy")
            table.add_row(
                str(trial.number),
                "best so far" if best and trial is best[0] else NAMES[trial.state],
                "" if loss is None else f"{loss:.4f}",
                "" if accuracy is None else f"{100 * accuracy:.2f} %",
                self._settings(trial),
            )
        return table


def option_line(changes: dict[str, object]) -> str:
    """Return the command that runs the pipeline with these settings, to be copied."""
    import shlex

    sets = " ".join(
        f"-S {shlex.quote(f'{path}={shown(value)}')}" for path, value in changes.items()
    )
    return f"dvc exp run -n best {sets}"
