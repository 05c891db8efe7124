"""`bert-lora search`: better settings, chosen on validation rows; Optuna keeps and suggests trials.

A study lies in a database, so it goes on where it was stopped, and several processes may share it.
Each of them runs trials until the study has enough, then trainings of the finals: the best of many
trials is partly luck, so the best few and the defaults are trained again with seeds that chose none
of them. The process that the user started then draws the conclusion.
"""

import contextlib
import hashlib
import io
import json
import math
import multiprocessing
import os
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import optuna
import torch
from optuna import TrialPruned
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from pydantic import ValidationError
from ruamel.yaml import YAML
from scipy.stats import t as student
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError, SQLAlchemyError
from torch import Tensor
from transformers import TrainerCallback

from stages.core import paths
from stages.core.artefacts import code_of, read_object, replacing, require, sha256_of
from stages.core.errors import HostError, NumericsError, ParamsError, exit_code_of, printable
from stages.core.params import Params, read_text
from stages.model.classifier import Classifier
from stages.model.device import Device, set_up
from stages.model.fast import speed_up
from stages.model.head import Features, freeze_encoder
from stages.model.load import load_base
from stages.model.methods import method_of
from stages.model.saved import base_identity
from stages.reporting.records import Row, search_settings, shown, words, write_search
from stages.reporting.significance import LEVEL
from stages.rows.prepared import read_labels, read_split
from stages.running.provenance import recorded
from stages.running.run import end_with, sole_run
from stages.scoring.logits import cached_features, fit_probe
from stages.tools.search_space import (
    OWN_STORAGE,
    Options,
    Settings,
    Values,
    reason_of,
    suggested,
    value_at,
    with_values,
)
from stages.training.data import plan_of
from stages.training.trainer import ClassifierTrainer, row_losses

