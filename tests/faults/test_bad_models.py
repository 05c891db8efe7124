"""Faults of models and adapters: damaged, foreign or hostile, each in the stage that meets it."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from stages.core import paths
from stages.core.artefacts import sha256_of
from stages.core.params import Params
from stages.evaluate_adapter import evaluate_adapter
from stages.evaluate_base import evaluate_base
from stages.fetch_base import fetch_base
from tests.support.faults import assert_ends, assert_succeeded, stage
from tests.support.model_files import edit_json, edit_tensors
from tests.support.tiny import changed, save_params

pytestmark = pytest.mark.usefixtures("project")
Capture = pytest.CaptureFixture[str]
Provoke = Callable[[], object]
Tensors = dict[str, torch.Tensor]
BASE, CANARY = paths.BASE_MODEL, Path("CANARY")
WEIGHTS, CONFIG = BASE / "model.safetensors", BASE / "config.json"
TOKENIZER, SETTINGS = BASE / "tokenizer.json", BASE / "tokenizer_config.json"
MANIFEST, ADAPTER = paths.ADAPTER_MANIFEST, paths.ADAPTER_WEIGHTS
HTML = b"<!DOCTYPE html><html><body>Not found</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda content: content[: len(content) // 2],
    "a web page": lambda _: HTML,
    "an LFS pointer": lambda _: POINTER,
}


def in_turn(*provoke: Provoke) -> Provoke:
    return lambda: [each() for each in provoke]


def damage(path: Path, how: Callable[[bytes], bytes]) -> Provoke:
    return lambda: path.write_bytes(how(path.read_bytes()))


def write(path: Path, content: bytes) -> Provoke:
    return damage(path, lambda _: content)


def settings(path: Path, **changes: Any) -> Provoke:
    return partial(edit_json, path, **changes)


def tensors(path: Path, change: Callable[[Tensors], object]) -> Provoke:
    return partial(edit_tensors, path, change)


def sealed(provoke: Provoke) -> Provoke:
    """Let the manifest agree with the adapter's files, as if it had been saved damaged."""

    def seal() -> None:
        names = json.loads(MANIFEST.read_text(encoding="utf-8"))["files"]
        edit_json(MANIFEST, files={name: sha256_of(paths.ADAPTER / name) for name in names})

    return in_turn(provoke, seal)


def without(part: str) -> Callable[[Tensors], object]:
    return lambda found: [found.pop(name) for name in list(found) if part in name]


def reshaped(part: str) -> Callable[[Tensors], object]:
    name = re.compile(f".*{re.escape(part)}.*").fullmatch
    return lambda found: found.update({next(filter(name, found)): torch.zeros(1, 3)})


def first_value(name: Callable[[Tensors], str], value: float) -> Callable[[Tensors], object]:
    return lambda found: found[name(found)].view(-1)[0].fill_(value)


