"""`bert-lora search`: better settings, chosen on validation rows; Optuna keeps and suggests trials.

A study lies in a database, so it goes on where it was stopped, and several processes may share it.
Each of them runs trials until the study has enough, then trainings of the finals: the best of many
trials is partly luck, so the best few and the defaults are trained again with seeds that chose none
of them. The process that the user started then draws the conclusion.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

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
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    NoSuchModuleError,
    ProgrammingError,
    SQLAlchemyError,
)
from torch import Tensor
from transformers import TrainerCallback

from stages.core import paths
from stages.core.artefacts import code_of, read_object, replacing, require, sha256_of
from stages.core.errors import DataError, HostError, NumericsError, ParamsError, printable
from stages.core.params import Params, parse_params, read_text
from stages.model.classifier import Classifier
from stages.model.device import Device, set_up
from stages.model.fast import speed_up
from stages.model.head import Features, freeze_encoder
from stages.model.load import load_base
from stages.model.methods import method_of
from stages.model.saved import base_identity
from stages.reporting.search import Row, settings_of, shown, words, write_search
from stages.reporting.significance import LEVEL
from stages.rows.prepared import read_labels, read_split
from stages.running.ends import exit_code_of
from stages.running.provenance import recorded
from stages.running.run import end_with, sole_run
from stages.scoring.logits import cached_features, fit_probe
from stages.tools.search_space import (
    OWN_STORAGE,
    Options,
    Settings,
    Values,
    read_settings,
    reason_of,
    suggested,
    value_at,
    with_values,
)
from stages.training.data import plan_of
from stages.training.trainer import ClassifierTrainer, row_losses

BEAT, DEAD = 20, 120  # seconds between two heartbeats, and without one until a trial is retried
RETRIES = 3  # times that a trial whose process died is run again
POLL = 1.0  # seconds between two looks at the trials of other processes
FINALS = 0.4  # share of --minutes that is kept for the finals at most
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
        self._heads: dict[Any, dict[str, Tensor]] = {}

    def run(self, params: Params, report: Report) -> dict[str, Any]:
        """Train with these params as stage train_lora does, and return the best evaluation step.

        Args:
            params: the settings.
            report: takes the validation log loss and the number of the evaluation step, 1 for the
                first, and once more after each step of the optimiser, then without a number; what
                it raises ends the training.

        Returns:
            Validation log loss by train.select_by (mean, nats), accuracy, losses of the rows,
            epochs until then, seconds of the whole training.
        """
        start = time.monotonic()
        base = self._base(params, params.train.attention_dropout)
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

    def _base(self, params: Params, attention_dropout: float | None = None) -> Classifier:
        pooling = params.model.pooling
        return load_base(
            paths.BASE_MODEL, self.labels, params.seed, self.device, pooling, attention_dropout
        )

    def _head_of(self, params: Params) -> dict[str, Tensor]:
        """Return the head to start from, made as stage evaluate_base makes it."""
        encoder = (params.model.pooling, params.data.max_length)
        key = (*encoder, params.seed, params.train.start, tuple(params.head.l2))
        if key not in self._heads:
            base = self._base(params)
            freeze_encoder(base)
            speed_up(base, self.device, params.seed)
            if encoder not in self._features:
                self._features[encoder] = [
                    cached_features(base, split.texts, encoder[1], self.device, "features")
                    for split in self.splits
                ]
            base.model.cpu()
            train, validation = [
                (features, split.targets)
                for features, split in zip(self._features[encoder], self.splits, strict=True)
            ]
            _, _, means = fit_probe(base, train, validation, params.head.l2)
            starts = {"means": means, "base": base.head_state()}
            self._heads[key] = starts[params.train.start]
        return self._heads[key]


class _Best(TrainerCallback):
    """Keep the evaluation step that train_lora would keep, and report each by its number."""

    def __init__(
        self, select_by: str, chooses: bool, logits_now: Callable[[], Tensor], report: Report
    ) -> None:
        self.select_by, self.chooses = select_by, chooses
        self.logits_now, self.report = logits_now, report
        self.loss, self.epochs, self.logits = math.inf, 0.0, torch.zeros(0)
        self.evaluations = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # the Trainer's signature
        self.report(self.loss, 0)

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
    except (SQLAlchemyError, StorageInternalError) as error:
        with contextlib.suppress(ArgumentError):
            url = make_url(url).render_as_string()  # without the password
        what = f"--storage: {printable(url, 200)}"
        reason = reason_of(error.__cause__ or error)  # type: ignore[arg-type]  # an Exception
        if isinstance(error, (ArgumentError, NoSuchModuleError)):
            fix = "give a URL as SQLAlchemy takes it, for example postgresql://user@host/name"
            raise ParamsError(f"{what}: {reason}", fix) from error
        fix = "start it or correct the URL, and give the same command again: it continues"
        raise HostError(f"{what} does not answer: {reason}", fix) from error


def open_storage(url: str) -> RDBStorage:
    """Return a database of trials, in which a trial whose process has died is run again."""
    is_sqlite = url.startswith("sqlite")
    if url == OWN_STORAGE:
        paths.STUDIES.mkdir(parents=True, exist_ok=True)

    waits = {"timeout": 60} if is_sqlite else {"connect_timeout": 10}
    opened = partial(
        RDBStorage,
        url,
        {"pool_pre_ping": True, "connect_args": waits},
        heartbeat_interval=BEAT,
        grace_period=DEAD,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(RETRIES),
    )
    try:
        with one_line(url):
            try:
                storage = opened()
            except (IntegrityError, ProgrammingError):  # two machines make its tables at once
                time.sleep(2)
                storage = opened()
    except ImportError as error:
        what = f"--storage: {printable(url.partition('://')[0])}: its driver is not installed"
        raise HostError(what, "run: pip install 'bert-lora-dvc[postgresql]'") from error
    except ValueError as error:  # a port that is no number
        raise ParamsError(f"--storage: no URL: {reason_of(error)}", "correct the URL") from error
    if is_sqlite:
        # Each transaction begins with the lock, as SQLAlchemy's documentation of SQLite shows it:
        # of two that read first and write then, one would fail at once.
        event.listen(storage.engine, "connect", lambda c, _: setattr(c, "isolation_level", None))
        event.listen(storage.engine, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))
        storage.engine.dispose()  # connections from before
    return storage


def open_study(storage: RDBStorage, name: str | None, inputs: dict[str, str]) -> Study:
    """Return the study of these inputs, by default under a name that follows from them."""
    name = name or f"search-{_digest(inputs)[:8]}"
    study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
    known = study.user_attrs.get("inputs", inputs)
    if known != inputs:  # guard: inputs of a study
        other = ", ".join(key for key in inputs if known.get(key) != inputs[key])
        raise DataError(
            f"study {printable(name)}: belongs to other {other}",
            "leave out --study, or give a name of its own to the new one",
        )
    study.set_user_attr("inputs", inputs)
    return study


def inputs_of(settings: Settings, device: Device) -> dict[str, str]:
    """Return what a study belongs to, each under a name for people."""
    rows = [require(path) for path in (paths.TRAIN, paths.VALIDATION, paths.LABELS)]
    code = {**code_of("evaluate_base"), **code_of("train_lora")}
    read = settings_of(settings.params)
    read["data"] = {"max_length": settings.params.data.max_length}
    return {
        "data": _digest([sha256_of(path) for path in rows]),
        "base model": _digest(base_identity(paths.BASE_MODEL)),
        "code": _digest({name: sha256_of(path) for name, path in code.items()}),
        "settings": _digest(read),
        "space": _digest({path: repr(choice) for path, choice in settings.space.items()}),
        "device or precision": f"{device.torch_device.type} {device.precision}",
    }


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _of(study: Study, *states: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=states)


class _TimeIsUpError(Exception):
    """The time that the search has ended within a training."""


@dataclasses.dataclass(frozen=True)
class Finalist:
    """Settings that were trained again over further seeds.

    Attributes:
        changes: value by the param's path; empty for the defaults.
        found: validation log loss of the trial that found them; None for the defaults.
        seeds: the further seeds.
        losses: validation log loss of each seed.
        accuracies: validation accuracy of each seed.
        rows: log loss of each validation row, mean over the seeds, (rows,).
    """

    changes: Values
    found: float | None
    seeds: list[int]
    losses: list[float]
    accuracies: list[float]
    rows: np.ndarray[Any, np.dtype[np.float64]]

    @property
    def name(self) -> str:
        """The settings in words."""
        return words(self.changes) or "the defaults"


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
        inputs = inputs_of(settings, self.trainings.device)
        self.study = open_study(storage, options.study, inputs)
        self.finals = open_study(storage, f"{self.study.study_name}-finals", inputs)
        self.study.pruner = optuna.pruners.MedianPruner(n_startup_trials=5)
        self.study.sampler = optuna.samplers.TPESampler(
            # A process that goes on, or one of several, shall not repeat what others suggested.
            seed=(self.params.seed + len(self.study.trials)) % 2**32 if is_first else None,
            n_startup_trials=8,
            multivariate=True,
            constant_liar=True,
        )
        self.ready = len(_of(self.study, *DONE))
        most = options.trials if options.at_most is None else self.ready + options.at_most
        self.wanted = min(options.trials, most)

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
        helpers: list[subprocess.Popen[bytes]] = []
        results: list[Finalist] = []
        best: Values | None = None
        try:
            helpers += [self._helper(place) for place in range(1, self.options.workers)]
            self.work()
            results = self.results()
            for place, helper in enumerate(helpers, start=1):
                if helper.poll():
                    print(f"worker {place} had failed: see {_log_of(place)}", file=sys.stderr)
        finally:  # also when it is interrupted: what is done so far is recorded
            for helper in helpers:
                helper.terminate()
            with contextlib.suppress(KeyboardInterrupt):
                best = self._conclude(results)
            for helper in helpers:
                helper.wait()
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
                study.optimize(objective, 1, catch=(NumericsError, ValidationError, _TimeIsUpError))
            elif _of(study, TrialState.RUNNING):
                time.sleep(POLL)
            else:
                return

    def _helper(self, place: int) -> subprocess.Popen[bytes]:
        """Start another process of this search; what it prints is shown, its errors are logged."""
        options = dataclasses.asdict(self.options)
        options |= {"study": self.study.study_name, "trials": self.wanted, "at_most": None}
        command = [sys.executable, "-m", "stages.tools.search", json.dumps(options)]
        with _log_of(place).open("wb") as log:
            return subprocess.Popen(
                [*command, str(os.getpid())], stdin=subprocess.DEVNULL, stderr=log
            )

    def _queue_defaults(self) -> None:
        """Let the first trial have the settings of params.yaml, if they are in the space."""
        here = _of(self.study, *DONE, TrialState.RUNNING, TrialState.WAITING)
        if any(trial.user_attrs.get("changes") == {} for trial in here):
            return
        space: dict[str, BaseDistribution] = dict(self.settings.space)
        values = {path: value_at(self.params, path) for path in space}
        for path, choice in space.items():
            if isinstance(choice, CategoricalDistribution):
                values[path] = json.dumps(values[path])
        own: dict[str, Any] = {"params": values, "user_attrs": {"changes": {}}}
        try:
            trial = create_trial(state=TrialState.WAITING, distributions=space, **own)
        except ValueError:
            print(f"the values of {paths.PARAMS} are outside the space: they are no trial")
        else:
            self.study.add_trial(trial)

    def _trials_left(self) -> int:
        return max(0, self.wanted - len(_of(self.study, *DONE, TrialState.RUNNING)))

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
        """Return when a study's time is up: trials leave the finals their time, FINALS at most."""
        if study is self.finals or self.options.minutes is None:
            return self.stop
        finals = (self.options.top + 1) * self.options.seeds / self.options.workers
        return self.stop - min(finals * self._seconds(), FINALS * 60 * self.options.minutes)

    def _seconds(self) -> float:
        """Return how long a training takes, by the trials or the last run; 0 if unknown."""
        complete = _of(self.study, TrialState.COMPLETE)
        if complete:
            return float(mean(trial.user_attrs["seconds"] for trial in complete))
        return float(recorded().get("train_lora", {}).get("seconds", 0))

    def _announce(self) -> None:
        """Say how many trainings are to come, and how long they take."""
        trials, seconds = self._trials_left(), self._seconds()
        defaults = any(trial.user_attrs.get("changes") == {} for trial in self.study.trials)
        others = min(self.options.top, max(self.wanted, self.ready) - defaults)
        finals = (others + 1) * self.options.seeds if others > 0 else 0
        finals = finals if trials else len(self._finals_left())
        minutes = (trials + finals) * seconds / self.options.workers / 60
        print(
            f"study {self.study.study_name}: {self.ready} trials done before\n"
            f"{trials + finals} trainings to come: {trials} trials, and {finals} of the finals "
            f"(the defaults and the best {others} over {self.options.seeds} further seeds)"
            + (f"; about {minutes:.0f} min, {seconds:.0f} s each" if seconds else "")
            + (f"; {self.options.minutes:g} min at most" if self.options.minutes else "")
            + ("" if seconds else "; the first one shows how long one takes"),
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
            if time.time() > deadline:
                raise _TimeIsUpError
            if evaluation:
                trial.report(loss, evaluation)
                if kind == "trial" and trial.should_prune():
                    raise TrialPruned

        try:
            facts = self.trainings.run(with_values(self.params, changes | {"seed": seed}), report)
        except (KeyboardInterrupt, _TimeIsUpError):
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
        finalists = [{k: v for k, v in vars(one).items() if k != "rows"} for one in results]
        found = {
            "study": self.study.study_name,
            "data": self.source,
            "settings": settings_of(self.params),
            "device": self.trainings.device.torch_device.type,
            "precision": self.trainings.device.precision,
            "space": self.settings.entries,
            "trials": {name: states.count(name) for name in ("complete", "pruned")},
            "finalists": finalists,
            "best": best,
            "verdict": verdict,
        }
        write_search(rows, found)
        for one in results:
            luck = "" if one.found is None else f" (found with {one.found:.4f})"
            print(
                f"{mean(one.losses):.4f} validation loss, {100 * mean(one.accuracies):.2f} % "
                f"accuracy over {len(one.seeds)} further seeds{luck}: {one.name}"
            )
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


def _log_of(place: int) -> Path:
    paths.STUDIES.mkdir(parents=True, exist_ok=True)
    return paths.STUDIES / f"worker-{place}.log"


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
        f"validation log loss {mean(best.losses):.4f} with {best.name}, "
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
    """Put values into params.yaml, if that is right then; no other byte changes."""
    text, yaml = read_text(path), YAML(typ="safe", pure=True)
    for dotted, value in changes.items():
        node = yaml.compose(text)
        for name in dotted.split("."):
            values = {key.value: below for key, below in getattr(node, "value", ())}
            if name not in values:
                what = f"{path}: has no key {dotted}"
                raise ParamsError(what, f"add it, with the value {shown(value)}")
            node = values[name]
        before = text[node.start_mark.index : node.end_mark.index]
        # A block ends where the next key starts; blanks and comments in between belong to that key.
        while "\n" in before and before.rpartition("\n")[2].split("#")[0].strip() == "":
            before = before.rpartition("\n")[0]
        before = before.rstrip()
        plain = isinstance(value, str) and yaml.load(value) == value
        typed = value if plain else json.dumps(value, ensure_ascii=False)
        start = node.start_mark.index
        text = text[:start] + typed + text[start + len(before) :]
    parse_params(text, path)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


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


def help_search(task: str, parent: int) -> None:
    """Work in the search that process `parent` leads; `task` is its options as JSON."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end_with(parent)
    options = Options(**json.loads(task))
    with one_line(options.storage):
        Search(options, read_settings(options), is_first=False).work()


if __name__ == "__main__":
    sys.exit(exit_code_of(lambda: help_search(sys.argv[1], int(sys.argv[2]))))
