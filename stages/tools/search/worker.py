"""A worker: a process that takes trials of a study, one after the other, until none is left.

`python -m stages.tools.search.worker JSON` is started by `bert-lora search`; what it prints goes
to its log in models/.search.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from stages.core.errors import NumericsError
from stages.core.params import Params
from stages.running.run import Terminated, end_with, end_with_dvc, exit_code_of, set_environment
from stages.tools.search.space import Entry, check_space, values_of, with_values

if TYPE_CHECKING:  # heavy libraries are imported once the params have been checked
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

    from stages.tools.search.trial import Outcome, Trials

DIGITS = 5  # of a validation row's log loss as the storage keeps it


@dataclass(frozen=True)
class Task:
    """What a worker works on.

    Attributes:
        storage: see `study.open_storage`.
        study: the study's name.
        params: the settings that the space changes, as a mapping.
        space: range or choices by the param's path.
        wanted: trials that the study shall have; 0: those that wait, and no others.
        parent: the process that started the worker, with which it ends.
    """

    storage: str | None
    study: str
    params: dict[str, Any]
    space: dict[str, Any]
    wanted: int
    parent: int

    def to_json(self) -> str:
        """Return it as an argument of the command line."""
        return json.dumps(asdict(self))


def work(task: Task) -> None:
    """Run trials until none is left."""
    end_with_dvc()
    end_with(task.parent)
    params = Params.model_validate(task.params)
    set_environment(params.compute)
    # Heavy libraries are imported once the environment is set.
    import optuna

    from stages.model.device import set_up
    from stages.tools.search.storage import open_storage, patiently
    from stages.tools.search.trial import Trials

    trials = Trials(set_up(params.compute))
    space = check_space(task.space, params, "search") if task.space else ()
    storage = open_storage(task.storage)
    median, never = optuna.pruners.MedianPruner(n_startup_trials=5), optuna.pruners.NopPruner()
    pruner = median if task.wanted else never  # the finals compare complete trainings
    study = patiently(
        lambda: optuna.load_study(study_name=task.study, storage=storage, pruner=pruner)
    )
    while trial := take(study, space, task.wanted, params.seed):
        run(study, trial, trials, params, space)


def take(study: Study, space: tuple[Entry, ...], wanted: int, seed: int) -> Trial | None:
    """Return a trial that is this worker's alone, None if no trial is left for it.

    What the sampler suggests depends on the seed and the trials so far alone, so a sequential
    search that was stopped continues as it would have.
    """
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    from stages.tools.search.storage import patiently
    from stages.tools.search.study import counted, put_back_dead, trials_of

    distributions = {entry.path: entry.distribution() for entry in space}
    while True:
        put_back_dead(study)
        if not trials_of(study, TrialState.WAITING) and len(counted(study)) >= wanted:
            return None
        study.sampler = TPESampler(
            seed=(seed + len(trials_of(study))) % 2**32,
            n_startup_trials=8,
            multivariate=True,
            constant_liar=True,
        )
        trial = patiently(lambda: study.ask(distributions))
        if _is_needed(trial, counted(study), wanted):
            return trial
        discard(study, trial, "not needed")


def _is_needed(trial: Trial, counted: list[FrozenTrial], wanted: int) -> bool:
    """Return whether a trial adds to those that were there before it.

    Two workers may have asked for the last one, or two machines may have queued the same final;
    the later trial is then not needed.
    """
    from stages.tools.search.study import final_of

    earlier = [other for other in counted if other.number < trial.number]
    if wanted:
        return len(earlier) < wanted
    final = final_of(trial.user_attrs)
    return final is not None and final not in [final_of(other.user_attrs) for other in earlier]


def run(
    study: Study, trial: Trial, trials: Trials, params: Params, space: tuple[Entry, ...]
) -> None:
    """Train with a trial's settings and store what came out."""
    from pydantic import ValidationError

    from stages.tools.search.storage import patiently
    from stages.tools.search.study import alive, put_back

    frozen = study._storage.get_trial(trial._trial_id)
    changes = trial.user_attrs.get("changes")
    if changes is None:
        changes = values_of(trial.params, space)
    changes |= {"seed": trial.user_attrs["seed"]} if "seed" in trial.user_attrs else {}
    print(f"trial {trial.number}: {json.dumps(changes)}", flush=True)

    def report(loss: float, step: int) -> bool:
        patiently(lambda: trial.report(loss, step))
        return patiently(trial.should_prune)

    try:
        with alive(study, trial._trial_id):
            outcome = trials.run(with_values(params, changes), report)
    except (KeyboardInterrupt, Terminated):
        put_back(study, frozen, "stopped")
        raise
    except NumericsError as error:
        discard(study, trial, str(error.faults[0][0]))
    except ValidationError as error:  # values that do not go together
        discard(study, trial, str(error.errors()[0]["msg"]))
    else:
        store(study, trial, outcome, trials.device.precision)


def store(study: Study, trial: Trial, outcome: Outcome, precision: str) -> None:
    """Store a trial's outcome; one that was put back meanwhile is another worker's now."""
    from optuna.trial import TrialState

    from stages.tools.search.storage import patiently

    facts: dict[str, Any] = {
        "accuracy": outcome.accuracy,
        "loss": outcome.loss,
        "epochs": round(outcome.epochs, 3),
        "seconds": round(outcome.seconds, 1),
        "precision": precision,
    }
    if "changes" in trial.user_attrs:
        facts["losses"] = [round(loss, DIGITS) for loss in outcome.losses.tolist()]
        facts["right"] = "".join(str(int(right)) for right in outcome.right.tolist())
    for name, value in facts.items():
        patiently(partial(trial.set_user_attr, name, value))
    state = TrialState.PRUNED if outcome.pruned else TrialState.COMPLETE
    value = None if outcome.pruned else outcome.loss
    patiently(lambda: study.tell(trial, value, state, skip_if_finished=True))


def discard(study: Study, trial: Trial, reason: str) -> None:
    """End a trial as failed, with the reason."""
    from optuna.trial import TrialState

    from stages.tools.search.storage import patiently

    patiently(lambda: trial.set_user_attr("reason", reason))
    patiently(lambda: study.tell(trial, state=TrialState.FAIL, skip_if_finished=True))
    print(f"trial {trial.number}: {reason}", flush=True)


if __name__ == "__main__":
    sys.exit(exit_code_of(lambda: work(Task(**json.loads(sys.argv[1])))))
