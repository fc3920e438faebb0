"""The `ask` and `serve` commands: a trained head answers, in a terminal or on a page.

What is wrong with the run folder, the questions or a single picture is said before torch is loaded.
"""

import csv
import importlib.util
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frozen_vqa.cache.disk.files import write_atomically
from frozen_vqa.cache.disk.folders import require_own_file
from frozen_vqa.cache.errors import explain_write_errors
from frozen_vqa.pipeline.ask.asked import Asked, ask_about, ask_from
from frozen_vqa.pipeline.ask.explain import EACH_ALONE, LOW, NO_PROOF, call_low
from frozen_vqa.pipeline.encoders.reading import reading_of
from frozen_vqa.pipeline.errors import ConfigError, ImageError, RunError
from frozen_vqa.pipeline.pictures.attention_strip import (
    Strip,
    attention_strip,
    require_own_strip,
)
from frozen_vqa.pipeline.runs.description import read_description
from frozen_vqa.pipeline.serve.port import is_loopback, open_port
from frozen_vqa.pipeline.system.console import (
    Advance,
    beside_the_work,
    console,
    loading,
    progress,
)
from frozen_vqa.pipeline.system.device import choose_device

if TYPE_CHECKING:  # it imports torch
    from PIL import Image

    from frozen_vqa.pipeline.ask.asker import Asker

COLUMNS = ("image", "question", "rank", "answer", "probability")


def ask_command(
    *,
    run: Path,
    image: Path | None,
    questions: Sequence[str],
    file: Path | None,
    top: int,
    table: Path | None,
    strip: Path | None,
    device: str,
) -> dict[str, Any]:
    """Answer `questions` about a picture or a folder of pictures, or those of a file."""
    reading = reading_of(read_description(run).encoders["vision"])
    if table:
        mark = ",".join(COLUMNS).encode()
        require_own_file(table, lambda found: found.startswith(mark), ConfigError, "--csv")
    if strip:
        require_own_strip(strip)
        _require_one_picture(image, file)
    left_out: list[str] = []
    if file:
        asked, left_out = ask_from(file, reading)
    else:
        assert image is not None
        asked = ask_about(image, questions, reading)
    single = len(asked) == 1 and len(asked[0].questions) == 1 and not file
    pictures = [one.load() for one in asked if single or strip]  # before torch, if it is one

    with loading():
        from frozen_vqa.pipeline.ask.asker import Asker
        from frozen_vqa.pipeline.runs.run import load_run

        chosen = choose_device(device)
        asker = Asker(load_run(run, chosen), chosen)
    if file:
        asked = [_without_long(asker, one, left_out) for one in asked]
    results: list[dict[str, Any]] = []
    if single:
        results += _answer(asker, asked[0], pictures[0], top)
        _show(results[0])
    else:
        with progress("pictures", len(asked)) as advance:
            results = _answer_all(asker, asked, top, left_out, advance)
        for result in results:
            console.show(f"{result['image']}: {result['question']}")
            _show(result)
    _explain(results)
    for reason in left_out:
        console.warn(f"left out: {reason}")
    lost: list[str] = []
    if table:
        with beside_the_work(lost):
            with explain_write_errors(table, RunError, "Make room or give another --csv."):
                write_atomically(table, _to_csv(results).encode())
            console.show(f"table: {table}")
    if strip:
        with beside_the_work(lost):
            _draw(asker, pictures[0], results, strip)
            console.show(f"attention: {strip}")
    found = results[0] if single else {"results": results}
    found |= {"left_out": left_out} if left_out else {}
    return found | ({"not_written": lost} if lost else {})


def serve_command(*, run: Path, host: str, port: int, device: str) -> None:
    """Load a head and its encoders, and answer until Ctrl-C."""
    read_description(run)
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError(
            'serve needs Gradio, which is not installed: pip install "frozen-vqa[serve]"'
        )
    with open_port(host, port) as listener:
        with loading():
            from frozen_vqa.pipeline.ask.asker import Asker
            from frozen_vqa.pipeline.runs.run import load_run
            from frozen_vqa.pipeline.serve.answerer import Answerer
            from frozen_vqa.pipeline.serve.server import serve

            chosen = choose_device(device)
            answerer = Answerer(Asker(load_run(run, chosen), chosen))
        address, number = listener.getsockname()[:2]

        def ready() -> None:
            shown = f"[{address}]" if ":" in address else address
            console.show(f"ready: http://{shown}:{number} (Ctrl-C ends it)")
            if not is_loopback(address):
                console.warn("--host lets everyone who reaches this port ask and upload pictures")

        serve(answerer, listener, ready=ready)


