"""The picture of a report in the manual, taken with Chromium.

    python -m benchmarks.screenshot REPORT.html docs/report.png [--search TEXT]

Shows the head of the page and three cards, each with the map of a word. Needs the extra
`browser` and Chromium.
"""

import argparse
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

WIDTH, HEIGHT, CARDS = 1120, 1000, 3
COLORS = 224
"""Of the picture, so that it takes little room in the repository."""

HIDDEN = "main > section:not(#gallery), #gallery > :not(#cards), header .warning, nav, footer"


@contextmanager
def opened(report: Path) -> Iterator[Any]:
    """Yield the page of a report in Chromium, which shows its cards."""
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or "google-chrome"
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        # The page's own policy would refuse the style of a picture.
        context = browser.new_context(
            viewport={"width": WIDTH, "height": HEIGHT}, bypass_csp=True, color_scheme="light"
        )
        page = context.new_page()
        page.goto(report.absolute().as_uri())
        page.wait_for_selector("#cards .card")
        yield page
        browser.close()


def take(report: Path, search: str) -> Image.Image:
    """Return a picture of a report, with the first cards that hold a text."""
    with opened(report) as page:
        page.fill("#f-text", search)
        page.wait_for_timeout(500)
        page.add_style_tag(
            content=f"{HIDDEN} {{ display: none !important; }} section {{ border: 0 !important; "
            f"margin: 0 !important; padding: 20px 0 !important; }} "
            f"#cards .card:nth-child(n + {CARDS + 1}) {{ display: none; }}"
        )
        for card in page.locator("#cards .card").all()[:CARDS]:
            words = card.locator(".word")
            if words.count() > 1:
                words.nth(words.count() - 2).dispatch_event("mouseenter")
        data = page.screenshot(full_page=True)
    return Image.open(io.BytesIO(data)).convert("RGB").quantize(COLORS)


def main() -> None:
    """Take the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--search", default="", help="text of the cards")
    options = parser.parse_args()
    take(options.report, options.search).save(options.picture, optimize=True)


if __name__ == "__main__":
    main()
