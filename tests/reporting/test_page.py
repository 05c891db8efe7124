"""The page and the Markdown: complete, the same each time, and safe from hostile labels."""

import re
from dataclasses import replace
from html import escape
from html.parser import HTMLParser

import pytest

from stages.reporting import figures, page
from stages.reporting.answer import use
from stages.reporting.page import model_card
from stages.reporting.records import Check, record_of
from stages.reporting.results import MODELS, Results, percent, points
from tests.support.example_results import HOSTILE, example
from tests.support.tiny import shipped


class Tags(HTMLParser):
    """Collects the tags and addresses of a page, and what is left open."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag and where it points."""
        self.found.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that the last open tag is closed."""
        assert self.open.pop() == tag


def page_of(results: Results) -> str:
    return page.report_html(results, figures.draw(results))


@pytest.mark.parametrize("classes", [2, 12])
def test_the_page_is_whole_and_loads_nothing(classes: int) -> None:
    results = example(shipped(), [f"class {number}" for number in range(classes)])
    text = page_of(results)
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert {"html", "title", "h1", "table", "img", "caption"} <= tags.found
    assert not {"script", "link", "iframe"} & tags.found
    assert all(address.startswith(("#", "data:")) for address in tags.addresses)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", text)
    assert f'<p class="verdict">Use it? {escape(use(results))}.</p>' in text
    assert "The commonest mistakes" in text
    assert text.index("LoRA</th>") < text.index("majority class</th>")  # the best first
    assert "One training run; the interval does not cover another seed." in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert page_of(results) == text  # the same bytes


def test_hostile_labels_and_texts_are_inert() -> None:
    results = example(shipped(), HOSTILE, text="<img src=x onerror=alert(1)> \x1b[2J \u202e")
    for text in (
        page_of(results),
        page.report_md(results),
        model_card(results),
    ):
        assert "<script" not in text
        assert "<img src=x" not in text
        assert not set(text) & {"\x1b", "\u202e"}
    assert "&lt;img src=x" in page_of(results)
    assert f"<code>{page.plain(HOSTILE[1])}</code>" in page.report_md(results)  # @ names no one
    assert "img src" not in page.report_md(results)  # no text of the data at all
    tables = [line for line in page.report_md(results).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} <= {4, 5, 6}


def test_several_seeds_are_shown() -> None:
    results = example(shipped(), ["no", "yes"])
    frames = [[results.predictions[model]] * 2 for model in MODELS]
    record = record_of([1, 2], *frames) | {"precision": "bf16"}
    found = replace(results, seeds=record)
    text = page_of(found)
    assert "What limits the conclusion: the test set" in text
    assert "One training run" not in text
    accuracy = percent(results.gain.second)
    assert f"By seed: 1: {accuracy} ({points(results.gain.gain)}), 2: " in text
    assert f"Over 2 seeds in bf16: adapter {accuracy}, gain" in page.report_md(found)


def test_what_has_no_content_is_left_out_or_said() -> None:
    results = example(shipped(), ["no", "yes"], trained=False)
    none = replace(results, rows=results.rows[:0], confused=results.confused[:0])
    text = page_of(none)
    assert text.count('<td colspan="4">none</td>') == 3
    assert not re.search(">(Training|Exports|Search)</h2>", text)
    check = {name: number for number, name in enumerate(Check.model_fields)}
    assert '<th scope="row">onnx int8</th>' in page_of(replace(none, exports={"onnx int8": check}))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.84567, "0.846"), (1.5, "1.50"), (12.34, "12.3"), (0.0, "0"), (1e-5, "1e-05"), (None, "-")],
)
def test_numbers_have_three_significant_digits(value: float | None, shown: str) -> None:
    assert page.number(value) == shown
