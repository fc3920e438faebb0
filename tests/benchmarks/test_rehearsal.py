"""The rehearsal keeps what is measured and what is reckoned apart; its data have VQAv2's form."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.models import DINOV2_BASE, LLAMA_1B, LLAMA_8B, count
from benchmarks.rehearsal.__main__ import STAGES, note_measured, read_gpu
from benchmarks.rehearsal.book import Book
from benchmarks.rehearsal.data import write_vqav2
from benchmarks.rehearsal.published import CARDS, COUNTS, note_published
from benchmarks.rehearsal.reckon import reckon_all
from benchmarks.rehearsal.scales import COUNTS as PICTURES
from benchmarks.rehearsal.scales import RENTED, reckon_scales
from frozen_vqa.pipeline.sources.official.vqav2 import Vqav2Source
from tests.support.repository import ROOT

STAGE = {"family_mb": 7800.0, "anonymous_mb": 5400.0, "wall": 90.0}
PHASES = ("encoding", "waiting", "reading", "writing")
RATES = ("images_per_second", "questions_per_second")
SPEED = {"pictures": 40, "questions": 30, **dict.fromkeys((*PHASES, *RATES), 1.0)}
START = {"stage one": 90 - 40 - 30, "four heads": 4 * (90 - 60)}
"""Seconds of what each card does for itself."""
GPU: dict[str, Any] = {
    "machine": {"gpu": "NVIDIA One"},
    "small": False,
    "failed": {},
    "stage_one": {"extraction": {"images_per_second": 900.0}},
    "stage_two default": {
        "training": {"questions_per_second": 9000.0},
        "validation": {"questions_per_second": 20_000.0},
    },
}


def measured(operations: float = 3e9, cpu_seconds: float = 0.008) -> dict[str, Any]:
    """What the stages would say."""
    model = {"weights": 1e9, "operations": 46e9, "bytes": 2e9}
    return {
        **dict.fromkeys(STAGES, STAGE),
        "models": {"vision": model, "text": model},
        "data": {
            "pictures": 64,
            "questions": 256,
            "train questions": 172,
            "jpeg_bytes": 10_000_000,
            "text_bytes": 230_000,
        },
        "extract-features": {
            **STAGE,
            "extraction": SPEED,
            "images": {"encoded": 64},
            "questions": {"prefixes": 1000},
        },
        "train-head": {**STAGE, "questions_per_second": 20.0, "seconds": 60.0},
        "decode": {"cpu_seconds": cpu_seconds},
        "step": {
            "training": {
                "operations_per_question": operations,
                "share_of_peak": 0.3,
                "dtype": "float32",
            },
            "operations_per_answer": operations / 3,
        },
        "bytes of images": 64 * 257 * 768 * 2,
        "bytes of questions": 1000 * 2048 * 2,
        "bytes of a run": 200_000_000,
    }


def reckoned(gpu: dict[str, Any] | None = None, **found: float) -> Book:
    book = Book()
    note_measured(book, measured(**found))
    note_published(book)
    reckon_all(book, gpu)
    reckon_scales(book)
    return book


@pytest.mark.parametrize("gpu", [None, GPU])
def test_each_reckoned_figure_names_those_that_it_comes_from(gpu: dict[str, Any] | None) -> None:
    book = reckoned(gpu)
    cards = [GPU["machine"]["gpu"]] if gpu else list(CARDS)
    names = {figure.name for figure in book.of_kind("reckoned")}
    assert {f"{what}, {n} x {card}" for what in ("stage one", "four heads") for n in COUNTS
            for card in cards} < names  # fmt: skip
    for name in names:
        roots = book.roots(name).values()
        assert roots, name
        for root in roots:
            assert root.kind != "reckoned"
            assert root.source, root.name
            assert root.of == ()
    # Without a GPU, no speed of one is among what was measured.
    of_cards = [figure for figure in book.of_kind("measured") if "on one" in figure.name]
    assert bool(of_cards) == bool(gpu)
    assert {figure.source.split(",")[0] for figure in of_cards} <= {"`make gpu`"}
    assert json.loads(json.dumps(book.to_json()))["reckoned"].keys() == names


def test_pictures_take_what_the_readme_says() -> None:
    book = reckoned()
    assert book.figures["features of pictures"].value == pytest.approx(48.67, abs=0.01)
    assert book.figures["pictures of train, float16"].value == pytest.approx(32.68, abs=0.01)
    # Less than if all questions had as many prefixes of their own as those that were tried.
    assert 137_382 * 4096 / 1e9 < book.figures["features of questions"].value < 7.7


@given(
    operations=st.floats(1e6, 1e12),
    cpu_seconds=st.floats(1e-5, 1.0),
    times=st.floats(1.0, 100.0),
)
def test_more_work_takes_longer_and_more_cards_less(
    operations: float, cpu_seconds: float, times: float
) -> None:
    less = reckoned(operations=operations, cpu_seconds=cpu_seconds).figures
    more = reckoned(operations=operations * times, cpu_seconds=cpu_seconds * times).figures
    for card in CARDS:
        for what in ("stage one", "four heads"):
            minutes = (less[f"{what}, {n} x {card}"].value for n in COUNTS)
            one, eight, many = (found - START[what] / 60 for found in minutes)
            assert one > 0
            assert [8 * eight, 64 * many] == pytest.approx([one, one], rel=1e-6, abs=1e-9)
            assert more[f"{what}, 1 x {card}"].value >= one * (1 - 1e-9)
        heads = f"four heads, 1 x {card}"
        start = START["four heads"] / 60
        assert more[heads].value - start == pytest.approx(times * (less[heads].value - start))


@given(operations=st.floats(1e6, 1e12), cpu_seconds=st.floats(1e-5, 1.0))
def test_more_pictures_take_as_much_more(operations: float, cpu_seconds: float) -> None:
    """And a card that waits for its cores costs what they take."""
    figures = reckoned(operations=operations, cpu_seconds=cpu_seconds).figures
    of_all = [name for name in figures if name.endswith(f", {PICTURES[0]:,} pictures")]
    assert len(of_all) == 2 + 2 * 3 + len(CARDS) + 2 * len(RENTED)
    for name in of_all:
        kind = name.removesuffix(f"{PICTURES[0]:,} pictures")
        each = [figures[f"{kind}{count:,} pictures"].value / count for count in PICTURES]
        assert each == pytest.approx([each[0]] * len(PICTURES), rel=1e-9)
    for card, (_, cores, price) in RENTED.items():
        hours = figures[f"hours of {card}, {10**6:,} pictures"].value
        assert hours > 10**6 * cpu_seconds / cores / 3600
        assert figures[f"cost of {card}, {10**6:,} pictures"].value == hours * price


def test_a_book_notes_nothing_from_nowhere() -> None:
    book = Book()
    with pytest.raises(AssertionError, match="comes from nothing"):
        book.reckon("a guess", "", "", lambda _: 7.0)
    with pytest.raises(KeyError):
        book.reckon("of nothing", "", "", lambda look: look("no such figure"))


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", json.dumps(GPU | {"small": True}), json.dumps(GPU | {"failed": {"a": "b"}}),
     json.dumps(GPU | {"machine": {"gpu": None}}), None],
)  # fmt: skip
def test_a_file_without_figures_of_a_gpu_is_refused(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SystemExit, match=r"gpu\.json: .*; run `make gpu` on a GPU$") as refused:
        read_gpu(file)
    assert "\n" not in str(refused.value)
    file.write_text(json.dumps(GPU))
    assert read_gpu(file) == GPU


def test_the_data_are_vqav2s(tmp_path: Path) -> None:
    written = write_vqav2(tmp_path / "VQA", 5, 60)
    source = Vqav2Source(tmp_path / "VQA")
    examples = [one for split in ("train", "val") for one in source.examples(split)]
    assert not any(source.left_out(split) for split in ("train", "val"))
    assert len(examples) == 60
    assert len({one.question_id for one in examples}) == 60
    assert {len(one.answers) for one in examples} == {10}
    assert {len(one.question.split()) for one in examples} <= set(range(4, 11))
    pictures = {source.picture(one.image_id) for one in examples}
    sizes = [path.stat().st_size for path in pictures if isinstance(path, Path)]
    assert len(sizes) == 5
    assert written["jpeg_bytes"] == sum(sizes)
    assert sum(sizes) / 5 == pytest.approx(13_510_573_713 / 82_783, rel=0.05)  # train2014.zip


@pytest.mark.slow  # loads much of transformers
@pytest.mark.parametrize(
    ("shape", "kind", "weights"),
    [
        (DINOV2_BASE, "vision", 86_580_480),
        (LLAMA_1B, "text", 1_235_814_400),
        (LLAMA_8B, "text", 8_030_261_248 - 128_256 * 4096),  # without the head
    ],
)
def test_shapes_have_the_weights_of_the_real_models(
    shape: dict[str, Any], kind: str, weights: int
) -> None:
    """Sources: the sizes that the Hub shows of facebook/dinov2-base and of both models of Meta."""
    found = count(shape, kind)
    assert found["weights"] == weights
    assert found["operations"] > weights


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_of_it_in_miniature(tmp_path: Path) -> None:
    words = ["--size", "tiny", "--pictures", 4, "--questions", 16, "--out", tmp_path / "all.json"]
    command = [sys.executable, "-m", "benchmarks.rehearsal", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "all.json").read_text())
    assert found["stages"]["extract-features"]["images"]["encoded"] == 4
    for stage in STAGES:
        took = found["stages"][stage]
        assert took["family_mb"] >= took["resident_mb"] > took["anonymous_mb"] > 10
    for figure in (*found["measured"].values(), *found["reckoned"].values()):
        assert figure["value"] >= 0, figure
    titles = [line.split()[0] for line in done.stderr.splitlines() if line and line[0] != " "]
    assert titles[-3:] == ["measured;", "published,", "reckoned"]
