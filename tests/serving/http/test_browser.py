"""The page in a real browser: what people see, hear and type. Screenshots go to SCREENSHOTS."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import chdir
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.server import Running, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]
TEXT = "w1 w2 good w3"
PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
LEAST_CONTRAST = 4.5  # WCAG 2.2, level AA, of text
LEAST_TARGET = 24  # pixels, WCAG 2.2, level AA
# For each visible text: its contrast with what is behind it, half transparent colours mixed.
CONTRASTS = """
() => {
  const parse = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return found.length < 4 ? [...found, 1] : found;
  };
  const over = (top, below) =>
    [0, 1, 2].map((n) => top[n] * top[3] + below[n] * (1 - top[3])).concat(1);
  const light = (color) => {
    const parts = color.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      layers.push(parse(getComputedStyle(at).backgroundColor));
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    const box = element.getBoundingClientRect();
    if (!text || box.width < 2 || box.right < 0 || !element.checkVisibility()) continue;
    const back = behind(element);
    const front = over(parse(getComputedStyle(element).color), back);
    const [high, low] = [light(front), light(back)].sort((a, b) => b - a);
    found.push([text.slice(0, 40), (high + 0.05) / (low + 0.05)]);
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def server(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("browser") / "project"
    shutil.copytree(finished_run, folder)
    with chdir(folder), serving(folder) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        # A container's root has no user namespaces for Chromium's sandbox.
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


class Watched:
    """A page, and all that must not happen on it.

    Attributes:
        faults: errors in the console, dialogs, requests to elsewhere.
    """

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.faults: list[str] = []
        self.page.on("console", lambda message: self._console(message))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self._dialog(dialog))
        self.page.on("request", lambda request: self._request(request, url))
        self.page.goto(url)
        # Not wait_for_function: it evaluates strings, which the page's policy forbids.
        self.page.locator("#served", has_text="sha256").wait_for()

    def ask(self, text: str) -> None:
        """Type a text, and wait for its answer and its explanation."""
        self.page.get_by_label("A text to classify").fill(text)
        self.page.get_by_role("button", name="Classify").click()
        self.page.locator("#legend").wait_for()

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    def _dialog(self, dialog: Any) -> None:
        self.faults.append(dialog.message)
        dialog.dismiss()

    def _request(self, request: Any, url: str) -> None:
        if not request.url.startswith(url):
            self.faults.append(request.url)


@pytest.fixture
def watched(browser: Any, server: Running) -> Iterator[Watched]:
    made = Watched(browser, server.url, viewport=DESKTOP)
    yield made
    made.context.close()
    assert made.faults == []


def test_base_and_adapter_stand_side_by_side_with_their_words(
    watched: Watched, server: Running
) -> None:
    watched.ask(TEXT)
    body = {"text": TEXT, "all": True, "with_base": True}
    answer = httpx2.post(f"{server.url}/predict", json=body).json()["answers"][0]
    page = watched.page
    for name, title, of in (("model", "Adapter", answer), ("base", "Base", answer["base"])):
        card = page.get_by_role("region", name=title, exact=True)
        shown = f"{of['label']}, {100 * of['probability']:.1f} %"
        assert card.locator(".answer").inner_text() == shown
        for label, share in of["probabilities"].items():
            row = card.get_by_role("row", name=label)
            assert row.locator(".number").inner_text() == f"{100 * share:.1f} %"
        assert card.locator(".text").inner_text() == TEXT
        assert card.locator(".word").count() == len(TEXT.split())
        assert "completeness error" in card.locator(".error").inner_text()
        assert shown in page.get_by_role("status").inner_text()
        assert page.locator(f"#answer-{name}").count() == 1
    strongest = page.locator("#answer-model .word.s4").all_inner_texts()
    assert "good" in strongest
    assert "integrated gradients" in page.locator("#method").inner_text()
    base, adapter = (page.locator(f"#answer-{name}").bounding_box() for name in ("base", "model"))
    assert base["y"] == adapter["y"]
    assert base["x"] < adapter["x"]


def test_it_works_by_keyboard_alone(watched: Watched) -> None:
    page = watched.page
    focused = "document.activeElement.id || document.activeElement.textContent"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Skip to the form"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "text"
    page.keyboard.type(TEXT)
    page.keyboard.press("Control+Enter")
    page.locator("#legend").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "submit"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Tab")
    chosen = page.evaluate("document.activeElement.firstChild.textContent")
    assert page.evaluate("document.activeElement.closest('ul').id") in ("fixed", "broken")
    page.keyboard.press("Enter")
    for name in ("base", "model"):
        page.locator(f"#answer-{name} .text", has_text=chosen).wait_for()
    assert page.evaluate(focused) == "text"
    assert page.get_by_label("A text to classify").input_value() == chosen
    assert page.locator("#answer-model .text").inner_text() == chosen


def test_a_text_is_never_markup(watched: Watched) -> None:
    text = "<img src=x onerror=alert(1)> good <b>w1</b> \U0001f600 &amp; <script>alert(2)</script>"
    watched.ask(text)
    page = watched.page
    assert page.locator("#answer-model .text").inner_text() == text
    assert page.locator("main img, main b, main script").count() == 0
    words = page.locator("#answer-model .word").all_inner_texts()
    assert "\U0001f600" in words
    assert "&amp;" in words


def test_a_refusal_is_read_out_and_goes_away(watched: Watched) -> None:
    page = watched.page
    page.get_by_label("A text to classify").fill("   ")
    page.get_by_role("button", name="Classify").click()
    page.get_by_role("alert").wait_for()
    assert page.get_by_role("alert").inner_text() == (
        "texts.0: empty text: fill it in or leave it out."
    )
    # The browser itself reports each answer with a status of 4xx.
    assert all("422" in fault for fault in watched.faults)
    watched.faults.clear()
    watched.ask("good")
    assert not page.get_by_role("alert").is_visible()


def test_a_server_that_is_gone_is_said_so(browser: Any, finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "project")
    with serving(tmp_path / "project") as running:
        gone = Watched(browser, running.url)
    gone.page.get_by_label("A text to classify").fill("good")
    gone.page.get_by_role("button", name="Classify").click()
    gone.page.get_by_role("alert").wait_for()
    assert gone.page.get_by_role("alert").inner_text() == (
        "The server does not answer. Is it still running?"
    )
    gone.context.close()


def test_what_a_screen_reader_needs_is_there(watched: Watched) -> None:
    watched.ask(TEXT)
    page = watched.page
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.title() == "bert-lora: try the classifier"
    for landmark in ("banner", "main", "contentinfo"):
        assert page.get_by_role(landmark).count() == 1
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].filter(h => h.checkVisibility())"
        ".map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    for control in page.locator("button, textarea, a").all():
        name = control.get_attribute("aria-label") or control.inner_text()
        if control.evaluate("element => element.labels?.length > 0"):
            name = control.evaluate("element => element.labels[0].textContent")
        assert name.strip()
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids))
    assert page.get_by_role("status").get_attribute("aria-live") == "polite"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("path", ["/", "/docs"])
def test_it_fits_and_can_be_read(
    browser: Any,
    server: Running,
    tmp_path: Path,
    scheme: str,
    size: dict[str, int],
    path: str,
) -> None:
    watched = Watched(browser, server.url, viewport=size, color_scheme=scheme)
    page = watched.page
    if path == "/":
        watched.ask(f"{TEXT} a bad film, {'verylongword' * 12}")
        assert page.locator("#examples li button").count() > 0
    else:
        page.goto(f"{server.url}{path}")
    page.mouse.move(0, 0)
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    name = f"{path.strip('/') or 'page'}-{size['width']}-{scheme}.png"
    page.screenshot(path=folder / name, full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 20
    assert [pair for pair in contrasts if pair[1] < LEAST_CONTRAST] == []
    for button in page.locator("button").all():
        assert button.bounding_box()["height"] >= LEAST_TARGET
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (scheme == "light")
    watched.context.close()
    assert watched.faults == []