OTHER = r"{}: sha256 \w{{12}}, the adapter's manifest says \w{{12}}".format
NO_MANIFEST = f"{MANIFEST}: not a manifest of this project"
MANIFESTS: list[tuple[str, Any, str]] = [
    ("base", None, NO_MANIFEST),
    ("base", [], NO_MANIFEST),
    ("files", 3, NO_MANIFEST),
    ("files", {}, r"adapter_config.json: sha256 \w{12}, the adapter's manifest says None"),
    ("labels", 1, NO_MANIFEST),
    *(
        (
            "labels",
            names,
            rf"for the labels \[{', '.join(map(repr, names))}\], the data has",
        )
        for names in (("positive", "negative"), ("negative", "positive", "neutral"))
    ),
    ("method", "other", NO_MANIFEST),
    ("precision", None, NO_MANIFEST),
    ("pooling", "auto", "trained with model.pooling auto, the base was loaded with mean"),
    ("temperature", 0.0, NO_MANIFEST),
]
ADAPTER_FAULTS: dict[str, tuple[Provoke, str]] = {
    **{
        f"another {p.name}": (damage(p, lambda c: c + b"\n"), OTHER(p)) for p in (TOKENIZER, CONFIG)
    },
    "a file more": ((BASE / "vocab.txt").touch, "vocab.txt: .* manifest says None"),
    "another base": (tensors(WEIGHTS, first_value(min, 9.0)), f"{OTHER(WEIGHTS)}.*dvc checkout"),
    **{
        f"no {p.name}": (p.unlink, f"{p}: missing")
        for p in (paths.ADAPTER_CONFIG, ADAPTER, MANIFEST)
    },
    **{f"{name}": (damage(ADAPTER, how), OTHER(ADAPTER)) for name, how in DAMAGES.items()},
    **{
        f"{name}, sealed": (sealed(damage(ADAPTER, how)), rf"{ADAPTER}: {size} bytes, not a compl")
        for (name, how), size in zip(
            DAMAGES.items(), (0, r"\d+", len(HTML), len(POINTER)), strict=True
        )
    },
    "a flipped bit": (
        damage(ADAPTER, lambda c: c[:-9] + bytes([c[-9] ^ 1]) + c[-8:]),
        OTHER(ADAPTER),
    ),
    "not finite": (
        sealed(tensors(ADAPTER, first_value(max, float("nan")))),
        "holds a value that is not finite",
    ),
    "no head": (tensors(ADAPTER, without("classifier")), OTHER(ADAPTER)),
    **{
        f"no {part}, sealed": (
            sealed(tensors(ADAPTER, without(part))),
            f"(cannot be loaded|do not match).*{part}",
        )
        for part in ("classifier", "lora_A")
    },
    "a tensor more": (
        sealed(tensors(ADAPTER, lambda t: t.update({"base_model.model.extra": torch.zeros(1)}))),
        "1 tensors do not match the model, for example base_model.model.extra",
    ),
    **{
        f"{part} of another shape": (sealed(tensors(ADAPTER, reshaped(part))), "cannot be loaded")
        for part in ("classifier.weight", "0.attention.self.key.lora_A")
    },
    **{
        f"config {c!r}": (
            sealed(write(paths.ADAPTER_CONFIG, c)),
            "models/adapter: cannot be loaded",
        )
        for c in (b"", b"{", b"[]", b"{}", b'{"peft_type": "LORA"}', b'{"r": "x"}')
    },
    **{
        f"manifest {c!r}": (write(MANIFEST, c), NO_MANIFEST)
        for c in (b"", b"{", b"[]", b"3", b"{}", b'{"base": {}}', b"\xff")
    },
    **{
        f"manifest's {key} {value}": (settings(MANIFEST, **{key: value}), message)
        for key, value, message in MANIFESTS
    },
}


@pytest.mark.guard("base of the adapter")
@pytest.mark.guard("files of the adapter")
@pytest.mark.guard("finite weights")
@pytest.mark.guard("labels of the adapter")
@pytest.mark.guard("pooling of the adapter")
@pytest.mark.guard("tensors of the adapter")
@pytest.mark.parametrize("name", ADAPTER_FAULTS)
def test_an_adapter_that_is_not_what_was_trained_is_refused(
    name: str, params: Params, capsys: Capture
) -> None:
    provoke, message = ADAPTER_FAULTS[name]
    provoke()
    output = assert_ends(partial(evaluate_adapter, params), capsys, 4, "dvc repro -f train_lora")
    assert re.search(message, output), output


def save_another(kind: str, **fields: Any) -> Provoke:
    def save() -> None:
        config = transformers.AutoConfig.for_model(kind, vocab_size=80, num_heads=2, **fields)
        model: Any = transformers.AutoModel
        model.from_config(config).save_pretrained(BASE)

    return save


def without_first_token(kept: bool) -> None:
    """Let the tokenizer add no special token, or only the one at the end."""
    ends = json.loads(TOKENIZER.read_text(encoding="utf-8"))["post_processor"]
    ends["single"] = [part for part in ends["single"] if "[CLS]" not in str(part)]
    edit_json(TOKENIZER, post_processor=ends if kept else ...)


def special_tokens_alone() -> None:
    model = json.loads(TOKENIZER.read_text(encoding="utf-8"))["model"]
    vocab = {word: number for word, number in model["vocab"].items() if word.startswith("[")}
    edit_json(TOKENIZER, model=model | {"vocab": vocab})


