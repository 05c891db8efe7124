"""The model cards of adapter and exports, in the form of the Hugging Face Hub.

They name base and data as the Hub does, and no path of this machine.
"""

import shlex
from importlib.metadata import version
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from stages.core.errors import printable
from stages.core.methods import facts_of
from stages.reporting.answer import weakest
from stages.reporting.page import content_of, environment, plain
from stages.reporting.results import Results
from stages.sources.catalogue import entries, hub_name, public_name

LIBRARIES = ("torch", "transformers", "peft", "datasets", "scikit-learn")
# Of peft.LoraConfig: a card lists only what differs, as a reader knows these.
PEFT_DEFAULTS = {
    **{"r": 8, "lora_alpha": 8, "target_modules": None, "lora_dropout": 0.0, "bias": "none"},
    **{"task_type": "SEQ_CLS", "inference_mode": False, "use_rslora": False, "use_dora": False},
    **{"init_lora_weights": True, "modules_to_save": None, "layers_to_transform": None},
    **{"rank_pattern": {}, "alpha_pattern": {}},
}


def model_card(results: Results) -> str:
    """Return the model card of the adapter."""
    params = results.params
    content = content_of(results)
    lora = params.lora.model_dump()
    same = {f"lora.{key}" for key, value in lora.items() if value == PEFT_DEFAULTS.get(key)}
    unread = (*facts_of(params).unread, "compute.", "data.", "head.", "tfidf.", "model.source")
    settings = {
        key: value
        for key, value in content["settings"].items()
        if key not in same and not key.startswith(unread)
    }
    return environment(autoescape=False).get_template("card.md.j2").render(
        content
        | {
            "settings": settings | {"seed": str(params.seed)},
            "head": _head_of_adapter(results),
            "base_on_hub": hub_name(params.model.source, "models"),
            "source": public_name(params.data.source, "data"),
            "known": entries("data").get(params.data.source),
            "libraries": {name: version(name) for name in LIBRARIES},
            "weakest": weakest(results, plain),
        }
    )  # fmt: skip


def export_card(record: dict[str, Any], name: str) -> str:
    """Return the card of an exported folder.

    Args:
        record: what export.json says, its check included.
        name: of the folder.
    """
    templates = environment(autoescape=False)
    templates.filters |= {
        "shell": lambda value: shlex.quote(printable(value, 200)),
        "python": lambda value: ascii(str(value)),
    }
    head = _head(
        "transformers" if record["format"] == "merged" else "onnx",
        record["base_source"],
        ["text-classification", "bert-lora-dvc", record["format"], record["precision"]],
        ("test rows", "test-rows"),
        {"accuracy": record["check"]["accuracy"]},
    )
    template = templates.get_template("export.md.j2")
    return template.render(r=record, check=record["check"], name=name, head=head)


def _head_of_adapter(results: Results) -> str:
    params, details = results.params, results.details["adapter"]
    on_hub = (hub_name(params.data.source, "data") or "").partition("@")[0]
    name = public_name(params.data.source, "data")
    return _head(
        facts_of(params).library,
        params.model.source,
        [params.train.method, "text-classification", "bert-lora-dvc", "dvc"],
        (name, on_hub or name.replace(" ", "-")),
        {"accuracy": details["accuracy"], "f1": details["f1_macro"]},
        [on_hub] if on_hub else None,
    )


def _head(
    library: str | None,
    base: str,
    tags: list[str],
    rows: tuple[str, str],
    metrics: dict[str, float],
    datasets: list[str] | None = None,
) -> str:
    """Return a card's YAML head, with the base and its licence where the Hub knows them.

    Args:
        library: that loads the files, as the Hub names it.
        base: the model's source.
        tags: the Hub's.
        rows: name and type of the rows that the metrics are of.
        metrics: values by the Hub's name of each.
        datasets: the Hub's names of the data.
    """
    known, on_hub = entries("models").get(base), hub_name(base, "models")
    return ModelCardData(
        library_name=library,
        base_model=on_hub.partition("@")[0] if on_hub else None,
        license=known.licence.lower() if known else None,  # the Hub's are in small letters
        pipeline_tag="text-classification",
        tags=tags,
        metrics=list(metrics),
        datasets=datasets,
        model_name="bert-lora-dvc",
        eval_results=[
            EvalResult("text-classification", rows[1], rows[0], name, round(value, 6))
            for name, value in metrics.items()
        ],
    ).to_yaml()
