"""The last layer computes only the first token: the same logits for less work."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages.model.device import set_up
from stages.model.fast import compute_first_token_only
from stages.scoring.logits import predict_logits
from tests.support.tiny import COMPUTE, MODELS, table

TEXTS = [text for text, _ in table(classes=2, rows=20)]


@pytest.mark.parametrize("name", MODELS)
def test_states_that_no_head_reads_are_skipped_without_effect(
    load_tiny_base: Any, name: str
) -> None:
    classifier = load_tiny_base(name)
    before = predict_logits(classifier, TEXTS, 32, set_up(COMPUTE), "test")
    compute_first_token_only(classifier)
    hooked = [m for m in classifier.model.modules() if m._forward_pre_hooks]
    assert len(hooked) == (name in ("bert", "bert-no-pooler", "roberta", "electra", "deberta"))
    after = predict_logits(classifier, TEXTS, 32, set_up(COMPUTE), "test")
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)
