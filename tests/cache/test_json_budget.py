"""JSON holds values in proportion to its length, and is refused before it takes memory."""

import json
import re
import tracemalloc

import pytest

from frozen_vqa.cache import json_budget
from frozen_vqa.cache.json_budget import TooManyValuesError, require_few_values
from frozen_vqa.cache.typed_json import finite_json
from frozen_vqa.pipeline.sources.strict_json import NotJsonError, parse_json
from tests.support.sources import modules

BOMBS = {
    "lists": "[" + "[]," * 100_000 + "[]]",
    "objects": "[" + "{}," * 100_000 + "{}]",
    "of one key": "[" + '{"a":1},' * 50_000 + "{}]",
    "numbers": "[" + "999," * 100_000 + "1]",
    "texts": "[" + '"ab",' * 100_000 + "1]",
}


@pytest.mark.parametrize("name", BOMBS)
def test_values_of_few_bytes_are_refused_before_any_is_made(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_budget, "FREE_VALUES", 1000)
    text = BOMBS[name]
    assert json.loads(text)
    for read, error in ((parse_json, NotJsonError), (finite_json, TooManyValuesError)):
        tracemalloc.start()
        with pytest.raises(error, match="values, and a text of this length may hold"):
            read(text)
        assert tracemalloc.get_traced_memory()[1] < 100_000
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [str, str.encode])
def test_real_files_pass_and_texts_of_few_values_pass_always(kind: object) -> None:
    answers = [{"answer": "net", "answer_confidence": "maybe", "answer_id": i} for i in range(10)]
    entry = {"question_id": 1, "answers": answers, "question_type": "what", "image_id": 1}
    text = json.dumps([entry] * 3000, separators=(",", ":"))
    for sample in (text, "[" * 1000):
        given = kind(sample)  # type: ignore[operator]
        require_few_values(given, bytes_each=6)


@pytest.mark.parametrize("kind", [str, str.encode])
def test_the_last_value_that_is_allowed(kind: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 free ones, and one for each three bytes."""
    monkeypatch.setattr(json_budget, "FREE_VALUES", 1000)
    allowed = "," * 1600 + " " * 200
    require_few_values(kind(allowed), bytes_each=3)  # type: ignore[operator]
    for mark in ",[{":
        with pytest.raises(TooManyValuesError, match=r"holds 1,601 .* may hold 1,600"):
            require_few_values(kind(allowed[:-1] + mark), bytes_each=3)  # type: ignore[operator]
    require_few_values(kind("," * 1000), bytes_each=3)  # type: ignore[operator]


def test_no_other_place_reads_json() -> None:
    """Each of these three counts the values first."""
    way = re.compile(r"\bjson\.(loads?|JSONDecoder)\(")
    calls = {name for name, source in modules().items() if way.search(source)}
    sources = {f"pipeline.sources.{name}" for name in ("strict_json", "own.tables")}
    assert calls == {"cache.typed_json", *sources}
