"""Train Visual Question Answering heads on cached features of frozen DINOv2 and Llama 3.

    stage one   open_source, ImageEncoder, TextEncoder, make_plan, extract
    the cache   FeatureCache; FeatureDataset, for a training loop of your own
    stage two   TrainConfig, train
    a head      VqaHead, Answers, load_run, evaluate
    the metric  question_score, accuracy
    your code   trust, which lets a run name it; FusionModule and check_fusion, what a fusion is;
                PictureModel and QuestionModel, what encoders are
    the rest    Source and VqaExample, what a data source is; CacheError and PipelineError, the
                bases of all errors that a user or a file can cause

`__all__` is the public interface: a test freezes it, and CHANGELOG.md names each change to it.
Each name is imported at its first use, because torch and transformers take seconds to import.
"""

import importlib

TYPE_CHECKING = False  # not that of `typing`, which `python -m` may find in the working folder

__version__ = "0.2.0"

__all__ = [
    "Answers",
    "CacheError",
    "FeatureCache",
    "FeatureDataset",
    "FusionModule",
    "ImageEncoder",
    "PictureModel",
    "PipelineError",
    "QuestionModel",
    "Source",
    "TextEncoder",
    "TrainConfig",
    "VqaExample",
    "VqaHead",
    "__version__",
    "accuracy",
    "check_fusion",
    "evaluate",
    "extract",
    "load_run",
    "make_plan",
    "open_source",
    "question_score",
    "train",
    "trust",
]

if TYPE_CHECKING:
    from frozen_vqa.cache import CacheError, FeatureCache
    from frozen_vqa.pipeline.ask.head import Answers, VqaHead
    from frozen_vqa.pipeline.batches.dataset import FeatureDataset
    from frozen_vqa.pipeline.config import TrainConfig
    from frozen_vqa.pipeline.encoders.image_encoder import ImageEncoder
    from frozen_vqa.pipeline.encoders.own_model import PictureModel, QuestionModel
    from frozen_vqa.pipeline.encoders.text_encoder import TextEncoder
    from frozen_vqa.pipeline.errors import PipelineError
    from frozen_vqa.pipeline.evaluate.evaluate import evaluate
    from frozen_vqa.pipeline.extract.extract import extract
    from frozen_vqa.pipeline.extract.plan import make_plan
    from frozen_vqa.pipeline.metrics.vqa_accuracy import accuracy, question_score
    from frozen_vqa.pipeline.model.own_fusion import FusionModule, check_fusion
    from frozen_vqa.pipeline.plugins import trust
    from frozen_vqa.pipeline.runs.run import load_run
    from frozen_vqa.pipeline.sources.example import Source, VqaExample
    from frozen_vqa.pipeline.sources.open_source import open_source
    from frozen_vqa.pipeline.train.train import train
else:  # hidden from type checkers, which would take any misspelt name to exist
    _HOMES = {
        "Answers": "pipeline.ask.head",
        "CacheError": "cache",
        "FeatureCache": "cache",
        "FeatureDataset": "pipeline.batches.dataset",
        "FusionModule": "pipeline.model.own_fusion",
        "ImageEncoder": "pipeline.encoders.image_encoder",
        "PictureModel": "pipeline.encoders.own_model",
        "PipelineError": "pipeline.errors",
        "QuestionModel": "pipeline.encoders.own_model",
        "Source": "pipeline.sources.example",
        "TextEncoder": "pipeline.encoders.text_encoder",
        "TrainConfig": "pipeline.config",
        "VqaExample": "pipeline.sources.example",
        "VqaHead": "pipeline.ask.head",
        "accuracy": "pipeline.metrics.vqa_accuracy",
        "check_fusion": "pipeline.model.own_fusion",
        "evaluate": "pipeline.evaluate.evaluate",
        "extract": "pipeline.extract.extract",
        "load_run": "pipeline.runs.run",
        "make_plan": "pipeline.extract.plan",
        "open_source": "pipeline.sources.open_source",
        "question_score": "pipeline.metrics.vqa_accuracy",
        "train": "pipeline.train.train",
        "trust": "pipeline.plugins",
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
