"""Train Visual Question Answering heads on cached features of frozen DINOv2 and Llama 3.

    stage one   open_source, ImageEncoder, TextEncoder, make_plan, extract
    the cache   FeatureCache
    stage two   TrainConfig, train
    a head      VqaHead, load_run, evaluate
    the metric  question_score, accuracy
    the rest    Source and VqaExample, what a data source is; CacheError and PipelineError, the
                bases of all errors that a user or a file can cause

`__all__` is the public interface: a test freezes it, and CHANGELOG.md names each change to it.
Each name is imported at its first use, because torch and transformers take seconds to import.
"""

import importlib

TYPE_CHECKING = False  # not that of `typing`, which `python -m` may find in the working folder

__version__ = "0.2.0"

__all__ = [
    "CacheError",
    "FeatureCache",
    "ImageEncoder",
    "PipelineError",
    "Source",
    "TextEncoder",
    "TrainConfig",
    "VqaExample",
    "VqaHead",
    "__version__",
    "accuracy",
    "evaluate",
    "extract",
    "load_run",
    "make_plan",
    "open_source",
    "question_score",
    "train",
]

if TYPE_CHECKING:
    from frozen_vqa.cache import CacheError, FeatureCache
    from frozen_vqa.pipeline.config import TrainConfig
    from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
    from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
    from frozen_vqa.pipeline.errors import PipelineError
    from frozen_vqa.pipeline.evaluate.evaluate import evaluate
    from frozen_vqa.pipeline.extract.extract import extract
    from frozen_vqa.pipeline.extract.plan import make_plan
    from frozen_vqa.pipeline.metrics.vqa_accuracy import accuracy, question_score
    from frozen_vqa.pipeline.runs.pretrained import VqaHead
    from frozen_vqa.pipeline.runs.run import load_run
    from frozen_vqa.pipeline.sources.example import Source, VqaExample
    from frozen_vqa.pipeline.sources.open_source import open_source
    from frozen_vqa.pipeline.train.train import train
else:  # hidden from type checkers, which would take any misspelt name to exist
    _HOMES = {
        "CacheError": "cache",
        "FeatureCache": "cache",
        "ImageEncoder": "pipeline.encoders.image_encoder",
        "PipelineError": "pipeline.errors",
        "Source": "pipeline.sources.example",
        "TextEncoder": "pipeline.encoders.text_encoder",
        "TrainConfig": "pipeline.config",
        "VqaExample": "pipeline.sources.example",
        "VqaHead": "pipeline.runs.pretrained",
        "accuracy": "pipeline.metrics.vqa_accuracy",
        "evaluate": "pipeline.evaluate.evaluate",
        "extract": "pipeline.extract.extract",
        "load_run": "pipeline.runs.run",
        "make_plan": "pipeline.extract.plan",
        "open_source": "pipeline.sources.open_source",
        "question_score": "pipeline.metrics.vqa_accuracy",
        "train": "pipeline.train.train",
    }

    def __getattr__(name: str) -> object:
        """Import a public name at its first use, and keep it."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """Return the names that are loaded already, and the public ones."""
        return sorted({*globals(), *__all__})
