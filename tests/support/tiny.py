"""Small random models, a hundred labelled rows, and a complete run on them, all of it offline.

A word of each text gives its label, so that even a small random encoder can learn the task. Heavy
libraries are imported where a fixture needs them, so that tests without them start fast.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from stages.core import paths
from stages.core.params import ComputeParams, Params, load_params
from tests.support.architectures import ARCHITECTURES

ROOT = Path(__file__).parents[2]
SIGNS = ("bad", "good", "plain")  # the word that gives the label
NAMES = ("negative", "positive", "neutral")
FILLERS = [f"w{number}" for number in range(60)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = {word: n for n, word in enumerate([*SPECIAL, *SIGNS, *FILLERS, "a", "longer", "text"])}
LONGEST = 64  # tokens
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {  # name: model class, fields of its config
    # Without dropout, under which two layers of width 32 learn too little.
    "bert": ("BertModel", {**SMALL, "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}),
    "bert-no-pooler": ("BertForMaskedLM", SMALL),
    "roberta": ("RobertaModel", SMALL),
    "mpnet": ("MPNetModel", SMALL),
    "distilbert": ("DistilBertModel", DISTILBERT),
    "electra": ("ElectraModel", {**SMALL, "embedding_size": 16}),
    "deberta": ("DebertaV2Model", {**SMALL, "relative_attention": True, "pos_att_type": ["p2c"]}),
    "albert": ("AlbertModel", {**SMALL, "embedding_size": 16}),
    "modernbert": ("ModernBertModel", {**SMALL, "classifier_pooling": "mean", "layer_types": None}),
}
COMPUTE = ComputeParams(device="cpu", precision="fp32", threads=1)


@cache
def shipped() -> Params:
    """Return the project's own params."""
    return load_params(ROOT / "params.yaml")


def params_for(source: Path | str, **changes: Any) -> Params:
    """Return the shipped params with another data source and other keys of `data`."""
    params = shipped()
    data = params.data.model_copy(update={"source": str(source), **changes})
    return params.model_copy(update={"data": data})


def changed(params: Params, **values: Any) -> Params:
    """Return the params with keys such as `train__epochs=0` changed and checked."""
    content = params.model_dump()
    for name, value in values.items():
        *section, key = name.split("__")
        (content[section[0]] if section else content)[key] = value
    return Params.model_validate(content)


def save_params(params: Params) -> None:
    """Write the params as the params.yaml of the current folder."""
    paths.PARAMS.write_text(json.dumps(params.model_dump()), encoding="utf-8")  # JSON is YAML


def save_tiny_model(name: str, folder: Path) -> Path:
    """Save a tiny random foundation model, without a classification head, and its tokenizer."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))  # noqa: S106  # no secret
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", VOCABULARY["[CLS]"]), ("[SEP]", VOCABULARY["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, ends)
    special = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # left untyped
        tokenizer_object=tokenizer,
        model_max_length=LONGEST,
        **{f"{kind}_token": word for kind, word in special.items()},
    ).save_pretrained(folder)

    kind, fields = MODELS.get(name) or ARCHITECTURES[name]
    body = getattr(transformers, kind)
    sizes = {"vocab_size": len(VOCABULARY), "max_position_embeddings": LONGEST + 2}
    config = body.config_class(
        # The range is large enough that two layers separate the words.
        **{"hidden_size": 32, "pad_token_id": 0, "initializer_range": 0.2, **sizes, **fields}
    )
    torch.manual_seed(1)
    body(config).save_pretrained(folder)
    return folder


def table(classes: int, rows: int = 100, seed: int = 0) -> list[tuple[str, str]]:
    """Return distinct texts with labels; every tenth label is the wrong one."""
    chance = random.Random(seed)  # noqa: S311  # made-up texts
    labelled = []
    for number in range(rows):
        words = [*chance.sample(FILLERS, chance.randint(2, 6)), SIGNS[number % classes]]
        chance.shuffle(words)
        labelled.append((" ".join(words), NAMES[(number + (number % 10 == 0)) % classes]))
    return labelled


def save_table(rows: list[tuple[str, Any]], name: str = "mine.csv") -> None:
    """Write texts and labels as a table in data/raw of the current folder."""
    lines = ["text,label", *(f"{text},{label}" for text, label in rows)]
    (paths.RAW / name).parent.mkdir(parents=True, exist_ok=True)
    (paths.RAW / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_all(params: Params) -> None:
    """Run the stages in the current folder, in process and in order."""
    from stages import (
        compare,
        evaluate_adapter,
        evaluate_base,
        evaluate_tfidf,
        fetch_base,
        prepare,
        train_lora,
    )

    prepare.prepare(params)
    fetch_base.fetch_base(params)
    evaluate_tfidf.evaluate_tfidf(params)
    evaluate_base.evaluate_base(params)
    train_lora.train_lora(params)
    evaluate_adapter.evaluate_adapter(params)
    compare.compare(params)


def new_process(code: str, **environment: str) -> subprocess.Popen[str]:
    """Start Python on the code in the current folder."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class TinyModels(dict[str, Path]):
    """The folder of each architecture's tiny model, saved on first use."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, name: str) -> Path:
        self[name] = save_tiny_model(name, self.folder / name)
        return self[name]
