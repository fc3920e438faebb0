"""The HDF5 feature cache: what stage one writes and stage two reads.

    CACHE/cache.json            manifest: encoders, shapes, shards and splits with digests
    CACHE/images/00000.h5       patch embeddings and CLS vectors, one row per picture
    CACHE/questions/00000.h5    hidden states, one row per distinct token prefix, and paths
    CACHE/splits/train.h5       question ids, rows, all answers, question and answer types

    writer.py    stage one's side            reader.py   stage two's side
    manifest.py  what cache.json says        spec.py     what fixes the numbers
    splits.py    the table of a split        shards.py   what a shard holds, as bytes
    aside.py     shards that wait their turn verify.py   every byte checked
    hdf5.py      HDF5 files in memory        layout.py   where their numbers lie
    lock.py      one writer at a time        holder.py   who that is, and whether it lives
    files.py     atomic writes, digests      errors.py   what can be wrong
    opening.py   files, checked first        questions.py all questions in memory
    quantise.py  int8 rows and their scales

docs/cache.md says what the cache promises, against what, and how that is tested.

Knows numpy, and h5py for making shards. Knows nothing of models, data sets or training.
"""

from frozen_vqa.cache.errors import (
    CacheBusyError,
    CacheDamagedError,
    CacheError,
    CacheMismatchError,
)
from frozen_vqa.cache.manifest import Failure, Manifest, load_manifest
from frozen_vqa.cache.questions import Questions
from frozen_vqa.cache.reader import FeatureCache
from frozen_vqa.cache.spec import CacheSpec
from frozen_vqa.cache.splits import SplitTable
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
