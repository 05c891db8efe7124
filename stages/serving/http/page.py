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
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    template = environment.from_string((STATIC / "docs.html.j2").read_text(encoding="utf-8"))
    return template.render(schema=schema)