def _without_long(asker: "Asker", asked: Asked, left_out: list[str]) -> Asked:
    """Return what is asked without the questions that are too long; add these to `left_out`."""
    kept = []
    for question_id, question in zip(asked.ids, asked.questions, strict=True):
        try:
            asker.tokens(question)
            kept.append((question_id, question))
        except RunError as error:
            left_out.append(f"question {question_id}: {error}")
    return replace(asked, questions=[q for _, q in kept], ids=[one for one, _ in kept])


def _answer_all(
    asker: "Asker", asked: Sequence[Asked], top: int, left_out: list[str], advance: Advance
) -> list[dict[str, Any]]:
    """Answer all questions; add to `left_out` why some have no answer.

    Raises `RunError` if there is none at all.
    """
    results: list[dict[str, Any]] = []
    for one in asked:
        try:
            if one.questions:
                results += _answer(asker, one, one.load(), top)
        except ImageError as error:
            left_out.append(str(error))
        advance()
    if not results:
        raise RunError(f"no question has an answer; the first reason is {left_out[0]}")
    return results


def _answer(asker: "Asker", asked: Asked, picture: Any, top: int) -> list[dict[str, Any]]:
    """Return the results of all questions about a picture."""
    logits = asker.logits(picture, asked.questions)
    results: list[dict[str, Any]] = []
    for i, question in enumerate(asked.questions):
        answers = [
            {"answer": answer, "probability": round(probability, 6)}
            for answer, probability in asker.rank(logits[i], top)
        ]
        ids = {"question_id": asked.ids[i]} if asked.ids else {}
        results.append({"question": question, "image": asked.name, **ids, "answers": answers})
    return results


def _require_one_picture(image: Path | None, file: Path | None) -> None:
    if file or (image and image.is_dir()):
        raise ConfigError(
            f"{file or image}: --save-attention draws one picture; name a picture with --image"
        )


def _draw(
    asker: "Asker", picture: "Image.Image", results: Sequence[dict[str, Any]], path: Path
) -> None:
    """Draw where each word of each question looked, the mean over the heads."""

    from frozen_vqa.pipeline.ask.look import look

    questions = [result["question"] for result in results]
    _, seen = look(asker, picture, questions)
    if not seen:
        raise RunError(
            f"{asker.run.path}: this head ({asker.run.config.fusion}) has no attention to the "
            f"picture; take one of co-attention or text-to-image"
        )
    strips = []
    for result, words in zip(results, seen, strict=True):
        best = result["answers"][0]
        title = f"{result['question']}  {best['answer']}, {100 * best['probability']:.1f} %"
        # Without the start, which is no word.
        strips.append(Strip(title, words.words[1:], words.maps[1:].mean(1)))
    attention_strip(asker.shown(picture), strips, path)
    console.print(NO_PROOF)


def _show(result: dict[str, Any]) -> None:
    for entry in result["answers"]:
        console.show(f"{100 * entry['probability']:5.1f} %  {entry['answer']}")


def _explain(results: Sequence[dict[str, Any]]) -> None:
    """Say what the percentages mean, and how many best answers have low ones."""
    console.print(EACH_ALONE)
    best = [result["answers"][0]["probability"] for result in results]
    low = [value for value in best if value < LOW]
    if low and len(best) == 1:
        console.print(call_low(low[0]))
    elif low:
        console.print(
            f"{len(low):,} of {len(best):,} best answers are below {100 * LOW:.0f} %, which is "
            f"low: the head itself holds them for more likely wrong than right."
        )


def _to_csv(results: Sequence[dict[str, Any]]) -> str:
    """Return one row an answer, the most likely of each question first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        for rank, entry in enumerate(result["answers"], start=1):
            place = (_no_formula(result["image"]), _no_formula(result["question"]), rank)
            writer.writerow((*place, _no_formula(entry["answer"]), entry["probability"]))
    return text.getvalue()


def _no_formula(text: str) -> str:
    """Return a cell that no spreadsheet runs: answers may be a stranger's. "-2" stays a number."""
    may_be_one = text.startswith(("=", "+", "-", "@", "\t", "\r"))
    is_number = re.fullmatch(r"[-+]?\d+([.,]\d+)?", text)
    return f"'{text}" if may_be_one and not is_number else text
