"""A repository that needs code of its own is refused before more than its settings are fetched.

transformers would fetch and run such code if it were told to. It is told not to, and then some of
these models load as another one: a file that names code for a known type may change its attention.
"""

from collections.abc import Mapping
from pathlib import Path

from frozen_vqa.cache.disk.files import read_file
from frozen_vqa.cache.typed_json import finite_json
from frozen_vqa.pipeline.errors import ModelError

LARGEST_CONFIG = 16 << 20
"""Bytes of a file of settings; those of real models have some thousands."""
NOT_SETTINGS = ("tokenizer.json", "vocab.json", ".index.json")
"""Endings of large files that hold no settings."""


def require_no_code(name: str, folder: Path) -> None:
    """Raise `ModelError` if a JSON file of a folder names code (`auto_map`), at any depth.

    A file that cannot be read is left to whoever needs it.
    """
    for path in sorted(folder.glob("*.json")):
        if path.name.endswith(NOT_SETTINGS):
            continue
        try:
            found = finite_json(read_file(path, most=LARGEST_CONFIG))
        except (OSError, ValueError, RecursionError):
            continue
        if _names_code(found):
            raise ModelError(
                f"{name} can only be loaded by code of its own (auto_map in {path.name}), and no "
                f"code of a model is run; give a model of a type that transformers knows itself"
            )


def require_known_type(name: str, config: Mapping[str, object]) -> None:
    """Raise `ModelError` if transformers knows no model of the type that a config.json names."""
    from importlib.metadata import version

    from transformers import CONFIG_MAPPING

    kind = config.get("model_type")
    if isinstance(kind, str) and kind not in CONFIG_MAPPING:
        raise ModelError(
            f"{name} is of type {kind!r:.80}, which transformers {version('transformers')} does "
            f"not know, so it needs code of its own, and no code of a model is run; give a model "
            f"of a type that transformers knows itself, or install a newer transformers"
        )


def _names_code(found: object) -> bool:
    waiting = [found]  # not by recursion, because a file may be nested deeply
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            if one.get("auto_map"):
                return True
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return False
