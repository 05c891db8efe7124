"""What all contenders of the benchmark share: params, rows and device."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stages.core import paths
from stages.core.params import Params, load_params
from stages.model.base import load_base
from stages.model.classifier import Classifier
from stages.model.device import Device, resolve, set_up
from stages.rows import prepared
from stages.rows.prepared import Split

WARM_UP = 3  # optimiser steps that are not timed


@dataclass(frozen=True)
class Setting:
    """What all contenders share.

    Attributes:
        params: the settings of params.yaml.
        device: what to run on.
        labels: class names.
        train: the training rows.
        validation: the rows that are scored.
    """

    params: Params
    device: Device
    labels: list[str]
    train: Split
    validation: Split

    def with_seed(self, seed: int) -> Setting:
        """Return the setting with another seed."""
        return replace(self, params=self.params.model_copy(update={"seed": seed}))


def read_setting(tuned_process: bool) -> Setting:
    """Return params, rows and device; `tuned_process` sets up torch as the stages do.

    Raises:
        HostError: if the data or the base model are missing.
    """
    params = load_params()
    device = set_up(params.compute) if tuned_process else resolve(params.compute)
    labels = prepared.read_labels()
    return Setting(
        params,
        device,
        labels,
        prepared.read_split(paths.TRAIN, labels),
        prepared.read_split(paths.VALIDATION, labels),
    )


def steps_of(setting: Setting) -> int:
    """Return the optimiser steps of all epochs."""
    train = setting.params.train
    return math.ceil(len(setting.train.ids) / train.batch_size) * train.epochs


def fresh_base(setting: Setting, seed: int) -> Classifier:
    """Return the base model with a fresh head, as stage train_lora loads it."""
    return load_base(
        paths.BASE_MODEL,
        setting.labels,
        seed,
        setting.device,
        setting.params.model.pooling,
        setting.params.train.attention_dropout,
    )
