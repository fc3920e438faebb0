"""The report in Chromium: it asks for nothing, filters, and shows maps by keyboard.

    make test-browser

benchmarks/report_times.py measures a page.
"""

from pathlib import Path
from typing import Any

import pytest

from frozen_vqa.pipeline.answers.vocabulary import Vocabulary
from tests.support.browsers import Opened, opened
from tests.support.browsers import browser as browser
from tests.support.caches import Made, Row, make_cache
from tests.support.command import run_command
from tests.support.heads import make_run
from tests.support.hostile import STORED

pytestmark = pytest.mark.browser

HOSTILE = [
    *STORED.values(),
    "</script><script>document.title = 'owned'</script>",
    "<img src=http://localhost:9/x onerror=\"document.title='owned'\">",
    "\"'><svg onload=\"document.title='owned'\">",
    "x" * 5_000,
]
CARD = "#cards .card"


@pytest.fixture(scope="module")
def report(scenes: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("report")
    answers = Vocabulary(("red", "blue"))
    for name, seed in (("one", 6), ("other", 8)):
        make_run(scenes, place / name, vocabulary=answers, seed=seed)
    return written(place / "one", "--compare", place / "other")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hostile")
    rows = [Row(i % 3, i % 4, (t,) * 10, f"q{t}", f"a{t}") for i, t in enumerate(HOSTILE)]
    made = make_cache(place / "cache", {"train": rows, "val": rows})
    run = place / "<img src=x onerror=alert(1)>"
    make_run(made, run, vocabulary=Vocabulary(tuple(HOSTILE)))
    return written(run)


def written(run: Path, *words: object) -> Path:
    found = run_command("evaluate", "--run", run, "--report", *words, "--json")
    assert found.code == 0, found.err
    return Path(found.json()["report"])


def assert_quiet(found: Opened) -> None:
    assert found.said == []
    others = [url for url in found.asked[1:] if not url.startswith("data:")]
    assert others == []
    found.page.context.close()


def count(found: Opened) -> int:
    return int(found.page.inner_text("#count").split(" of ")[0].replace(",", ""))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_it_opens_in_silence_and_fits_the_screen(
    browser: Any, report: Path, hostile: Path, width: int, scheme: str
) -> None:
    for path in (report, hostile):
        found = opened(browser, path.as_uri(), width=width, scheme=scheme)
        found.page.wait_for_selector(CARD)
        assert found.page.evaluate("document.documentElement.scrollWidth") <= width
        assert "owned" not in found.page.title()
        assert_quiet(found)


def test_hostile_texts_stand_on_the_cards_as_they_are(browser: Any, hostile: Path) -> None:
    found = opened(browser, hostile.as_uri())
    while True:
        assert found.page.locator(f"{CARD} img, {CARD} script, {CARD} a").count() == 0
        if found.page.is_disabled("#next"):
            break
        found.page.click("#next")
    for text in ("</script>", "onload", "שלום", "xxxxx"):
        found.page.fill("#f-text", text)
        found.page.wait_for_function(
            "text => { const cards = document.querySelectorAll('#cards .card');"
            "return cards.length === 1 && cards[0].innerText.includes(text); }",
            arg=text,
        )
    assert_quiet(found)


def test_filters(browser: Any, report: Path) -> None:
    found = opened(browser, report.as_uri())
    page = found.page
    every = count(found)
    assert every == 32
    parts = {}
    for result in ("right", "wrong", "differ", "better", "worse"):
        page.select_option("#f-result", result)
        page.wait_for_timeout(250)
        parts[result] = count(found)
    assert parts["right"] + parts["wrong"] == every
    assert parts["better"] + parts["worse"] == parts["differ"]  # of two answers
    page.select_option("#f-result", "")
    page.select_option("#f-kind", label="disc?")
    page.wait_for_timeout(250)
    assert count(found) == every // 2
    page.fill("#f-text", "picture 64\n".strip())
    page.wait_for_timeout(250)
    assert count(found) == 1
    page.fill("#f-text", "")
    page.fill("#f-low", "100")
    page.wait_for_timeout(250)
    assert count(found) == 0
    assert_quiet(found)


def test_a_word_shows_its_map_by_keyboard(browser: Any, report: Path) -> None:
    found = opened(browser, report.as_uri())
    page = found.page
    card = page.locator(CARD).filter(has=page.locator(".word >> nth=2")).first

    def painted() -> str:
        return str(card.locator(".view canvas").evaluate("canvas => canvas.toDataURL()"))

    whole = painted()
    card.locator(".word[tabindex='0']").focus()
    first = painted()
    page.keyboard.press("ArrowRight")
    second = painted()
    assert whole != first != second
    pressed = card.locator(".word[aria-pressed=true]")
    assert pressed.count() == 1
    assert pressed.evaluate("e => e === document.activeElement")
    card.locator(".mini").nth(1).press("Enter")
    assert "head 1" in card.locator(".scale").inner_text()
    assert painted() != second
    card.locator(".view").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert "listens to" in card.locator(".scale").inner_text()
    page.keyboard.press("Escape")
    assert "brightest patch" in card.locator(".scale").inner_text()
    assert_quiet(found)


def test_a_tap_shows_a_map(browser: Any, report: Path) -> None:
    found = opened(browser, report.as_uri(), width=390)
    card = found.page.locator(CARD).first
    card.locator(".word").last.tap()
    assert card.get_attribute("data-word") != "-1"
    assert_quiet(found)