def four_causes(found: Tensors) -> None:
    found["encoder.layer.0.output.dense.bias"].fill_(float("nan"))
    del found["encoder.layer.1.output.dense.bias"]
    found["embeddings.other.weight"] = torch.ones(1)


def not_finite(value: float, dtype: torch.dtype) -> Provoke:
    def change(found: Tensors) -> None:
        found.update({name: tensor.to(dtype) for name, tensor in found.items()})
        found["encoder.layer.0.output.dense.weight"][0, 0] = value

    return tensors(WEIGHTS, change)


FIRST = {"model__pooling": "first"}
NO_FIRST = r"puts no token such as \[CLS\] in front"
BASE_FAULTS: dict[str, tuple[Provoke, dict[str, Any], str]] = {
    **{
        f"weights: {name}": (
            damage(WEIGHTS, how),
            {},
            "cannot be loaded: .*dvc repro -f fetch_base",
        )
        for name, how in DAMAGES.items()
    },
    **{f"no {path.name}": (path.unlink, {}, str(BASE)) for path in (CONFIG, WEIGHTS)},
    **{
        f"{path.name} {content!r}": (write(path, content), {}, str(BASE))
        for path in (CONFIG, TOKENIZER)
        for content in (b"", b"{", b"[1]", b"\xff")
    },
    "gpt2": (save_another("gpt2", n_embd=32, n_layer=1, n_head=2), {}, str(BASE)),
    "t5": (save_another("t5", d_model=32, d_ff=32, num_layers=1), {}, str(BASE)),
    "clip": (settings(CONFIG, model_type="clip"), {}, str(BASE)),
    "fnet": (
        settings(CONFIG, model_type="fnet"),
        {},
        "fnet is not supported: it has no attention mask",
    ),
    **{
        f"{value} in {dtype}": (
            not_finite(value, dtype),
            {},
            "has 1 weights with values that are not finite numbers, for example "
            "bert.encoder.layer.0.output.dense.weight",
        )
        for value in (float("nan"), float("inf"), -float("inf"))
        for dtype in (torch.float32, torch.bfloat16)
    },
    "logits that are not finite": (
        tensors(WEIGHTS, lambda t: [t[n].mul_(1e30) for n in t if "dense.weight" in n]),
        {},
        "gives logits that are not finite numbers",
    ),
    "a projection that is not used": (
        tensors(WEIGHTS, lambda t: t.update({"embeddings.projection.weight": torch.ones(2, 2)})),
        {},
        "has 1 weights of the encoder that the model of config.json does not use, for example "
        "embeddings.projection.weight",
    ),
    "four causes, a line each": (
        in_turn(tensors(WEIGHTS, four_causes), settings(CONFIG, type_vocab_size=3)),
        {},
        "(?s)lacks 1 weights of the encoder, for example bert.encoder.layer.1.output.dense.*\n"
        r".*bert.embeddings.token_type_embeddings.weight: it has \[2, 32\], not \[3, 32\].*"
        "\n.*embeddings.other.weight.*\n.*not finite",
    ),
    "no padding token": (settings(SETTINGS, pad_token=...), {}, "padding"),
    "a new padding token": (
        settings(SETTINGS, pad_token="[NEW]"),  # noqa: S106  # no secret
        {},
        r"has \d+ tokens, the model only \d+",
    ),
    "special tokens alone": (special_tokens_alone, {}, "has no tokens but its special ones"),
    **{
        f"length {value}": (settings(SETTINGS, model_max_length=value), {}, message)
        for value, message in (
            *((value, "expected a number of tokens") for value in ("long", [20], True)),
            (2, "the tokenizer keeps 2 tokens of a text, 2 of which are its own"),
        )
    },
    "nothing in front": (partial(without_first_token, kept=False), FIRST, NO_FIRST),
    "no token in front": (partial(without_first_token, kept=True), FIRST, NO_FIRST),
    "nothing in front, auto": (
        partial(without_first_token, kept=False),
        {"model__pooling": "auto"},
        NO_FIRST,
    ),
}


@pytest.mark.guard("finite base")
@pytest.mark.parametrize("name", BASE_FAULTS)
def test_a_base_that_cannot_be_used_is_refused(name: str, params: Params, capsys: Capture) -> None:
    provoke, changes, message = BASE_FAULTS[name]
    provoke()
    output = assert_ends(partial(evaluate_base, changed(params, **changes)), capsys, 4)
    assert re.search(message, output), output