BEAT, DEAD = 20, 120  # seconds between two heartbeats, and without one until a trial is retried
LOG = paths.STUDIES / "workers.log"
RETRIES = 3  # times that a trial whose process died is run again
POLL = 1.0  # seconds between two looks at the trials of other processes
FINALS = 0.4  # share of --minutes that is kept for the finals
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
Report = Callable[[float, int], None]

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Trainings:
    """Trainings on the same rows and base; what does not depend on the settings is computed once.

    Args:
        device: what they run on.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.labels = read_labels()
        self.splits = [read_split(path, self.labels) for path in (paths.TRAIN, paths.VALIDATION)]
        self._features: dict[Any, list[Features]] = {}

    def run(self, params: Params, report: Report) -> dict[str, Any]:
        """Train with these params as stage train_lora does, and return the best evaluation step.

        Args:
            params: the settings.
            report: takes the validation log loss and the number of each evaluation step, from 1;
                what it raises ends the training.

        Returns:
            Validation log loss by train.select_by (mean, nats), accuracy, losses of the rows,
            epochs until then, seconds of the whole training.
        """
        start = time.monotonic()
        base = self._base(params)
        base.model.load_state_dict(self._head_of(params), strict=False)
        classifier = method_of(params).attach(base, params)
        speed_up(classifier, self.device, params.seed)
        train, validation = self.splits
        trainer = ClassifierTrainer(
            classifier, (train, validation), params, self.device, checkpointed=False
        )
        plan = plan_of(params.train, train.targets, len(validation.ids))
        best = _Best(
            params.train.select_by, plan.chooses, lambda: trainer.validation_logits, report
        )
        trainer.add_callback(best)
        with contextlib.redirect_stdout(io.StringIO()):  # its line for each evaluation step
            trainer.train()
        truth, logits = torch.tensor(validation.targets), best.logits
        scaled = params.train.select_by == "scaled_loss"
        losses = row_losses(logits, validation.targets, scaled, plan.weights)
        return {
            "loss": best.loss,
            "accuracy": float((logits.argmax(dim=1) == truth).double().mean()),
            "losses": [round(loss, 5) for loss in losses.tolist()],
            "epochs": round(best.epochs, 3),
            "seconds": round(time.monotonic() - start, 1),
        }

    def _base(self, params: Params) -> Classifier:
        pooling, dropout = params.model.pooling, params.train.attention_dropout
        return load_base(paths.BASE_MODEL, self.labels, params.seed, self.device, pooling, dropout)

    def _head_of(self, params: Params) -> dict[str, Tensor]:
        """Return the head to start from, made as stage evaluate_base makes it."""
        base = self._base(params)
        freeze_encoder(base)
        speed_up(base, self.device, params.seed)
        length = params.data.max_length
        key = (params.model.pooling, length)
        if key not in self._features:
            self._features[key] = [
                cached_features(base, split.texts, length, self.device, "features")
                for split in self.splits
            ]
        base.model.cpu()
        train, validation = [
            (features, split.targets)
            for features, split in zip(self._features[key], self.splits, strict=True)
        ]
        _, _, means = fit_probe(base, train, validation, params.head.l2)
        return means if params.train.start == "means" else base.head_state()


class _Best(TrainerCallback):
    """Keep the evaluation step that train_lora would keep, and report each by its number."""

    def __init__(
        self, select_by: str, chooses: bool, logits_now: Callable[[], Tensor], report: Report
    ) -> None:
        self.select_by, self.chooses = select_by, chooses
        self.logits_now, self.report = logits_now, report
        self.loss, self.epochs, self.logits = math.inf, 0.0, torch.zeros(0)
        self.evaluations = 0

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        self.evaluations += 1
        loss = kwargs["metrics"][f"eval_{self.select_by}"]
        if loss < self.loss or not self.chooses:
            self.loss, self.logits, self.epochs = loss, self.logits_now(), state.epoch
        self.report(loss, self.evaluations)


@contextlib.contextmanager
def one_line(url: str) -> Iterator[None]:
    """Turn an error of the database into a line; finished trials are kept in it."""
    try:
        yield
    except ArgumentError:  # no URL: nothing was asked
        raise
    except (SQLAlchemyError, StorageInternalError) as error:
        shown = printable(make_url(url).render_as_string(), 200)  # without the password
        reason = reason_of(error.__cause__ or error)
        fix = "start it or correct the URL, and give the same command again: it continues"
        raise HostError(f"--storage: {shown} does not answer: {reason}", fix) from error


def open_storage(url: str) -> RDBStorage:
    """Return a database of trials, in which a trial whose process has died is run again."""
    is_sqlite = url.startswith("sqlite")
    if url == OWN_STORAGE:
        paths.STUDIES.mkdir(parents=True, exist_ok=True)
    opened = partial(
        RDBStorage,
        url,
        {
            "pool_pre_ping": True,
            "connect_args": {"timeout": 60} if is_sqlite else {"connect_timeout": 10},
        },
        heartbeat_interval=BEAT,
        grace_period=DEAD,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(RETRIES),
    )
    try:
        make_url(url)
        with one_line(url):
            try:
                storage = opened()
            except (IntegrityError, ProgrammingError):  # two machines make its tables at once
                time.sleep(2)
                storage = opened()
    except (ArgumentError, ImportError, ValueError) as error:  # no URL, or no driver for it
        fix = "give a URL such as postgresql://user@host/name, whose driver is in the extra"
        raise ParamsError(f"--storage: {reason_of(error)}", f"{fix} 'postgresql'") from error
    if is_sqlite:
        # Each transaction begins with the lock, as SQLAlchemy's documentation of SQLite shows it:
        # of two that read first and write then, one would fail at once.
        event.listen(storage.engine, "connect", lambda c, _: setattr(c, "isolation_level", None))
        event.listen(storage.engine, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))
        storage.engine.dispose()  # connections from before
    return storage


def name_of(settings: Settings, device: Device) -> str:
    """Return the name of the study that has these inputs: rows, base, code, settings, device."""
    code = {**code_of("evaluate_base"), **code_of("train_lora")}
    read = search_settings(settings.params)
    read["data"] = {"max_length": settings.params.data.max_length}
    inputs = [
        [sha256_of(require(path)) for path in (paths.TRAIN, paths.VALIDATION, paths.LABELS)],
        base_identity(paths.BASE_MODEL),
        {name: sha256_of(path) for name, path in code.items()},
        read,
        {path: repr(choice) for path, choice in settings.space.items()},
        [device.torch_device.type, device.precision],
    ]
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return f"search-{digest[:8]}"


def _of(study: Study, *states: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=states)


class Finalist(NamedTuple):
    """Settings that were trained again over further seeds."""

    changes: Values  # value by the param's path; empty for the defaults
    found: float | None  # validation log loss of the trial that found them; None for the defaults
    seeds: list[int]
    losses: list[float]  # validation log loss of each seed
    accuracies: list[float]  # validation accuracy of each seed
    rows: np.ndarray[Any, np.dtype[np.float64]]  # log loss of each row, mean over the seeds


class Search:
    """One process's part in a search.

    Each trial's user attributes have `changes` (of the defaults), `seed`, and what
    `Trainings.run` returned, or the `reason` why it failed.

    Args:
        options: what the user typed.
        settings: where the search starts.
        is_first: whether this is the user's own process, not one that helps it.
    """

    def __init__(self, options: Options, settings: Settings, is_first: bool = True) -> None:
        self.options, self.settings, self.params = options, settings, settings.params
        self.source = read_object(paths.DATA_SUMMARY, "source_sha256")["source_sha256"]
        self.stop = math.inf if options.minutes is None else time.time() + 60 * options.minutes
        self.trainings = Trainings(set_up(self.params.compute))
        storage = open_storage(options.storage)
        name = name_of(settings, self.trainings.device)
        self.study, self.finals = (
            optuna.create_study(storage=storage, study_name=each, load_if_exists=True)
            for each in (name, f"{name}-finals")
        )
        self.study.pruner = optuna.pruners.MedianPruner(n_startup_trials=5)
        self.study.sampler = optuna.samplers.TPESampler(
            # A process that goes on, or one of several, shall not repeat what others suggested.
            seed=(self.params.seed + len(self.study.trials)) % 2**32 if is_first else None,
            n_startup_trials=8,
            multivariate=True,
            constant_liar=True,
        )
        self.ready = len(_of(self.study, *DONE))

    def lead(self) -> Values | None:
        """Run the search with its helpers, record it, and return what the best settings change.

        That is empty if nothing is better than the defaults, and None if no finals were run.
        """
        if self.options.storage == OWN_STORAGE:  # no other search uses it, so nothing else runs
            for study in (self.study, self.finals):
                for trial in _of(study, TrialState.RUNNING):  # what a killed process left
                    study.tell(trial.number, state=TrialState.FAIL)
                    RetryHeartbeatStaleTrialCallback()(study, trial)
        self._queue_defaults()
        self._announce()
        helpers: list[BaseProcess] = []
        results: list[Finalist] = []
        best: Values | None = None
        try:
            # They inherit that Ctrl-C is ignored: this process ends them.
            handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
            helpers += [self._helper() for _ in range(1, self.options.workers)]
            signal.signal(signal.SIGINT, handler)
            self.work()
            results = self.results()
            if any(helper.exitcode for helper in helpers):
                print(f"a worker had failed: see {LOG}", file=sys.stderr)
        finally:  # also when it is interrupted: what is done so far is recorded
            for helper in helpers:
                helper.terminate()
            with contextlib.suppress(KeyboardInterrupt):
                best = self._conclude(results)
            for helper in helpers:
                helper.join()
        return best

    def work(self) -> None:
        """Run trials, then trainings of the finals, until none is left or the time is up."""
        self._run(self.study, self._trial, lambda: self._trials_left() > 0)
        self._run(self.finals, self._final, lambda: bool(self._finals_left()))

    def _run(
        self, study: Study, objective: Callable[[Trial], float], is_left: Callable[[], bool]
    ) -> None:
        """Run a study's trials, and wait for those of others: a dead one's is run again."""
        while time.time() < self._deadline(study):
            fail_stale_trials(study)
            if is_left() or _of(study, TrialState.WAITING):
                study.optimize(objective, 1, catch=(NumericsError, ValidationError))
            elif _of(study, TrialState.RUNNING):
                time.sleep(POLL)
            else:
                return

    def _helper(self) -> BaseProcess:
        """Start another process of this search."""
        arguments = (self.options, self.settings, os.getpid())
        context = multiprocessing.get_context("spawn")
        helper = context.Process(target=help_search, args=arguments, daemon=True)
        helper.start()
        return helper

    def _queue_defaults(self) -> None:
        """Let the first trial have the settings of params.yaml, if they are in the space."""
        space: dict[str, BaseDistribution] = dict(self.settings.space)
        values = {path: value_at(self.params, path) for path in space}
        for path, choice in space.items():
            if isinstance(choice, CategoricalDistribution):
                values[path] = json.dumps(values[path])
        try:
            create_trial(value=0, params=values, distributions=space)
        except ValueError:
            print(f"the values of {paths.PARAMS} are outside the space: they are no trial")
        else:
            self.study.enqueue_trial(values, {"changes": {}}, skip_if_exists=True)

    def _trials_left(self) -> int:
        return max(0, self.options.trials - len(_of(self.study, *DONE, TrialState.RUNNING)))

    def _finals_left(self) -> list[tuple[Values, int]]:
        """Return changes and seed of each training of the finals that nobody has begun.

        Seeds come one after the other, so that all finalists have as many whenever the time is up.
        """
        begun = [
            (trial.user_attrs.get("changes"), trial.user_attrs.get("seed"))
            for trial in self.finals.trials
            if trial.state in (TrialState.COMPLETE, TrialState.RUNNING)
            or "reason" in trial.user_attrs
        ]
        wanted = [(changes, seed) for seed in self._seeds() for changes, _ in self.finalists()]
        return [each for each in wanted if each not in begun]

    def _seeds(self) -> list[int]:
        return [(self.params.seed + place) % 2**32 for place in range(1, self.options.seeds + 1)]

    def _deadline(self, study: Study) -> float:
        """Return when a study's time is up: the trials leave the finals FINALS of it."""
        return self.stop - (study is self.study) * FINALS * 60 * (self.options.minutes or 0)

    def _announce(self) -> None:
        """Say how many trainings are to come, and how long they take."""
        trials, options = self._trials_left(), self.options
        before = [trial.user_attrs["seconds"] for trial in _of(self.study, TrialState.COMPLETE)]
        seconds = mean(before) if before else recorded().get("train_lora", {}).get("seconds", 0)
        others = min(options.top, options.trials - 1)
        finals = (others + 1) * options.seeds if others else 0
        finals = finals if trials else len(self._finals_left())
        minutes = (trials + finals) * seconds / options.workers / 60
        print(
            f"study {self.study.study_name}: {self.ready} trials done before\n"
            f"{trials + finals} trainings to come: {trials} trials, and {finals} of the finals "
            f"(the defaults and the best {others} over {options.seeds} further seeds)"
            + (f"; about {minutes:.0f} min, {seconds:.0f} s each" if seconds else "")
            + (f"; {options.minutes:g} min at most" if options.minutes else ""),
            flush=True,
        )

    def _trial(self, trial: Trial) -> float:
        """Train with what Optuna suggests."""
        space = self.settings.space
        values = {path: suggested(trial, path, choice) for path, choice in space.items()}
        changes = {k: value for k, value in values.items() if value != value_at(self.params, k)}
        return self._train(trial, trial.user_attrs.get("changes", changes), self.params.seed)

    def _final(self, trial: Trial) -> float:
        """Train the first settings and seed of the finals that nobody has begun."""
        left = self._finals_left()
        if not left:  # another process was faster
            raise TrialPruned
        return self._train(trial, *left[0])

    def _train(self, trial: Trial, changes: Values, seed: int) -> float:
        """Train with a trial's settings, store and print what came out, and return the loss."""
        study, deadline = trial.study, self._deadline(trial.study)
        kind = "final" if study is self.finals else "trial"
        title = f"{kind} {trial.number}: {words(changes) or 'the defaults'}, seed {seed}"
        trial.set_user_attr("changes", changes)
        trial.set_user_attr("seed", seed)

        def report(loss: float, evaluation: int) -> None:
            trial.report(loss, evaluation)
            if time.time() > deadline or (kind == "trial" and trial.should_prune()):
                raise TrialPruned

        try:
            facts = self.trainings.run(with_values(self.params, changes | {"seed": seed}), report)
        except KeyboardInterrupt:
            RetryHeartbeatStaleTrialCallback()(study, study.trials[trial.number])
            raise
        except TrialPruned:
            print(f"{title}: stopped early", flush=True)
            raise
        except (NumericsError, ValidationError) as error:
            reason = error.faults[0][0] if isinstance(error, NumericsError) else reason_of(error)
            trial.set_user_attr("reason", reason)
            print(f"{title}: failed, {reason}", flush=True)
            raise
        for name, value in facts.items():
            if name != "losses" or kind == "final":
                trial.set_user_attr(name, value)
        loss = float(facts["loss"])
        print(
            f"{title}: validation loss {loss:.4f}, accuracy {facts['accuracy']:.4f}, "
            f"{facts['seconds']:.0f} s",
            flush=True,
        )
        return loss

    def finalists(self) -> list[tuple[Values, float | None]]:
        """Return the defaults and the best other settings, each with the loss it was found by.

        Without another setting there are no finals.
        """
        chosen: list[tuple[Values, float | None]] = [({}, None)]
        for trial in sorted(_of(self.study, TrialState.COMPLETE), key=lambda t: t.values[0]):
            changes = trial.user_attrs["changes"]
            if changes not in [known for known, _ in chosen] and len(chosen) <= self.options.top:
                chosen.append((changes, trial.values[0]))
        return chosen if len(chosen) > 1 else []

    def results(self) -> list[Finalist]:
        """Return the finalists over the seeds that all of them were trained with, best first."""
        runs = [trial.user_attrs for trial in _of(self.finals, TrialState.COMPLETE)]
        finalists = self.finalists()
        done = [{run["seed"]: run for run in runs if run["changes"] == c} for c, _ in finalists]
        seeds = [seed for seed in self._seeds() if all(seed in of for of in done)]
        results = []
        for (changes, found), of in zip(finalists, done, strict=True):
            losses, accuracies, rows = (
                [of[seed][name] for seed in seeds] for name in ("loss", "accuracy", "losses")
            )
            if seeds:
                mean_rows = np.array(rows).mean(axis=0)
                results.append(Finalist(changes, found, seeds, losses, accuracies, mean_rows))
        return sorted(results, key=lambda finalist: mean(finalist.losses))

    def _conclude(self, results: list[Finalist]) -> Values | None:
        """Record the search, print the last lines, and return the best changes, if any are sure."""
        best, complete = None, _of(self.study, TrialState.COMPLETE)
        if results:
            best, verdict = results[0].changes, verdict_of(results)
            if len(results[0].seeds) < self.options.seeds:
                number = f"{len(results[0].seeds)} of {self.options.seeds} seeds"
                verdict += f"; over {number}: the same command goes on"
        elif complete:
            trial = min(complete, key=lambda trial: trial.values[0])
            verdict = (
                f"best so far: validation log loss {trial.values[0]:.4f} with "
                f"{words(trial.user_attrs['changes']) or 'the defaults'}; "
                "not compared over further seeds yet: the same command goes on"
            )
        else:
            verdict = "no trial is complete"
        rows = list(self._rows())
        states = [row["state"] for row in rows if row["phase"] == "search"]
        finalists = [{k: v for k, v in one._asdict().items() if k != "rows"} for one in results]
        found = {
            "study": self.study.study_name,
            "data": self.source,
            "settings": search_settings(self.params),
            "device": self.trainings.device.torch_device.type,
            "precision": self.trainings.device.precision,
            "space": self.settings.entries,
            "trials": {name: states.count(name) for name in ("complete", "pruned")},
            "finalists": finalists,
            "best": best,
            "verdict": verdict,
        }
        write_search(rows, found)
        print(f"{verdict}\n{paths.SEARCH_TABLE} holds every trial; dvc repro compare shows it")
        if best:  # one line to copy
            changes = self.settings.overrides | best
            sets = [f"-S {shlex.quote(f'{key}={shown(value)}')}" for key, value in changes.items()]
            print(f"dvc exp run -n best {' '.join(sets)}", flush=True)
        return best

    def _rows(self) -> Iterator[Row]:
        """Yield the record's row of each trial that has ended."""
        defaults = {path: value_at(self.params, path) for path in self.settings.space}
        best = math.inf
        kinds = (("search", self.study, DONE), ("final", self.finals, DONE[:1]))
        for phase, study, done in kinds:
            for trial in _of(study, *done, TrialState.FAIL):
                facts, steps = trial.user_attrs, trial.intermediate_values
                if trial.state is TrialState.FAIL and "reason" not in facts:
                    continue  # it was stopped, and queued again
                if trial.state is TrialState.COMPLETE:
                    best = min(best, trial.values[0])
                yield {
                    "trial": trial.number,
                    "phase": phase,
                    "state": trial.state.name.lower().replace("fail", "failed"),
                    "validation_loss": facts.get("loss", min(steps.values(), default=None)),
                    "validation_accuracy": facts.get("accuracy"),
                    "best_so_far": best if best < math.inf and phase == "search" else None,
                    **{name: facts.get(name) for name in ("seed", "epochs", "seconds")},
                    **(defaults | facts.get("changes", {})),
                }


