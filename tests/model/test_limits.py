"""No text is longer than the model can read, wherever its architecture keeps its positions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from stages.core.errors import ModelError
from stages.model import load
from stages.model.load import check_length, position_limit

POSITIONS = 40
SMALL = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 80},
    **{"intermediate_size": 64, "max_position_embeddings": POSITIONS, "pad_token_id": 1},
}
SPECIAL = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
MOBILE = {"hidden_size": 64, "embedding_size": 32, "intra_bottleneck_size": 32}
RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c"], "position_biased_input": False}
# architecture: (fields of its config, tokens that it reads)
FAMILIES: dict[str, tuple[dict[str, Any], int]] = {
    "albert": ({"embedding_size": 16}, 40),
    "bert": ({}, 40),
    "big_bird": ({"attention_type": "original_full"}, 40),
    "deberta": ({}, 40),
    "deberta-v2": (RELATIVE, 40),
    "distilbert": ({}, 40),
    "electra": ({"embedding_size": 16}, 40),
    "esm": ({"position_embedding_type": "absolute", "mask_token_id": 4}, 38),
    "flaubert": ({}, 40),
    "gte": ({}, 40),
    "mobilebert": (MOBILE, 40),
    "modernbert": (SPECIAL, 40),
    "mpnet": ({}, 38),
    "nomic_bert": ({}, 40),
    "roberta": ({}, 38),
    "roformer": ({"embedding_size": 16}, 40),
    "xlm-roberta": ({}, 38),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_limit_of_each_architecture_is_found_and_can_be_read(name: str) -> None:
    fields, expected = FAMILIES[name]
    config = transformers.AutoConfig.for_model(name, **{**SMALL, **fields})
    torch.manual_seed(0)
    kind: Any = transformers.AutoModelForSequenceClassification
    model = kind.from_config(config).eval()
    assert position_limit(model) == expected
    ids = torch.full((2, expected), 5)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert logits.shape == (2, 2)


class Encoder(nn.Module):
    """Reads at most `positions` tokens, without a table or a setting that says so."""

    def __init__(self, positions: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(positions, 4))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Look up a state for each position."""
        return self.rows[torch.arange(input_ids.shape[1])] * attention_mask[..., None]


class Model(nn.Module):
    """A classifier around it."""

    base_model_prefix = "encoder"

    def __init__(self, positions: int, **config: Any) -> None:
        super().__init__()
        self.encoder = Encoder(positions)
        self.config = transformers.PretrainedConfig(**config)


def test_where_nothing_says_a_limit_there_is_none() -> None:
    assert position_limit(Model(7)) is None


def test_a_length_that_cannot_be_read_is_refused() -> None:
    folder = Path("models/base")
    check_length(Model(64).train(), 64, folder)
    with pytest.raises(ModelError, match=r"the encoder cannot read 100 tokens: .*length lower"):
        check_length(Model(64, n_positions=100), 100, folder)


@pytest.mark.parametrize(
    ("setting", "limit"),
    [
        *(({name: 12}, 12) for name in load.SPELLINGS),
        *(({"n_positions": value}, None) for value in (-1, 0, None, True, "12")),
        ({"n_positions": 12, "max_len": 9}, 9),
    ],
    ids=str,
)
def test_every_spelling_of_the_configuration_is_read(setting: Any, limit: int | None) -> None:
    assert position_limit(Model(100, **setting)) == limit
