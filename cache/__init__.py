"""The HDF5 feature cache: stage one writes it, and stage two reads it.

    CACHE/cache.json            manifest: encoders, shapes, shards and splits with digests
    CACHE/images/00000.h5       patch embeddings and CLS vectors, one row per picture
    CACHE/questions/00000.h5    hidden states, one row per distinct token prefix, and paths
    CACHE/splits/train.h5       question ids, rows, all answers, question and answer types

    writer.py    stage one's side          reader.py      stage two's side
    convert.py   to fewer bytes            memory.py      all pictures in memory
    left_out.py  questions without rows    questions.py   all texts and hidden states
    verify.py    every byte checked        typed_json.py  dataclasses from JSON
    errors.py    what can be wrong         format/        the files, as bytes
    names.py     paths from names          disk/          how bytes get to the disk and back
                                           large/         lists that may lie in a file

docs/cache.md says what the cache promises, against what, and how that is tested.

Knows numpy, h5py (to build shards) and filelock; knows nothing of models, data sets or training.
"""

from frozen_vqa.cache.disk.integrity import load_manifest
from frozen_vqa.cache.errors import (
    CacheBusyError,
    CacheDamagedError,
    CacheError,
    CacheMismatchError,
)
from frozen_vqa.cache.format.manifest import Failure, Manifest
from frozen_vqa.cache.format.spec import CacheSpec
from frozen_vqa.cache.format.splits import SplitTable
from frozen_vqa.cache.questions import Questions
from frozen_vqa.cache.reader import FeatureCache
from frozen_vqa.cache.writer import CacheWriter

__all__ = [
    "CacheBusyError",
    "CacheDamagedError",
    "CacheError",
    "CacheMismatchError",
    "CacheSpec",
    "CacheWriter",
    "Failure",
    "FeatureCache",
    "Manifest",
    "Questions",
    "SplitTable",
    "load_manifest",
]
