"""Which checkpoint a training continues from; tests/faults/test_killed.py kills real trainings."""

import pytest

from stages.core import paths
from stages.core.artefacts import write_json
from stages.core.params import Params
from stages.model.device import set_up
from stages.training import checkpoints
from tests.support.tiny import COMPUTE


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    "name",
    [
        *(
            "models/base/model.safetensors",
            "models/base/tokenizer.json",
            "models/head/head.safetensors",
        ),
        *(
            "code stages/train_lora.py",
            "code stages/training/trainer.py",
            "code stages/model/lora.py",
        ),
        *("version of torch", "version of peft", "lora.r", "train.learning_rate", "seed"),
        *("data/labels.json", "data.max_length", "precision"),
    ],
)
def test_a_checkpoint_of_any_other_input_is_not_used(
    params: Params, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = checkpoints.inputs_of(params, set_up(COMPUTE))
    assert name in inputs
    assert checkpoints.last_usable(inputs) is None
    complete = paths.CHECKPOINTS / "checkpoint-3"
    complete.mkdir()
    (complete / "weights").write_bytes(b"1")
    write_json(complete / checkpoints.SEAL, checkpoints._hashes(complete))
    assert checkpoints.last_usable(inputs) == complete
    assert checkpoints.last_usable(inputs | {name: "another"}) is None
    assert not complete.exists()
    assert f"a checkpoint belongs to other inputs ({name}: " in capsys.readouterr().out
