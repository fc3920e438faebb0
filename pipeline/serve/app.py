"""The page in Gradio: a picture, a question, the answers, and where each word looks."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported

import gradio as gr
from fastapi import FastAPI

from frozen_vqa.pipeline.errors import PipelineError, is_out_of_memory
from frozen_vqa.pipeline.serve.answerer import Answered, Answerer, draw
from frozen_vqa.pipeline.serve.gate import MOST_LETTERS, MOST_UPLOADED, Gate
from frozen_vqa.pipeline.serve.page import CSS, heading, list_answers, say, show_map
from frozen_vqa.pipeline.system.texts import printable

MOST_WAITING = 16
"""Questions that wait for an answer; one more is told to try again."""

MOST_WORDS = 200
"""Words of a question that can be chosen."""

LONGEST_WORD = 60
"""Letters of a word that are shown as its name."""

MOST_SESSIONS = 500
"""Pages whose state Gradio keeps."""

SECONDS_KEPT = 600
"""How long an uploaded picture stays; the page then asks for it again."""

_MARK = "\u2060"

FIRST = "Choose a picture and ask a question about it."
WHOLE, MEAN = "the whole question", "mean of all heads"


def build_app(answerer: Answerer, *, uploads: Path, local: bool) -> Gate:
    """Return the page, behind its gate.

    Args:
        answerer: Who answers.
        uploads: The folder for uploaded pictures, which GRADIO_TEMP_DIR has to name.
        local: As in `Gate`.
    """
    page = _build_page(answerer)
    page.state_session_capacity = MOST_SESSIONS
    page.queue(max_size=MOST_WAITING, default_concurrency_limit=1, api_open=False)
    font = ["system-ui", "sans-serif"]  # Gradio's own come from another host
    app = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=MOST_UPLOADED,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Base(font=font, font_mono=["monospace"]),
        css=CSS,
    )
    return Gate(
        app,
        uploads=uploads,
        events={number: len(fn.inputs) for number, fn in page.fns.items()},
        local=local,
    )


def _build_page(answerer: Answerer) -> gr.Blocks:
    """Return the page; its functions answer with sentences and raise nothing."""
    run = answerer.asker.run
    page = gr.Blocks(title="Frozen-VQA", analytics_enabled=False, delete_cache=(60, SECONDS_KEPT))
    with page:
        gr.HTML(heading(run.path.resolve().name, run.config.fusion, len(run.vocabulary)))
        with gr.Row():
            with gr.Column():
                picture = gr.Image(
                    label="Picture",
                    alt_text="The picture that is asked about",
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard"],
                    buttons=[],
                    height=360,
                )
                question = gr.Textbox(
                    label="Question",
                    placeholder="what color is the cat?",
                    lines=1,
                    max_lines=5,
                    max_length=MOST_LETTERS,
                )
                button = gr.Button("Ask", variant="primary")
                answers = gr.HTML(say(FIRST))
            with gr.Column():
                view = gr.HTML()
                words = gr.Radio([], label="Where this word looks", visible=False, elem_id="words")
                heads = gr.Radio([], label="Attention head", visible=False, elem_id="heads")

        def respond(picture: Any, question: Any, word: Any = 0, head: Any = 0) -> tuple[Any, ...]:
            return _respond(answerer, picture, question, word, head)

        asked, shown = [picture, question], [answers, view, words, heads]
        how: dict[str, Any] = {
            "concurrency_id": "head",
            "api_visibility": "private",
            "show_progress": "minimal",
            "preprocess": False,  # it would fetch or open what an input names; see the gate
        }
        gr.on([button.click, question.submit], respond, asked, shown, **how)
        # Another picture keeps the word, so that its maps can be compared.
        again = [picture.change, words.input, heads.input]
        gr.on(again, respond, [*asked, words, heads], shown, trigger_mode="always_last", **how)
    return page


def _answer(answerer: Answerer, picture: Any, question: Any) -> Answered | str:
    """Return the answers, or why there are none, as HTML."""
    if not isinstance(picture, dict) or not isinstance(question, str) or not question.strip():
        return say(FIRST)
    try:
        return answerer.answer(Path(picture["path"]), question)
    except PipelineError as error:
        return say(str(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return say("The memory of this machine does not suffice; take a smaller picture.")


def _respond(
    answerer: Answerer, picture: Any, question: Any, word: Any, head: Any
) -> tuple[Any, ...]:
    """Return the answers, the map, and what words and heads there are to choose from.

    The gate lets texts, numbers, nothing and uploaded pictures through, in any order.
    """
    answered = _answer(answerer, picture, question)
    nothing = gr.update(choices=[], value=None, visible=False)
    if isinstance(answered, str):
        return answered, "", nothing, nothing
    ranked = list_answers(answered.ranked)
    if answered.seen is None:
        return ranked, say("This head has no attention to the picture."), nothing, nothing
    words = [WHOLE, *map(_short, answered.seen.words[1 : MOST_WORDS + 1])]
    heads = [MEAN, *(f"head {i}" for i in range(1, answered.seen.maps.shape[1] + 1))]
    # That of an earlier question may be none here.
    word, head = word if word in range(len(words)) else 0, head if head in range(len(heads)) else 0
    return (
        ranked,
        show_map(draw(answered, word, head), words[word], heads[head]),
        _choices(words, word),
        _choices(heads, head),
    )


def _choices(names: Sequence[str], chosen: int) -> Any:
    # The mark that nobody sees keeps Gradio from taking a word for the name of a text of its own.
    pairs = [(f"{name}{_MARK}", number) for number, name in enumerate(names)]
    return gr.update(choices=pairs, value=chosen, visible=True)


def _short(word: str) -> str:
    word = printable(word)
    return word if len(word) <= LONGEST_WORD else f"{word[:LONGEST_WORD]}…"