@pytest.mark.parametrize(
    ("name", "config", "pooling", "message"),
    [
        ("bert-no-pooler", {"num_hidden_layers": 1}, "mean", r"not use, .* bert.encoder.layer.1\."),
        ("mpnet", {"num_hidden_layers": 1}, "mean", r"not use, .* encoder.layer.1\."),
        ("distilbert", {"n_layers": 1}, "mean", r"not use, .* transformer.layer.1\."),
        ("deberta", {"num_hidden_layers": 1}, "mean", r"not use, .* encoder.layer.1\."),
        ("modernbert", {"num_hidden_layers": 1}, "mean", r"not use, .* layers.1\."),
        (
            "EuroBERT",
            {},
            "auto",
            r"than one state.*set model\.pooling to (first or mean|mean or f)",
        ),
        ("Funnel", {}, "mean", r"model\.pooling: mean: Funnel.*set model\.pooling to auto"),
    ],
)
def test_an_architecture_that_does_not_fit_is_refused(
    name: str,
    config: dict[str, Any],
    pooling: str,
    message: str,
    params: Params,
    models: dict[str, Path],
    capsys: Capture,
) -> None:
    shutil.rmtree(BASE)
    shutil.copytree(models[name], BASE)
    edit_json(CONFIG, **config, **({"layer_types": None} if name == "modernbert" else {}))
    asked = changed(params, model__pooling=pooling)
    assert re.search(message, assert_ends(partial(evaluate_base, asked), capsys, 4))


@pytest.mark.slow
def test_a_pooler_that_the_base_lacks_is_saved_with_the_adapter(
    models: dict[str, Path], params: Params
) -> None:
    source = str(models["bert-no-pooler"])
    save_params(changed(params, model__source=source, model__pooling="auto", train__epochs=1))
    for name in ("fetch_base", "evaluate_base", "train_lora", "evaluate_adapter"):
        assert_succeeded(stage(name))
    saved = load_file(ADAPTER)
    assert any("pooler" in name for name in saved)
    assert any("classifier" in name for name in saved)


class Evil:
    """Touches CANARY when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (CANARY.absolute(),))


def hostile(params: Params) -> Params:
    """Make a copy of the base in a folder of its own, to make it hostile; return its params."""
    shutil.copytree(BASE, "evil")
    return changed(params, model__source="evil")


@pytest.mark.guard("no pickled weights")
def test_pickled_weights_are_refused_and_never_opened(params: Params, capsys: Capture) -> None:
    evil = hostile(params)
    Path("evil/model.safetensors").unlink()
    Path("evil/pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    assert_ends(partial(fetch_base, evil), capsys, 4, "pickle weights are refused")
    (paths.ADAPTER / "adapter_model.bin").write_bytes(pickle.dumps(Evil()))
    ADAPTER.unlink()
    assert_ends(partial(evaluate_adapter, params), capsys, 4, "adapter_model.safetensors")
    assert not CANARY.exists()
    pickle.loads(pickle.dumps(Evil()))  # noqa: S301  # shows that opening it leaves the canary
    assert CANARY.exists()


@pytest.mark.guard("no code of a model")
def test_code_of_a_model_is_refused_or_left_alone(params: Params, capsys: Capture) -> None:
    evil = hostile(params)
    Path("evil/modeling.py").write_text("open('CANARY', 'w')", encoding="utf-8")
    config = Path("evil/config.json")
    edit_json(config, auto_map={"AutoModel": "modeling.Evil"}, model_type="evil")
    assert_ends(partial(fetch_base, evil), capsys, 4, "code")
    # Beside a model that Transformers knows it is not run.
    edit_json(config, auto_map={"AutoModel": ["modeling.Evil", None]}, model_type="bert")
    tokenizer = {"AutoTokenizer": ["modeling.Evil", None]}
    edit_json(Path("evil/tokenizer_config.json"), auto_map=tokenizer)
    fetch_base(evil)
    named = "config.json names code of its own (auto_map), which is not run"
    assert named in capsys.readouterr().out
    evaluate_base(params)
    assert not CANARY.exists()
