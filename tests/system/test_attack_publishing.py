"""What of a stranger's run goes to others: no file behind a link, and texts as texts."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from frozen_vqa import VqaHead
from frozen_vqa.pipeline.errors import ConfigError, RunError
from frozen_vqa.pipeline.runs.card import CARD, render_card
from frozen_vqa.pipeline.runs.description import read_record
from frozen_vqa.pipeline.runs.publish import publish_run, read_published
from frozen_vqa.pipeline.runs.sealed import seal_json
from tests.support import finished_runs
from tests.support.hostile import EVERY, is_harmless
from tests.support.run_folders import edit_json

trained = finished_runs.trained  # a fixture

NAMES = (
    *("config.toml", "config.json", "answers.json", "model.safetensors", "run.json"),
    *("metrics.jsonl", "environment.json"),
)
ADDRESSES = {
    "address": "https://example.org/a",
    "www": "www.example.org",
    "mail": "a@example.org",
    "mailto": "MAILTO:a@example.org",
    "reference": "[a]: https://example.org",
    "picture": "![a](HTTP://example.org/a.png)",
    "automatic link": "<https://example.org>",
    "entity": "&lt;b&gt; &#91;",
    "heading": "\n# Heading\n",
    "setext": "\n===\n",
    "fence": "\n```\n# Heading",
    "front matter": "\n---\nlicense: mit\n---\n",
    "comment": "-->",
}


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", ["the same file", "a secret"])
def test_no_link_is_followed(name: str, content: str, run: Path, tmp_path: Path) -> None:
    """Not even to a file of the same content. What is pushed to the Hub is saved so before."""
    head, secret = VqaHead.from_pretrained(run), tmp_path / "secret"
    shutil.move(run / name, secret)
    if content == "a secret":
        secret.write_text("secret\n")
    (run / name).symlink_to(secret)
    for attempt in (
        lambda: head.save_pretrained(tmp_path / "new"),
        lambda: publish_run(run, tmp_path / "new"),
    ):
        with pytest.raises(RunError, match=re.escape(str(run / name))):
            attempt()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["metrics.jsonl", "environment.json"])
@pytest.mark.parametrize("content", ["secret\n", '{"key": "secret"}\n', '["secret"]', "[[1]]"])
def test_what_no_training_writes_goes_nowhere(
    name: str, content: str, run: Path, tmp_path: Path
) -> None:
    (run / name).write_text(content)
    with pytest.raises(RunError, match=f"{name}: not written by a training"):
        publish_run(run, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_nothing_else_of_the_folder_goes_out(run: Path, tmp_path: Path) -> None:
    for name in ("thesis.txt", "README.md", "tensorboard/events", "state/a", ".git/config"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("secret")
    edit_json(run / "run.json", lambda found: (found.pop("xxh3"), found.update(more="secret")))
    (run / "run.json").write_bytes(seal_json(json.loads((run / "run.json").read_text())))
    publish_run(run, tmp_path / "new")
    out = {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    assert out.keys() == {*NAMES, CARD}
    assert not any(b"secret" in data for data in out.values())
    VqaHead.from_pretrained(tmp_path / "new").save_pretrained(tmp_path / "again")
    for name in NAMES:
        assert (tmp_path / "again" / name).read_bytes() == out[name]


def test_a_head_that_the_hubs_library_keeps_as_links_can_be_saved(
    run: Path, tmp_path: Path
) -> None:
    blobs, snapshot = tmp_path / "models--a" / "blobs", tmp_path / "models--a/snapshots/1"
    shutil.copytree(run, blobs)
    snapshot.mkdir(parents=True)
    for name in NAMES:
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    VqaHead.from_pretrained(snapshot).save_pretrained(tmp_path / "new")
    assert read_published(tmp_path / "new").keys() == {*NAMES, CARD}
    shutil.rmtree(blobs)
    blobs.symlink_to(run)  # which is somewhere else
    with pytest.raises(RunError, match="a link, perhaps to a file that is not for others"):
        publish_run(snapshot, tmp_path / "other")


def _in_scores(name: str) -> Callable[[Path, str], None]:
    def change(run: Path, text: str) -> None:
        path = run / "evaluation/val/scores.json"
        found: dict[str, Any] = json.loads(path.read_text())
        found.pop("xxh3")
        found[name] = {"overall": 1.0, text: 2.0} if name == "accuracy" else text
        if name == "no_interval":
            found["interval"] = None
        path.write_bytes(seal_json(found))

    return change


def _in_record(name: str) -> Callable[[Path, str], None]:
    def change(run: Path, text: str) -> None:
        found = json.loads((run / "run.json").read_text())
        found.pop("xxh3")
        (run / "run.json").write_bytes(seal_json({**found, name: text}))

    return change


def _in_config(name: str) -> Callable[[Path, str], None]:
    def change(run: Path, text: str) -> None:
        lines = (run / "config.toml").read_text().splitlines()
        kept = [line for line in lines if not line.startswith(f"{name} =")]
        spelled = json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
        (run / "config.toml").write_text("\n".join([*kept, f"{name} = {spelled}", ""]))

    return change


def _in_description(change: Callable[[dict, str], object]) -> Callable[[Path, str], None]:
    return lambda run, text: edit_json(run / "config.json", lambda found: change(found, text))


SCORES = ("split", "dataset", "accuracy", "no_interval", "metric")
PLACES: dict[str, Callable[[Path, str], None]] = {
    **{f"scores: {n}": _in_scores(n) for n in SCORES},
    **{f"record: {n}": _in_record(n) for n in ("dataset", "metric")},
    **{f"settings: {n}": _in_config(n) for n in ("train_split", "val_split")},
    "model": _in_description(lambda found, text: found["encoders"]["vision"].update(model=text)),
    "setting": _in_description(lambda found, text: found["encoders"]["text"].update({text: 1})),
    "encoder": _in_description(lambda found, text: found["encoders"].update({text: {"a": text}})),
}


def _structure(card: str) -> list[str]:
    """Return the headings, tables, links and blocks of a page, without its texts."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(card)
    inner = [child.type for token in tokens for child in token.children or ()]
    kept = [kind for kind in inner if kind not in ("text", "text_special", "softbreak")]
    return [token.type + token.tag for token in tokens] + kept


TEXTS = list((ADDRESSES | EVERY).values())
ALL = [pytest.param(place, TEXTS, marks=pytest.mark.slow) for place in PLACES]
SOME = [pytest.param(place, TEXTS[i :: len(PLACES)]) for i, place in enumerate(PLACES)]


@pytest.mark.parametrize(("place", "texts"), [*SOME, *ALL])
def test_texts_are_texts_in_a_card(place: str, texts: list[str], run: Path) -> None:
    """Whatever a name holds, the page has the same headings, tables, links and blocks."""
    files = ("evaluation/val/scores.json", "run.json", "config.json", "config.toml")
    before = {name: (run / name).read_bytes() for name in files}

    def card_with(text: str) -> str:
        for name, data in before.items():
            (run / name).write_bytes(data)
        PLACES[place](run, text)
        return render_card(run, read_record(run))

    plain = _structure(card_with("plain"))
    seen = 0
    for text in texts:
        try:
            card = card_with(text)
        except (RunError, ConfigError, ValueError):  # refused, or no file can hold it
            continue
        seen += 1
        assert _structure(card) == plain, text
        assert is_harmless(card), text
        prose = re.sub(r"```toml\n.*?\n```", "", card, flags=re.DOTALL)
        assert not re.search(r"[^\\]://|www\.|[^\\]@", prose, re.IGNORECASE), text
    assert seen >= len(texts) // 2
