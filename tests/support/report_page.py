"""Reads a report as a browser would: its elements, its texts, and the data of its script."""

import base64
import json
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

OPEN = {"meta", "link", "input", "br", "img", "line", "circle", "polyline"}
"""Elements that have no end here."""


@dataclass
class Page(HTMLParser):
    """A parsed page.

    Attributes:
        tags: How often each element begins.
        attributes: Element, name and value of every attribute.
        text: All text but that of scripts and styles.
        data: JSON by the id of its script element.
        open: Elements that have begun and not ended.
    """

    tags: Counter[str] = field(default_factory=Counter)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    text: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._script = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in OPEN:
            self.open.append(tag)
        self._script = dict(attrs).get("id") or "" if tag == "script" else ""

    def handle_endtag(self, tag: str) -> None:
        if tag in OPEN:
            return
        assert self.open.pop() == tag
        self.text += " "  # so that neighbours do not touch

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside == "script" and self._script:
            self.data[self._script] = json.loads(data)
        elif inside not in ("script", "style"):
            self.text += data


def read_page(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    return page


def unpack(packed: dict[str, Any], patches: int) -> np.ndarray:
    """Return the weights of a map as the page decodes them: (words * heads, patches)."""
    levels = np.frombuffer(base64.b64decode(packed["bytes"]), np.uint8).reshape(-1, patches)
    return levels / 255 * np.array(packed["largest"])[:, None]
