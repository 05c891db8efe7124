"""The model card of the adapter, in the form of the Hugging Face Hub.

Values in its head are quoted as JSON, which is YAML too, whatever a label contains.
"""

from __future__ import annotations

import json
from importlib.metadata import version

from stages.core.params import Params
from stages.model.methods import method_of
from stages.reporting.page import content_of, environment
from stages.reporting.results import Results

LIBRARIES = ("torch", "transformers", "peft", "datasets", "scikit-learn")


def model_card(results: Results) -> str:
    """Return the model card of the adapter in the form of the Hugging Face Hub."""
    template = environment(autoescape=False).get_template("card.md.j2")
    libraries = {name: version(name) for name in LIBRARIES}
    return template.render(
        **content_of(results),
        head=_card_head(results),
        libraries=libraries,
        misread=_misread(results.params),
    )


def _misread(params: Params) -> list[str]:
    """Return why Transformers alone, without PEFT, would load another model from the adapter."""
    if method_of(params).library != "peft":
        return []
    pooling = params.model.pooling
    reasons = {
        "Transformers does not read the magnitudes of a DoRA adapter": params.lora.use_dora,
        f"the head then does not read what it was trained on (model.pooling: {pooling})": (
            pooling != "auto"
        ),
    }
    return [reason for reason, applies in reasons.items() if applies]


def _card_head(results: Results) -> str:
    """Return the card's YAML head."""
    params, details = results.params, results.details["adapter"]
    method = method_of(params)
    library = {"library_name": method.library} if method.library else {}
    head = library | {
        "base_model": params.model.source.split("@")[0],  # the Hub wants no revision here
        "pipeline_tag": "text-classification",
        "tags": [params.train.method, "text-classification", "dvc"],
        "metrics": ["accuracy", "f1"],
        "model-index": [
            {
                "name": "bert-lora-dvc adapter",
                "results": [
                    {
                        "task": {"type": "text-classification"},
                        "dataset": {"name": params.data.source, "type": params.data.source},
                        "metrics": [
                            {"type": "accuracy", "value": round(details["accuracy"], 6)},
                            {"type": "f1", "value": round(details["f1_macro"], 6)},
                        ],
                    }
                ],
            }
        ],
    }
    return "\n".join(f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in head.items())
