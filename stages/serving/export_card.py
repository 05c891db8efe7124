"""The model card of an exported folder, in the form of the Hugging Face Hub."""

from __future__ import annotations

import html
import json
import re
import shlex
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from stages.core.errors import printable
from stages.sources.catalogue import HUB_ID


def export_card(record: dict[str, Any], name: str) -> str:
    """Return the card.

    Args:
        record: what export.json says, its check included.
        name: of the folder.
    """
    environment = Environment(  # noqa: S701  # Markdown, no HTML
        loader=PackageLoader("stages.serving"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "plain": lambda value: html.escape(printable(value), quote=False),
        "shell": lambda value: shlex.quote(printable(value, 200)),
        "python": lambda value: ascii(str(value)),
    }
    template = environment.get_template("export.md.j2")
    return template.render(r=record, check=record["check"], name=name, head=_head(record))


def _head(record: dict[str, Any]) -> str:
    """Return the card's YAML head, its values quoted as JSON, which is YAML too."""
    check = record["check"]
    source = record["base_source"].split("@")[0]
    base = {"base_model": source} if re.fullmatch(HUB_ID, source) else {}  # the Hub wants an id
    head = {
        "library_name": "transformers" if record["format"] == "merged" else "onnx",
        **base,
        "pipeline_tag": "text-classification",
        "tags": ["text-classification", "bert-lora-dvc", record["format"], record["precision"]],
        "model-index": [
            {
                "name": "bert-lora-dvc export",
                "results": [
                    {
                        "task": {"type": "text-classification"},
                        "dataset": {"name": "test rows", "type": "test rows"},
                        "metrics": [{"type": "accuracy", "value": round(check["accuracy"], 6)}],
                    }
                ],
            }
        ],
    }
    return "\n".join(f"{key}: {json.dumps(head[key], ensure_ascii=False)}" for key in head)
