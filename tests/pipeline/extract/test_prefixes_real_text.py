"""Prefix sharing on real questions with the real Llama 3 tokenizer: how much it saves, and that it
changes no state."""

import base64
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from frozen_vqa.cache import FeatureCache
from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
from frozen_vqa.pipeline.extract.extract import extract
from frozen_vqa.pipeline.extract.plan import Plan, make_plan
from frozen_vqa.pipeline.sources.example import VqaExample
from tests.support.frozen import Images, Source, picture
from tests.support.repository import DATA

LLAMA3 = DATA / "llama3-tokenizer"
QUESTIONS = DATA / "vqav2-text" / "questions_train.json.gz"

pytestmark = [
    pytest.mark.data,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (LLAMA3.exists() and QUESTIONS.exists()),
        reason=f"no llama3-tokenizer and vqav2-text in {DATA}; set FROZEN_VQA_DATA to their folder",
    ),
]

HIDDEN, VOCABULARY = 32, 128_256
BOS = 128_000
SAMPLED = 200


class Ranks(TikTokenConverter):
    """transformers' converter, but it reads the ranks itself: a line is a token and its rank."""

    @staticmethod
    def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
        lines = (line.split() for line in Path(tiktoken_url).read_bytes().splitlines())
        return {base64.b64decode(token): int(rank) for token, rank in lines}


def special_tokens() -> list[str]:
    """The 256 control tokens of Llama 3 in the order of their ids, from 128,000 on."""
    names = ["begin_of_text", "end_of_text", *(f"reserved_special_token_{i}" for i in range(4))]
    names += ["start_header_id", "end_header_id", "reserved_special_token_4", "eot_id"]
    names += [f"reserved_special_token_{i}" for i in range(5, 251)]
    return [f"<|{name}|>" for name in names]


def llama3_tokenizer() -> PreTrainedTokenizerFast:
    special = special_tokens()
    ranks = Ranks(vocab_file=str(LLAMA3 / "tokenizer.model"), extra_special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=ranks.converted(), bos_token=special[0], eos_token=special[1]
    )


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    """A seeded Llama of 32 numbers a state beside the real tokenizer, loaded as any other model."""
    folder = tmp_path_factory.mktemp("llama")
    llama3_tokenizer().save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=BOS,
        eos_token_id=BOS + 1,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        LlamaModel(config).save_pretrained(folder)
    return TextEncoder(str(folder))


@pytest.fixture(scope="module")
def source() -> Source:
    """All real questions, about one picture."""
    records = json.loads(gzip.decompress(QUESTIONS.read_bytes()))
    records = records["questions"] if isinstance(records, dict) else records
    examples = [VqaExample(r["question_id"], 0, r["question"], ()) for r in records]
    return Source({"train": examples}, {0: picture(0)})


@pytest.fixture(scope="module")
def plan(source: Source, encoder: TextEncoder) -> Plan:
    return make_plan(source, splits=["train"], text=encoder)


@pytest.fixture(scope="module")
def cache(
    source: Source, plan: Plan, encoder: TextEncoder, tmp_path_factory: pytest.TempPathFactory
) -> FeatureCache:
    place = tmp_path_factory.mktemp("cache")
    extract(
        source, plan, cache=place, images=Images(), text=encoder, dtype="float32",
        shard_bytes=4 << 20,
    )  # fmt: skip
    return FeatureCache(place)


def vectors() -> list[tuple[str, list[int]]]:
    name = "ggml-vocab-llama-bpe.gguf"
    texts = (LLAMA3 / f"{name}.inp").read_text().split("\n__ggml_vocab_test__\n")
    lines = (LLAMA3 / f"{name}.out").read_text().splitlines()
    return [(text, [int(i) for i in ids.split()]) for text, ids in zip(texts, lines, strict=False)]


def test_the_tokenizer_is_llama_3s(encoder: TextEncoder) -> None:
    known = vectors()
    assert len(known) == 46
    for text, ids in known:
        assert encoder.tokens([text]) == [[BOS, *ids]], text
    assert len(encoder.tokenizer) == VOCABULARY
    assert encoder.bos == BOS
    assert encoder.tokenizer.convert_tokens_to_ids(["<|eot_id|>", "<|end_of_text|>"]) == [
        128_009,
        128_001,
    ]


def test_a_third_of_the_states_is_all_there_is_to_store(plan: Plan) -> None:
    assert plan.question_count == 48_061
    assert plan.tokens == 404_507
    assert plan.prefixes == 137_382  # 0.34 of the tokens
    brute_force = {tuple(t[: i + 1]) for t in plan.questions.values() for i in range(len(t))}
    assert len(brute_force) == plan.prefixes


def test_half_of_the_questions_have_more_than_half_of_the_states(
    source: Source, plan: Plan
) -> None:
    """How the states grow with the questions, for docs/scale.md."""
    examples = source.examples("train")
    for half, prefixes in ((examples[::2], 76_893), (examples[1::2], 78_143)):
        tokens = [plan.questions[text] for text in {example.question for example in half}]
        assert len({tuple(t[: i + 1]) for t in tokens for i in range(len(t))}) == prefixes


def test_the_cache_holds_one_row_a_prefix(cache: FeatureCache, plan: Plan) -> None:
    assert cache.manifest.prefix_rows == plan.prefixes
    assert cache.questions.hidden_states.shape == (plan.prefixes, HIDDEN)
    assert len(cache.manifest.questions) > 3  # paths cross shards
    assert list(cache.questions.texts) == list(plan.questions)
    lengths = [len(tokens) for tokens in plan.questions.values()]
    assert cache.questions.lengths().tolist() == lengths


def test_states_read_back_are_those_of_a_question_run_alone(
    cache: FeatureCache, plan: Plan, encoder: TextEncoder
) -> None:
    table = cache.split("train")
    for row in np.random.default_rng(4).choice(table.question_rows, SAMPLED, replace=False):
        states = cache.questions.states(row)
        alone = encoder.encode([plan.questions[cache.questions.texts[row]]])[0].numpy()
        np.testing.assert_allclose(states, alone, rtol=0, atol=1e-5)
        assert states.std() > 0.5  # so that the tolerance means something
