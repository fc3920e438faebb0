"""Whatever a text holds, the page's HTML shows it and has no other element for it."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from frozen_vqa.pipeline.ask.explain import LOW
from frozen_vqa.pipeline.serve.answerer import HeatMap
from frozen_vqa.pipeline.serve.page import heading, list_answers, say, show_map
from frozen_vqa.pipeline.system.texts import printable
from tests.support.hostile import EVERY, is_harmless

MAP = HeatMap(Image.new("RGB", (4, 4)), row=2, column=3, share=0.25, grid=(3, 4))
OURS = {"div", "h1", "p", "ol", "li", "bdi", "meter", "span", "figure", "img", "figcaption"}
TEMPLATES = ["${alert(1)}", "{{constructor}}", "`${1}`", "<img src=x onerror=alert(1)>", "x" * 5000]


class Read(HTMLParser):
    """What a browser makes of it: its texts and its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.alternatives: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.alternatives += [value or "" for name, value in attrs if name == "alt"]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def check(text: str) -> None:
    plain = printable(text)
    pages = {
        heading(text, text, 3): Read(heading("a", "b", 3)).tags,
        say(text): Read(say("a")).tags,
        list_answers([(text, 0.1)]): Read(list_answers([("a", 0.1)])).tags,
        show_map(MAP, text, text): Read(show_map(MAP, "a", "b")).tags,
    }
    for page, tags in pages.items():
        found = Read(page)
        assert found.tags == tags
        assert set(tags) <= OURS
        assert is_harmless(page)
        assert not set(page) & set("{}`$") - {"}"}  # with which Gradio's templates begin code
    assert plain in Read(list_answers([(text, 0.1)])).texts or not plain
    assert plain in "".join(Read(show_map(MAP, text, "")).alternatives)


@pytest.mark.parametrize("text", [*EVERY.values(), *TEMPLATES])
def test_hostile_texts_only_show(text: str) -> None:
    check(text)


@given(st.text(max_size=60))
def test_any_text_only_shows(text: str) -> None:
    check(text)


def test_a_low_probability_is_called_low() -> None:
    assert "is low" not in list_answers([("red", LOW), ("blue", 0.01)])
    low = list_answers([("red", LOW - 0.01), ("blue", 0.01)])
    assert "49.0 % is low: the head itself" in low
    assert "need not add up to 100" in low


def test_the_map_says_in_words_where_it_is_brightest() -> None:
    page = show_map(MAP, "cat", "head 2")
    (alternative,) = Read(page).alternatives
    assert alternative == (
        "Where cat looks in the picture, head 2. Brightest patch: row 2 of 3, column 3 of 4, "
        "with 25.0 % of the attention."
    )
    assert "Attention is no proof" in page
