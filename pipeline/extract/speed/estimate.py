"""How long an extraction will take, from a sample of it."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np

from frozen_vqa.pipeline.extract.extract import SHARD_BYTES
from frozen_vqa.pipeline.extract.feature_encoder import TEXT_BATCH, FeatureEncoder
from frozen_vqa.pipeline.extract.speed.batch_size import BatchSize, default_batch_size
from frozen_vqa.pipeline.extract.speed.throughput import PhaseTimer

MEASURED, MOST_BATCHES = 4.0, 10_000
"""Seconds of a sample, more for slow encoders; its most batches."""


def time_pictures(encoder: FeatureEncoder, batch_size: int | None) -> tuple[float, float]:
    """Return the seconds for all pictures, and the share in which the encoder waits for them.

    A sample goes through what an extraction does, all at once: threads decode, the encoder works,
    and a thread builds what would be stored. On few cores these slow each other down.
    """
    batch = batch_size or default_batch_size(encoder.images.device)
    images, timer = encoder.plan.images, PhaseTimer()
    # From all over the data set, whose pictures may be sorted.
    starts = np.random.default_rng(0).permutation(np.arange(0, len(images), batch))
    chunks = [images[first : first + batch] for first in starts[:MOST_BATCHES].tolist()]
    first, *others = chunks if len(chunks) > 1 else chunks * 2
    encoded = encoder.encode_images([first, *others], BatchSize(batch), timer)
    batches_of_a_shard = max(1, SHARD_BYTES // encoder.spec.image_row_bytes // batch)
    began, done, shard = time.perf_counter(), 0, None
    with ThreadPoolExecutor(1) as shards, closing(encoded):
        next(encoded)  # includes loading and set-up
        ready, waited = time.perf_counter(), timer.seconds["waiting"]
        for number, (chunk, features) in enumerate(zip(others, encoded, strict=False)):
            if number % batches_of_a_shard == 0:  # each costs as much as a large one, nearly
                if shard:
                    shard.result()
                shard = shards.submit(features.to_shard, encoder.spec, {})
            done += len(chunk)
            if time.perf_counter() - ready > MEASURED:
                break
        seconds = time.perf_counter() - ready
        waited = timer.seconds["waiting"] - waited
    left = max(0, len(images) - len(first))
    return ready - began + seconds / done * left, waited / seconds


def time_questions(encoder: FeatureEncoder) -> float:
    """Return the seconds for all distinct questions."""
    questions = encoder.plan.questions.values()
    lengths = sorted(map(len, questions))
    usual = next(one for one in questions if len(one) == lengths[len(lengths) // 2])
    tokens = [usual] * min(TEXT_BATCH, len(questions))
    began = time.perf_counter()
    encoder.text.encode(tokens).cpu()  # includes loading and set-up
    ready = time.perf_counter()
    encoder.text.encode(tokens).cpu()
    seconds = time.perf_counter() - ready
    left = (len(questions) - len(tokens)) / len(tokens)
    if encoder.text.encodes_trees:  # what questions have in common is computed once
        left *= encoder.plan.prefixes / sum(lengths)
    return ready - began + seconds * left
