"""The peers train as the libraries do, with this project's settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stages.core.params import Params
from stages.tools.benchmark.plain_trainer import plain_trainer
from stages.tools.benchmark.setting import Setting


def test_the_tuned_contender_trains_with_the_lora_fields_of_the_params(
    setting: Setting, params: Params
) -> None:
    fields = {
        "use_rslora": True,
        "lora_alpha": 3.5,
        "bias": "lora_only",
        "rank_pattern": {"key": 2},
    }
    lora = params.lora.model_copy(update=fields)
    changed = replace(setting, params=params.model_copy(update={"lora": lora}))
    trainer, _ = plain_trainer(changed, 1, 0, tuned=True, lora=True)
    config = trainer.model.peft_config["default"]
    assert {name: getattr(config, name) for name in fields} == fields


@pytest.mark.parametrize("tuned", [False, True])
def test_every_validation_row_is_scored_with_its_own_label(setting: Setting, tuned: bool) -> None:
    _, score = plain_trainer(setting, 1, 0, tuned=tuned, lora=True)
    logits, labels = score()
    assert logits.shape == (len(setting.validation.targets), 2)
    assert sorted(labels) == sorted(setting.validation.targets)
