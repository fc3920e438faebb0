"""Which tokenizers split any text in time and memory that are proportional to its length.

A tokenizer brings its own replacements and regular expressions. A few replacements make gigabytes
of a word, and some expressions take years for a line. No limit of time ends them, because they run
in a library. So they are looked at before: replacements must not lengthen a text, and expressions
must be those of the models that are read.
"""

from collections.abc import Iterator
from typing import Any

from frozen_vqa.cache.typed_json import finite_json
from frozen_vqa.pipeline.errors import ModelError

EXPRESSIONS = frozenset(
    {
        # Llama 3
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        # Qwen 2 and 3
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        # GPT-2
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    }
)
"""Regular expressions whose time is proportional to the text."""

STEPS = frozenset(
    {
        *("Sequence", "Split", "ByteLevel", "Metaspace", "Digits", "Punctuation", "Whitespace"),
        *("Replace", "Prepend", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip"),
    }
)
MOST_STEPS = 8
"""Each may double the bytes of a text."""

LONGEST_PREFIX = 16


def require_bounded(tokenizer: Any, model: str) -> None:
    """Raise `ModelError` unless a loaded tokenizer is a BPE whose steps are known to be quick."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    fault = "" if backend is not None else "it has none of the library `tokenizers`"
    if backend is not None:
        kind = type(backend.model).__name__
        steps = [step for part in _parts(backend) for step in _steps(part)]
        faults = [f"its model is {kind}, BPE is needed"] if kind != "BPE" else []
        faults += [why for step in steps if (why := _fault(step))]
        if len(steps) > MOST_STEPS:
            faults.append(f"it has {len(steps):,} steps, the limit is {MOST_STEPS}")
        fault = faults[0] if faults else ""
    if fault:
        raise ModelError(
            f"{model}: its tokenizer could take any time and memory for a question: {fault}. Take "
            f"the tokenizer of the model's authors."
        )


def _parts(backend: Any) -> Iterator[Any]:
    for part in (backend.normalizer, backend.pre_tokenizer):
        if part is not None:
            yield finite_json(part.__getstate__())


def _steps(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    inside = part.get("normalizers") or part.get("pretokenizers")
    if inside is None:
        yield part
    else:
        for one in inside:
            yield from _steps(one)


def _fault(step: dict[str, Any]) -> str:
    kind, pattern = step.get("type"), step.get("pattern") or {}
    if kind not in STEPS:
        return f"the step {kind!r:.40} is not known"
    if "Regex" in pattern and pattern["Regex"] not in EXPRESSIONS:
        return f"the expression {pattern['Regex']!r:.60} is not of a model that is read"
    if kind == "Replace" and len(step["content"]) > len(pattern.get("String", "")):
        return f"it replaces {pattern.get('String', '')!r:.40} by a longer text"
    if kind == "Prepend" and len(step["prepend"]) > LONGEST_PREFIX:
        return f"it puts {len(step['prepend']):,} characters before each text"
    return ""
