"""A tiny offline world: small random models, a hundred labelled rows, and a whole run on them.

A word of each text gives its label, so that even a small random body can learn the task. Heavy
libraries are imported where a fixture needs them, so that the tests without them start at once.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stages.shared import paths
from stages.shared.params import ComputeParams, Params, load_params
from stages.shared.run import set_environment

if TYPE_CHECKING:
    from stages.shared.model import Classifier

ROOT = Path(__file__).parents[1]
pytest_plugins = ["faults_kit"]
SIGNS = ("bad", "good", "plain")  # the word that gives the label
NAMES = ("negative", "positive", "neutral")
FILLERS = [f"w{number}" for number in range(60)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = {word: n for n, word in enumerate([*SPECIAL, *SIGNS, *FILLERS, "a", "longer", "text"])}
LONGEST = 64  # tokens
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {  # name: model class, fields of its config
    # Without dropout, which would drown the little that two layers of 32 can say.
    "bert": ("BertModel", {**SMALL, "hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}),
    "bert-no-pooler": ("BertForMaskedLM", SMALL),
    "roberta": ("RobertaModel", SMALL),
    "mpnet": ("MPNetModel", SMALL),
    "distilbert": ("DistilBertModel", DISTILBERT),
    "electra": ("ElectraModel", {**SMALL, "embedding_size": 16}),
    "deberta": ("DebertaV2Model", {**SMALL, "relative_attention": True, "pos_att_type": ["p2c"]}),
    "albert": ("AlbertModel", {**SMALL, "embedding_size": 16}),
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


def pytest_configure() -> None:
    """Set the number of threads before a test module imports torch, which reads it only then."""
    set_environment(COMPUTE)


def changed(params: Params, **values: Any) -> Params:
    """Return the params with keys such as `train__epochs=0` changed, checked anew."""
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

    kind, fields = MODELS[name]
    body = getattr(transformers, kind)
    sizes = {"vocab_size": len(VOCABULARY), "max_position_embeddings": LONGEST + 2}
    config = body.config_class(
        **{"hidden_size": 32, "pad_token_id": 0, **sizes, **fields},
        initializer_range=0.2,  # so that a body of two layers tells one word from another
    )
    torch.manual_seed(1)
    body(config).save_pretrained(folder)
    return folder


def table(classes: int, rows: int = 100, seed: int = 0) -> list[tuple[str, str]]:
    """Return distinct texts with labels; in every tenth row the label is another's."""
    chance = random.Random(seed)  # noqa: S311  # made-up texts
    made = []
    for number in range(rows):
        words = [*chance.sample(FILLERS, chance.randint(2, 6)), SIGNS[number % classes]]
        chance.shuffle(words)
        made.append((" ".join(words), NAMES[(number + (number % 10 == 0)) % classes]))
    return made


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
    """The folder of each architecture's tiny model, saved when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, name: str) -> Path:
        self[name] = save_tiny_model(name, self.folder / name)
        return self[name]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of each architecture's tiny model, by name."""
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def params(models: dict[str, Path]) -> Params:
    """Return the project's own params, shrunk to the tiny world."""
    return changed(
        shipped(),
        data__source="data/raw/mine.csv",
        data__validation_fraction=0.2,
        data__test_fraction=0.2,
        data__max_length=32,
        model__source=str(models["bert"]),
        lora__r=4,
        lora__lora_alpha=8,
        train__epochs=2,
        train__learning_rate=0.01,
        train__batch_size=8,
        compute=COMPUTE.model_dump(),
    )


@pytest.fixture(scope="session")
def finished(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the whole pipeline ran. Only read it: see `project`."""
    folder = tmp_path_factory.mktemp("finished")
    with chdir(folder):
        save_params(params)
        save_table(table(classes=2))
        run_all(params)
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """Stand in a copy of the finished run, to change and to run stages in."""
    folder = tmp_path / "project"
    shutil.copytree(finished, folder)
    with chdir(folder):
        yield folder


@pytest.fixture
def standing(models: dict[str, Path], tmp_path: Path) -> Iterator[Any]:
    """Return a function that loads an architecture's tiny model as models/base."""
    from stages.shared.model import load_base

    def load(name: str, labels: tuple[str, ...] = NAMES[:2], seed: int = 42) -> Classifier:
        # A new file: a model in memory may still map the old one.
        shutil.rmtree(paths.BASE_MODEL, ignore_errors=True)
        shutil.copytree(models[name], paths.BASE_MODEL)
        return load_base(paths.BASE_MODEL, list(labels), seed)

    with chdir(tmp_path):
        yield load


@pytest.fixture(scope="session")
def trained(
    finished: Path, params: Params, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Classifier]:
    """Return a copy of the finished run, and the adapter trained anew in it, still in memory."""
    from stages import train_lora
    from stages.shared import adapter, adapter_files, compute, model, splits

    folder = tmp_path_factory.mktemp("trained") / "project"
    shutil.copytree(finished, folder)
    with chdir(folder):
        shutil.rmtree(paths.ADAPTER)
        labels = splits.read_labels()
        base = model.load_base(paths.BASE_MODEL, labels, params.seed)
        model.load_head(base, paths.HEAD)
        classifier = adapter.attach_lora(base, params.lora)
        train, validation = (
            splits.read_split(path, labels) for path in (paths.TRAIN, paths.VALIDATION)
        )
        train_lora.fit(classifier, train, validation, params, compute.set_up(params.compute))
        adapter_files.save_adapter(
            classifier, paths.ADAPTER, paths.BASE_MODEL, params.data.max_length
        )
    return folder, classifier


IN_ANOTHER_PROCESS = """
import os, torch
from pathlib import Path
from stages.shared import adapter, adapter_files, compute, model, params, paths
from stages.shared import run, scoring, splits
params = params.load_params()
run.set_environment(params.compute)
hardware = compute.set_up(params.compute)
labels = splits.read_labels()
load = lambda: model.load_base(paths.BASE_MODEL, labels, params.seed)
name = os.environ["PYTHONHASHSEED"]
adapter_files.save_adapter(
    adapter.attach_lora(load(), params.lora), Path("fresh-" + name), paths.BASE_MODEL, 32
)
classifier = adapter_files.load_adapter(load(), paths.ADAPTER, paths.BASE_MODEL)
texts = splits.read_split(paths.TEST, labels).texts
torch.save(scoring.predict_logits(classifier, texts, 32, hardware, "x"), name + ".pt")
"""


@pytest.fixture(scope="session")
def other_process(trained: tuple[Path, Classifier]) -> Path:
    """Return a folder where a process with hash seed 0 has read the trained adapter.

    It leaves its logits on the test rows in 0.pt, and a fresh adapter in fresh-0.
    """
    with chdir(trained[0]):
        read_in_another_process("0")
    return trained[0]


def read_in_another_process(hash_seed: str) -> None:
    """Run IN_ANOTHER_PROCESS in the current folder."""
    process = new_process(IN_ANOTHER_PROCESS, PYTHONHASHSEED=hash_seed)
    output, _ = process.communicate()
    assert process.returncode == 0, output
