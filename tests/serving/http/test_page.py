"""The page's files: nothing from elsewhere, nothing inline, everything escaped."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from stages.serving.http.page import PAGE, PARTS, interface_page, kind_of, read_static

FILES = ("/", "/page.css", "/page.js", "/page.svg", "/docs")
TYPES = ("text/html", "text/css", "text/javascript", "image/svg+xml", "text/html")


@pytest.mark.parametrize(("path", "media_type"), list(zip(FILES, TYPES, strict=True)))
def test_each_file_is_served_with_its_type_and_the_policy(
    client: TestClient, path: str, media_type: str
) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == f"{media_type}; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", FILES)
def test_nothing_comes_from_elsewhere_and_nothing_is_inline(client: TestClient, path: str) -> None:
    text = client.get(path).text
    assert not re.search(r"(?:src|href)=\"(?!/|#)", text)
    assert not re.search(r"url\(|@import|\bimport\(|//cdn|https?://(?!www\.w3\.org)", text)
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", text)


def test_every_id_that_the_script_asks_for_is_on_the_page() -> None:
    page, script = read_static(PAGE)[0], read_static("page.js")[0]
    ids = set(re.findall(r'id="([^"]+)"', page))
    wanted = set(re.findall(r'byId\("([^"]+)"\)', script))
    assert len(wanted) > 8
    assert wanted <= ids
    for name in ("aria-labelledby", "aria-describedby", "for"):
        assert set(re.findall(rf' {name}="([^"]+)"', page)) <= ids


def test_what_the_page_asks_for_is_served(client: TestClient) -> None:
    page = read_static(PAGE)[0]
    linked = set(re.findall(r'(?:src|href)="(/[^"]*)"', page))
    assert {f"/{name}" for name in PARTS} <= linked
    for path in linked:
        assert client.get(path).status_code == 200, path


def test_the_page_on_the_interface_names_every_path_and_escapes() -> None:
    operation = {"summary": "<b>", "responses": {"200": {"description": "&"}}}
    schema = {"info": {"summary": "s"}, "paths": {"/x<y>": {"get": operation}}}
    page = interface_page({**schema, "components": {"schemas": {}}})
    assert "GET /x&lt;y&gt;" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_the_page_on_the_interface_explains_every_field(client: TestClient) -> None:
    page = client.get("/docs").text
    for word in ("POST /predict", "with_base", "calibrated", "GET /metrics", "Refusal"):
        assert word in page
    for reference in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{reference}"' in page


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "string"}, "string"),
        ({"$ref": "#/components/schemas/Answer"}, "Answer"),
        ({"type": "array", "items": {"$ref": "#/x/Answer"}}, "list of Answer"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer or null"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "name to number"),
        ({}, "anything"),
    ],
)
def test_a_field_s_kind_is_said_in_words(schema: dict[str, object], kind: str) -> None:
    assert kind_of(schema) == kind