def verdict_of(results: list[Finalist]) -> str:
    """Return in words whether the best finalist can be told from the defaults.

    The variance of the difference is the sum of two: over the seeds, whose spread is pooled over
    all finalists, and over the rows, paired by row. Its degrees of freedom are those of Welch 1947,
    Biometrika 34:28. The best of k finalists was chosen, so each of k intervals would have to hold
    (Bonferroni).

    Args:
        results: the finalists, lowest mean loss first, the defaults among them.
    """
    best = results[0]
    default = next(finalist for finalist in results if not finalist.changes)
    if best is default:
        return "no setting of the search beats the defaults on validation"
    losses = np.array([finalist.losses for finalist in results])  # (finalists, seeds)
    gain = mean(default.losses) - mean(best.losses)
    said = (
        f"validation log loss {mean(best.losses):.4f} with {words(best.changes)}, "
        f"{mean(default.losses):.4f} with the defaults: lower by {gain:.4f}"
    )
    if losses.shape[1] == 1:  # guard: verdict of one seed
        return f"{said} with one seed, from which nothing follows: give --seeds 3"
    differences = default.rows - best.rows
    over_seeds = 2 * losses.var(axis=1, ddof=1).mean() / losses.shape[1]
    over_rows = differences.var(ddof=1) / len(differences)
    variance = max(over_seeds + over_rows, 1e-18)
    freedom = variance**2 / (
        over_seeds**2 / (losses.size - len(losses)) + over_rows**2 / (len(differences) - 1) + 1e-36
    )
    tail = (1 - LEVEL) / 2 / (len(results) - 1)
    half = float(student.ppf(1 - tail, freedom)) * math.sqrt(variance)
    told = "distinguishable" if gain > half else "not distinguishable"
    return (
        f"{said}, 95 % interval {gain - half:.4f} to {gain + half:.4f} over {losses.shape[1]} "
        f"seeds and {len(differences):,} validation rows, {told} from the defaults"
    )


