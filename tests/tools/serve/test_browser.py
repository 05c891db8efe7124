"""The page in a real browser: what people see, hear and type. Screenshots go to SCREENSHOTS."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Running, Words, word_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]
TEXT = "a good film, good <b>and</b> not bad \U0001f600 &amp; <img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with word_server(Words()) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        # A container's root has no user namespaces for Chromium's sandbox.
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def elsewhere(url: str, home: str) -> list[str]:
    """Return the address if it is none of the server's."""
    return [] if url.startswith(home) else [url]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_a_text_is_classified_and_explained_by_keyboard_alone(
    browser: Any, server: Running, tmp_path: Path, scheme: str, width: int
) -> None:
    viewport = {"width": width, "height": 800}
    context = browser.new_context(viewport=viewport, color_scheme=scheme)
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda one: faults.extend(elsewhere(one.url, server.url)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))  # which then stays
    page.goto(server.url)
    page.locator("#served", has_text="sha256").wait_for()
    focused = "document.activeElement.id || document.activeElement.textContent"
    for wanted in ("Skip to the form", "main", "text"):
        page.keyboard.press("Enter" if wanted == "main" else "Tab")
        assert page.evaluate(focused) == wanted
    page.keyboard.type(TEXT)
    page.keyboard.press("Control+Enter")
    page.locator("#legend").wait_for()
    for name in ("model", "base"):
        card = page.locator(f"#answer-{name}")
        assert card.locator(".text").inner_text() == TEXT  # never markup
        assert card.locator(".word").all_inner_texts() == TEXT.split()
        assert set(card.locator(".word.for").all_inner_texts()) == {"good"}
        assert card.locator(".word.against").all_inner_texts() == ["bad"]
    lines = [
        page.evaluate(f"getComputedStyle(document.querySelector('.{kind}')).borderBottomStyle")
        for kind in ("for", "against")
    ]
    assert lines == ["solid", "dashed"]  # told apart without colour
    assert "leaving out one word" in page.locator("#method").inner_text()
    assert "positive, 73.1 %" in page.get_by_role("status").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    page.screenshot(path=folder / f"page-{width}-{scheme}.png", full_page=True)
    assert faults == []
    page.get_by_label("A text to classify").fill("   ")
    page.get_by_role("button", name="Classify").click()
    page.get_by_role("alert").wait_for()
    shown = page.get_by_role("alert").inner_text()
    assert shown == "Empty text. Fill it in or leave it out."  # and no path of a field
    context.close()


def test_many_classes_are_folded_and_old_answers_are_dimmed(browser: Any) -> None:
    page = browser.new_page()
    with word_server(Words(labels=77)) as server:
        page.goto(server.url)
        text, results = page.get_by_label("A text to classify"), page.locator("#results")
        classify = page.get_by_role("button", name="Classify")
        text.fill("good " * 6)
        classify.click()
        page.locator("#legend").wait_for()
        card = page.locator("#answer-model")
        shown = card.inner_text()
        assert shown.index("good good") < shown.index("Show all 77 classes")
        assert card.locator("th:visible").count() == 5
        assert card.locator("th").first.inner_text() == "74"  # the likeliest
        card.get_by_role("button").click()
        assert card.locator("th:visible").count() == 77
        for content, is_old in (("other", True), ("good " * 6, False)):
            text.fill(content)
            assert ("old" in (results.get_attribute("class") or "")) == is_old
        text.fill("w " * 301)  # more words than are explained
        classify.click()
        page.locator("#method", has_text="No word is coloured. 301 words").wait_for()
        assert not page.get_by_role("alert").is_visible()
    classify.click()
    page.get_by_role("alert").wait_for()
    page.locator("#old", has_text="The server does not answer any more.").wait_for()
    page.close()
