"""The HDF5 feature cache: what stage one writes and stage two reads.

    CACHE/cache.json            manifest: encoders, shapes, shards and splits with digests
    CACHE/images/00000.h5       patch embeddings and CLS vectors, one row per picture
    CACHE/questions/00000.h5    hidden states, one row per distinct token prefix, and paths
    CACHE/splits/train.h5       question ids, rows, all answers, question and answer types

    manifest.py  what cache.json says     hdf5.py    HDF5 images in memory, checked extents
    writer.py    stage one's side         reader.py  stage two's side
    splits.py    the table of a split     files.py   atomic writes, lock, digests

Knows h5py and numpy. Knows nothing of models, data sets or training.
"""

from cache.errors import CacheBusyError, CacheDamagedError, CacheError, CacheMismatchError
from cache.manifest import CacheSpec, Failure
from cache.reader import FeatureCache, Questions
from cache.splits import SplitTable
from cache.writer import CacheWriter

__all__ = [
    "CacheBusyError",
    "CacheDamagedError",
    "CacheError",
    "CacheMismatchError",
    "CacheSpec",
    "CacheWriter",
    "Failure",
    "FeatureCache",
    "Questions",
    "SplitTable",
]
