"""The page of `serve` in Chromium, and a thousand malformed requests; needs Gradio.

    make test-browser

The server is the real command in a process of its own, so that its end and its memory are seen.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from frozen_vqa.pipeline.answers.vocabulary import load_vocabulary
from frozen_vqa.pipeline.system.texts import printable
from tests.support.browsers import Opened, opened
from tests.support.browsers import browser as browser
from tests.support.command import run_command
from tests.support.hostile import STORED
from tests.support.jsonl_files import write
from tests.support.served import Server, asked_by_command, served
from tests.support.served import place as place
from tests.support.served import questions as questions
from tests.support.tiny_commands import TINY, extract, train
from tests.support.tiny_commands import _home as _home

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

HOSTILE = [
    *STORED.values(),
    "</script><script>document.title = 'owned'</script>",
    "<img src=http://localhost:9/x onerror=\"document.title='owned'\">",
    "\"'><svg onload=\"document.title='owned'\">",
    "${document.title = 'owned'} {{constructor}} `${1}`",
    "x" * 5_000,
]


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Server]:
    with served(place / "run", place / "home") as running:
        yield running


def assert_silent(found: Opened, server: Server) -> None:
    """Nothing was said but warnings of Gradio's own, and nobody else was asked."""
    assert [line for line in found.said if "Method not implemented" not in line] == []
    hosts = {urlsplit(url).netloc for url in found.asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlsplit(server.url).netloc}
    found.page.context.close()


def answers(page: Any) -> list[tuple[str, str]]:
    rows = page.locator(".vqa ol li").all()
    return [
        (row.locator("bdi").inner_text(), row.locator("span").last.inner_text()) for row in rows
    ]


def bare(text: str) -> str:
    """Without spaces, of which a page shows one in a row."""
    return "".join(text.split())


def alternative(page: Any) -> str:
    return str(page.locator(".vqa img").get_attribute("alt"))


def ask(page: Any, question: str) -> None:
    """Ask, and wait until other answers stand on the page."""
    status = page.locator(".vqa[role=status]").first
    status.evaluate("status => status.setAttribute('data-old', '')")
    page.get_by_role("textbox").fill(question)
    page.get_by_role("textbox").press("Enter")
    page.locator(".vqa[role=status][data-old]").wait_for(state="detached")


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_a_picture_is_asked_about_and_its_map_seen(
    browser: Any,
    server: Server,
    place: Path,
    questions: list[tuple[Path, str]],
    width: int,
    scheme: str,
) -> None:
    (first, question), (second, _) = questions[:2]
    found = opened(browser, server.url, width=width, scheme=scheme)
    page = found.page
    page.set_input_files("input[type=file]", first)
    page.get_by_alt_text("The picture that is asked about").wait_for()
    ask(page, question)
    page.locator(".vqa img").wait_for()
    assert answers(page) == asked_by_command(place / "run", first, question)
    assert alternative(page).startswith("Where the whole question looks in the picture, mean of")
    assert page.locator(".vqa img").evaluate("image => image.naturalWidth") == 448
    assert "Attention is no proof" in page.inner_text(".vqa figcaption")
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    shown = page.locator(".vqa img").get_attribute("src")
    words = page.locator("#words label")
    word = words.nth(2).inner_text().rstrip("\u2060")
    words.nth(2).click()
    page.get_by_alt_text(f"Where {word} looks in the picture, mean of all heads.").wait_for()
    of_word = page.locator(".vqa img").get_attribute("src")
    page.locator("#heads label").nth(1).click()
    page.get_by_alt_text(f"Where {word} looks in the picture, head 1.").wait_for()
    assert len({shown, of_word, page.locator(".vqa img").get_attribute("src")}) == 3

    page.get_by_label("Remove Image").click()
    page.get_by_text("Choose a picture and ask a question about it.").wait_for()
    page.set_input_files("input[type=file]", second)
    page.locator(".vqa ol").wait_for()  # answered again by itself
    page.get_by_alt_text(re.compile("^Where ")).wait_for()
    assert answers(page) == asked_by_command(place / "run", second, question)
    assert_silent(found, server)


def test_hostile_texts_only_show(
    browser: Any,
    tmp_path: Path,
) -> None:
    pytest.importorskip("gradio")
    data = tmp_path / "data"
    data.mkdir()
    texts = [text for text in HOSTILE if text.strip() and len(text) < 4_000]
    for i in range(len(texts)):
        Image.new("RGB", (32, 32), (8 * i % 256, 99, 200)).save(data / f"{i}.png")
    rows = [{"image": f"{i}.png", "question": text, "answer": text} for i, text in enumerate(texts)]
    write(data / "train.jsonl", *rows)
    write(data / "val.jsonl", *rows)
    made = extract(
        tmp_path, "--dataset", f"jsonl:{data}", "--split", "train", "--split", "val", *TINY
    )
    assert made.code in (0, 3), made.err
    assert train(tmp_path, "--no-report").code == 0
    with served(tmp_path / "run", tmp_path / "home") as server:
        found = opened(browser, server.url)
        page = found.page
        hostile = tmp_path / "<img src=x onerror=alert(1)> ${1} \u202e.png"
        Image.new("RGB", (40, 30), "red").save(hostile)
        page.set_input_files("input[type=file]", hostile)
        known = {
            bare(printable(answer))
            for answer in load_vocabulary(tmp_path / "run" / "answers.json").answers
        }
        for text in HOSTILE:
            if not text.strip() or "\n" in text or "\r" in text:
                continue  # a text box holds one line
            ask(page, text)
            assert {bare(answer) for answer, _ in answers(page)} <= known
            assert page.locator(".vqa script, .vqa svg, .vqa a, .vqa iframe").count() == 0
            assert page.locator(".vqa img").count() <= 1
            assert "owned" not in page.title()
        assert_silent(found, server)


def test_a_port_in_use_is_one_sentence(server: Server, place: Path) -> None:
    found = run_command("serve", place / "run", "--port", server.port)
    assert found.code == 1
    assert "another program uses this port; give another --port" in found.err
