"""Every type of question model gives, in the cache too, what its formulas give in float64."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.commands.extract_features import show_plan
from frozen_vqa.pipeline.encoders.families.text import TEXT
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.errors import ModelError
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import make_plan
from frozen_vqa.pipeline.extract.prefixes import PrefixTable, prefix_trees
from frozen_vqa.pipeline.sources.example import VqaExample
from tests.support import encoders
from tests.support.families import WINDOW, Saved, save_text
from tests.support.frozen import Images, Source, picture
from tests.support.reference_parts import distance
from tests.support.reference_text import reference_states

_home = encoders._home  # a fixture that is in force in every test

CAUSAL = [kind for kind in TEXT if TEXT[kind].causal]
MIDDLE = 1
QUESTIONS = ["what is red?", "what is there?", "what", "is it a cat or two dogs?", "what is red"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Saved]:
    folder = tmp_path_factory.mktemp("text")
    return {kind: save_text(folder / kind, kind) for kind in TEXT}


@pytest.fixture(scope="module")
def last(saved: dict[str, Saved]) -> dict[str, TextEncoder]:
    return {kind: TextEncoder(str(one.folder)) for kind, one in saved.items()}


@pytest.mark.parametrize("layer", [0, MIDDLE])
@pytest.mark.parametrize("kind", TEXT)
def test_states_of_other_layers_are_those_of_the_formulas(
    saved: dict[str, Saved], kind: str, layer: int
) -> None:
    model = saved[kind]
    text = TextEncoder(str(model.folder), layer=layer)
    for ids in text.tokens(QUESTIONS[:2]):
        exact = reference_states(model.kind, model.weights, model.config, ids, layer)
        assert distance(text.encode([ids])[0], exact) < 1e-5


@pytest.mark.parametrize("kind", TEXT)
def test_a_cache_gives_back_the_states_of_the_formulas(
    saved: dict[str, Saved],
    last: dict[str, TextEncoder],
    kind: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its questions are longer than the window, begin alike, and come in two extractions."""
    model, text = saved[kind], last[kind]
    images: Any = Images()
    images.sides = (12, 12)
    examples = [VqaExample(i, 0, question, ()) for i, question in enumerate(QUESTIONS)]
    source = Source({"train": examples[:3], "val": examples[2:]}, {0: picture(0)})
    for split in ("train", "val"):
        plan = make_plan(source, splits=[split], text=text)
        extract(source, plan, cache=tmp_path, images=images, text=text, dtype="float32",
                batch_size=1)  # fmt: skip

    found = FeatureCache(tmp_path).questions

    tokens = text.tokens(QUESTIONS)
    assert sorted(found.texts) == sorted(QUESTIONS)
    assert max(map(len, tokens)) > 2 * WINDOW + 2
    for question, ids in zip(QUESTIONS, tokens, strict=True):
        states = found.states(found.texts.index(question))
        exact = reference_states(model.kind, model.weights, model.config, ids, -1)
        assert distance(states, exact) < 1e-5
    show_plan(plan, images, text)
    assert ("questions that begin alike share nothing" in capsys.readouterr().err) == (
        not TEXT[kind].causal
    )
    rows = len({tuple(ids[:n]) for ids in tokens for n in range(1, len(ids) + 1)})
    assert (plan.shared, rows < sum(map(len, tokens))) == (TEXT[kind].causal, True)
    every = sum(record.prefixes for record in FeatureCache(tmp_path).manifest.questions)
    assert every == (rows if TEXT[kind].causal else sum(map(len, tokens)))


@settings(max_examples=6, deadline=None)
@given(
    st.lists(st.lists(st.integers(2, 6), max_size=9), min_size=1, max_size=8), st.integers(1, 40)
)
@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen3", "gemma3_text"])
def test_a_tree_has_the_states_of_each_question_alone(
    last: dict[str, TextEncoder], kind: str, drawn: list[list[int]], most: int
) -> None:
    encoder = last[kind]
    tokens = {str(question): [encoder.bos, *question] for question in drawn}
    table = PrefixTable()
    paths = {question: table.add(one) for question, one in tokens.items()}
    for tree in prefix_trees(tokens, tokens, paths, most=most):
        states = encoder.encode_tree(tree.tokens, tree.parents)
        for question in tree.questions:
            alone = encoder.encode([tokens[question]])[0]
            mine = states[[tree.places[row] for row in paths[question]]]
            assert distance(mine, alone.double()) < 1e-5


@pytest.mark.parametrize("kind", [kind for kind in CAUSAL if TEXT[kind].windows != "none"])
def test_a_window_changes_the_states_of_a_long_question(saved: dict[str, Saved], kind: str) -> None:
    """Or no test here could tell a mask with a window from one without."""
    model, ids = saved[kind], list(range(2, 12))
    near, far = (
        reference_states(model.kind, model.weights, model.config | window, ids, -1)
        for window in ({}, {"sliding_window": 64})
    )
    assert distance(far[:WINDOW], near[:WINDOW]) < 1e-12
    assert distance(far[WINDOW + 1 :], near[WINDOW + 1 :]) > 0.01


@pytest.mark.parametrize("kind", TEXT)
def test_what_stands_before_and_after_the_words(last: dict[str, TextEncoder], kind: str) -> None:
    """Qwen calls nothing BOS: config.json names the token that stood between texts."""
    encoder = last[kind]
    first, *words = encoder.tokens(["what is red?"])[0]
    assert first == 0
    assert words[-1:] == ([1] if kind == "modernbert" else words[-1:])
    assert (1 in words) == (kind == "modernbert")
    if TEXT[kind].name == "Qwen":
        assert encoder.tokenizer.bos_token_id is None


def test_only_the_part_of_questions_is_loaded_and_counted(saved: dict[str, Saved]) -> None:
    model = saved["gemma3"]
    encoder = TextEncoder(str(model.folder))
    weights = dict(encoder.weights.named_parameters())
    numbers = sum(one.numel() for one in weights.values())
    assert encoder.checkpoint.count_weights(encoder.config) == numbers
    for name, value in weights.items():
        assert torch.equal(value.double(), model.weights[name])


def test_a_model_that_reads_both_ways_shares_no_state(last: dict[str, TextEncoder]) -> None:
    """Its words depend on what follows, so a shared state would be wrong for all but one."""
    encoder = last["modernbert"]
    begun, whole = encoder.encode([[0, 7, 9, 1]])[0], encoder.encode([[0, 7, 9, 5, 1]])[0]
    assert distance(begun[:3], whole[:3].double()) > 0.01
    table = PrefixTable(shared=False)
    paths = [table.add(one) for one in ([0, 7, 9], [0, 7, 9], [0, 7])]
    assert sorted(np.concatenate(paths)) == list(range(8))
    assert all(a < b for path in paths for a, b in pairwise(path))


@pytest.mark.parametrize("kind", ["gemma3_text", "gemma3"])
def test_gemma_that_reads_both_ways_is_refused(kind: str, tmp_path: Path) -> None:
    model = save_text(tmp_path / "model", kind)
    file = model.folder / "config.json"
    text = file.read_text().replace(
        '"use_bidirectional_attention": false', '"use_bidirectional_attention": true'
    )
    file.write_text(text)
    with pytest.raises(ModelError, match="use_bidirectional_attention true, so its states depend"):
        TextEncoder(str(model.folder))
