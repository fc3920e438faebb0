"""WUPS, on a WordNet of a few words, and what is said without one."""

import sys
from types import SimpleNamespace

import pytest

from frozen_vqa.pipeline.errors import MetricError
from frozen_vqa.pipeline.metrics.metric import Annotation, Answered
from frozen_vqa.pipeline.metrics.named import daquar

NEAR = {frozenset(("sofa", "couch")): 1.0, frozenset(("sofa", "chair")): 0.9}
NEAR |= {frozenset(("sofa", "cat")): 0.5}


class Sense:
    """A sense of a word, whose similarity to others is in the table."""

    def __init__(self, word: str) -> None:
        self.word = word

    def wup_similarity(self, other: "Sense") -> float | None:
        same = 1.0 if self.word == other.word else None
        return NEAR.get(frozenset((self.word, other.word)), same)


@pytest.fixture(autouse=True)
def _small_wordnet(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {word for pair in NEAR for word in pair} | {"noun"}

    def synsets(word: str, pos: str = "n") -> list[Sense]:
        assert pos == "n"
        return [Sense(word)] * 2 if word in known else []

    corpus = SimpleNamespace(wordnet=SimpleNamespace(synsets=synsets))
    monkeypatch.setitem(sys.modules, "nltk", SimpleNamespace(corpus=corpus))
    monkeypatch.setitem(sys.modules, "nltk.corpus", corpus)
    daquar.wu_palmer.cache_clear()


@pytest.mark.parametrize(
    ("answer", "given", "at_09", "at_00"),
    [
        ("sofa", "sofa", 1.0, 1.0),
        ("zxq", "zxq", 1.0, 1.0),  # equal words need no WordNet
        ("zxq", "sofa", 0.0, 0.0),  # an unknown word
        ("sofa", "couch", 1.0, 1.0),
        ("chair", "sofa", 0.9, 0.9),  # at the threshold, not below it
        ("cat", "sofa", 0.05, 0.5),  # below it a tenth counts, not nothing
        ("sofa, cat", "cat,sofa", 1.0, 1.0),
        ("sofa, sofa", "sofa", 1.0, 1.0),
        ("sofa", "sofa, cat", 0.05, 0.5),
        ("cat, cat", "sofa", 0.05**2, 0.5**2),  # a product over what was said
        ("Sofa", "sofa", 0.0, 0.0),  # case counts
        ("", "sofa", 0.0, 0.0),
    ],
)
def test_wups(answer: str, given: str, at_09: float, at_00: float) -> None:
    for threshold, wanted in zip(daquar.THRESHOLDS, (at_09, at_00), strict=True):
        near = daquar.near_from(threshold)
        assert daquar.fuzzy(answer, given, near) == pytest.approx(wanted)
        assert daquar.fuzzy(given, answer, near) == pytest.approx(wanted)


def test_figures() -> None:
    pairs = [("sofa", "sofa"), ("cat", "sofa"), ("cat", "couch")]
    answered = [
        Answered(Annotation(i, (given,)), said, daquar.fuzzy(said, given, daquar.equal))
        for i, (said, given) in enumerate(pairs)
    ]
    figures = daquar.METRICS[0].figures(answered)
    assert figures["WUPS@0.0"].value == pytest.approx(50.0)
    assert figures["WUPS@0.9"].value == pytest.approx(100 * 1.05 / 3)
    assert figures["WUPS@0.9, mean of classes"].value == pytest.approx(100 * 1.05 / 2 / 2)
    assert figures["accuracy, mean of classes"].value == 25.0
    assert figures["accuracy, mean of classes"].questions == 2  # distinct given answers


@pytest.mark.parametrize("missing", ["nltk", "WordNet"])
def test_what_is_missing_has_a_remedy(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(word: str, pos: str = "n") -> None:
        raise LookupError("Resource wordnet not found.\n\n" + "many lines\n" * 20)

    broken = SimpleNamespace(wordnet=SimpleNamespace(synsets=refuse))
    monkeypatch.setitem(sys.modules, "nltk.corpus", None if missing == "nltk" else broken)
    with pytest.raises(MetricError, match=r"pip install 'frozen-vqa\[daquar\]', then") as caught:
        daquar.wu_palmer("sofa", "couch")
    assert "\n" not in str(caught.value)
