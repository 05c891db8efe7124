"""The page and its files, and the page on the interface; nothing is loaded from elsewhere."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

STATIC = files("stages.serving.http") / "static"
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
PAGE = "page.html"
PARTS = ("page.css", "page.js", "page.svg")


def read_static(name: str) -> tuple[str, str]:
    """Return the content of a file of the page, and its media type."""
    media_type = TYPES[f".{name.rpartition('.')[2]}"]
    return (STATIC / name).read_text(encoding="utf-8"), media_type


def interface_page(schema: dict[str, Any]) -> str:
    """Return the OpenAPI schema as a page for people, which needs no script.

    Args:
        schema: of the application.
    """
    from jinja2 import Environment

    # Every value is escaped. Blocks leave no empty lines.
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["kind"] = kind_of
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    template = environment.from_string((STATIC / "docs.html.j2").read_text(encoding="utf-8"))
    return template.render(schema=schema)


def kind_of(schema: dict[str, Any]) -> str:
    """Return what a field's JSON schema allows, in words: string, list of Answer, ..."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(kind_of(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {kind_of(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"name to {kind_of(schema['additionalProperties'])}"
    return str(schema.get("type", "anything"))
