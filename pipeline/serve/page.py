"""Pieces of HTML with what a head answered. Every text in them is a stranger's, and only shows."""

import base64
import html
import io
from collections.abc import Sequence

from frozen_vqa.pipeline.ask.explain import EACH_ALONE, LOW, NO_PROOF, call_low
from frozen_vqa.pipeline.serve.answerer import HeatMap
from frozen_vqa.pipeline.system.texts import printable, shortened

CSS = """
.gradio-container { max-width: 1100px !important; margin: 0 auto; }
.vqa h1 { font-size: 1.3rem; margin: 0; }
.vqa p { margin: .3rem 0; overflow-wrap: anywhere; }
.vqa .small { font-size: .85rem; opacity: .8; }
.vqa ol { list-style: none; margin: 0; padding: 0; }
.vqa li { display: grid; grid-template-columns: minmax(0, 1fr) 5rem 4.8rem; gap: .5rem;
  align-items: center; padding: .15rem 0; overflow-wrap: anywhere; }
.vqa li:first-child { font-weight: 600; font-size: 1.15rem; }
.vqa li span:last-child { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.vqa meter { width: 100%; }
.vqa .low { border-inline-start: 3px solid #e8590c; padding-inline-start: .6rem; }
.vqa img { width: 100%; max-width: 448px; height: auto; display: block; border-radius: 4px; }
.vqa figure { margin: 0; }
#words .wrap, #heads .wrap { max-height: 9rem; overflow-y: auto; }
#words label, #heads label { padding: .2rem .6rem; }
"""

_OPEN = str.maketrans({"$": "&#36;", "{": "&#123;", "`": "&#96;"})
"""Letters with which Gradio's templates begin code."""


def show(text: str) -> str:
    """Return a text as HTML that shows it and nothing more."""
    return html.escape(printable(text)).translate(_OPEN)


def heading(name: str, kind: str, answers: int) -> str:
    """Return the head of the page: which run answers."""
    about = f"This {kind} head chooses among {answers:,} answers."
    return f'<div class="vqa"><h1>Ask {show(name)}</h1><p class="small">{show(about)}</p></div>'


def say(sentence: str) -> str:
    """Return a sentence in place of answers."""
    return f'<div class="vqa" role="status"><p>{show(shortened(sentence))}</p></div>'


def list_answers(ranked: Sequence[tuple[str, float]]) -> str:
    """Return the answers with their probabilities, and what these mean."""
    rows = "".join(
        f'<li><bdi>{show(answer)}</bdi><meter min="0" max="1" value="{value:.4f}" '
        f'aria-hidden="true"></meter><span>{100 * value:.1f} %</span></li>'
        for answer, value in ranked
    )
    best = ranked[0][1]
    low = f'<p class="low">{show(call_low(best))}</p>' if best < LOW else ""
    each = f'<p class="small">{EACH_ALONE}</p>'
    return f'<div class="vqa" role="status"><ol aria-label="Answers">{rows}</ol>{low}{each}</div>'


def show_map(found: HeatMap, word: str, head: str) -> str:
    """Return the map of a word over the picture, with its text for those who do not see it."""
    data = io.BytesIO()
    found.picture.save(data, format="JPEG", quality=88)
    rows, columns = found.grid
    brightest = (
        f"Brightest patch: row {found.row} of {rows}, column {found.column} of {columns}, "
        f"with {100 * found.share:.1f} % of the attention."
    )
    alternative = show(f"Where {word} looks in the picture, {head}. {brightest}")
    source = f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
    return (
        f'<div class="vqa"><figure><img src="{source}" width="{found.picture.width}" '
        f'height="{found.picture.height}" alt="{alternative}"><figcaption>'
        f'<p class="small">{brightest}</p><p class="small">{show(NO_PROOF)}</p>'
        f"</figcaption></figure></div>"
    )