def apply(changes: Values, path: Path = paths.PARAMS) -> None:
    """Put values into params.yaml, with its comments kept."""
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    null = "tag:yaml.org,2002:null"
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar(null, "null"))
    content = yaml.load(read_text(path))
    for dotted, value in changes.items():
        section, _, key = dotted.rpartition(".")
        place = content[section] if section else content
        place[key] = value if isinstance(value, str) else yaml.load(json.dumps(value))
    with replacing(path) as temporary:
        yaml.dump(content, temporary)


def search(options: Options, settings: Settings, apply_best: bool = False) -> None:
    """Run a search as its first process; maybe write the best settings into params.yaml."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    is_own = options.storage == OWN_STORAGE
    with sole_run("search") if is_own else contextlib.nullcontext(), one_line(options.storage):
        best = Search(options, settings).lead()
    if apply_best and best:
        apply(settings.overrides | best)
        print(f"{paths.PARAMS} has these values now; run: dvc repro")
    elif apply_best:
        print(f"{paths.PARAMS} stays as it is")


def help_search(options: Options, settings: Settings, parent: int) -> None:
    """Work in the search that process `parent` leads; errors are logged."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr = LOG.open("a", encoding="utf-8")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end_with(parent)

    def work() -> None:
        with contextlib.suppress(KeyboardInterrupt), one_line(options.storage):
            Search(options, settings, is_first=False).work()

    sys.exit(exit_code_of(work))
