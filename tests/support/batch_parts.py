"""What a part of a batch has to hold."""

import numpy as np
import torch

from frozen_vqa.pipeline.batches.batch import BatchPart
from frozen_vqa.pipeline.batches.plan import IMAGES, Grid
from frozen_vqa.pipeline.batches.reader import PICTURE_PREFIXES, PREFIXES, QUESTIONS
from tests.support.caches import PATCHES, VISION_DIM, Made


def check_part(made: Made, grid: Grid, part: BatchPart, multiple: int = IMAGES) -> None:
    """Compare a part with what its questions have, padded to a multiple of so many pictures."""
    rows = made.splits["train"]
    assert part.questions.tolist() == [int(row) for entry in grid for row in entry]
    assert part.patch_embeddings is not None
    images = -(-len(grid) // multiple) * multiple
    assert part.patch_embeddings.shape == (images, PATCHES, VISION_DIM)
    assert not part.patch_embeddings[len(grid) :].any()
    slots = max(len(entry) for entry in grid)
    tokens = max(len(made.states[rows[row].question]) for entry in grid for row in entry)
    assert part.attention_mask.shape == (images, slots, tokens)
    words = [  # the distinct words of each picture, by what they are
        {
            made.states[rows[row].question][t].tobytes()
            for row in entry
            for t in range(tokens)
            if t < len(made.states[rows[row].question])
        }
        for entry in grid
    ]
    distinct = len(set().union(*words))
    assert len(part.hidden_states) == -(-distinct // PREFIXES) * PREFIXES
    if slots == 1:
        assert part.token_prefixes is None
        assert part.picture_prefixes.shape == (images, tokens)
        in_full = part.hidden_states[part.picture_prefixes][:, None]
    else:
        assert part.token_prefixes is not None
        assert part.token_prefixes[~part.attention_mask].unique().tolist() in ([], [0])
        most = max(map(len, words))
        assert part.picture_prefixes.shape == (
            images,
            -(-most // PICTURE_PREFIXES) * PICTURE_PREFIXES,
        )
        assert part.token_prefixes.flatten(1).amax(1)[: len(grid)].tolist() == [
            len(w) - 1 for w in words
        ]
        of_images = part.hidden_states[part.picture_prefixes]
        in_full = of_images[torch.arange(images)[:, None, None], part.token_prefixes]
    there = part.attention_mask.any(-1).flatten().nonzero()[:, 0].tolist()
    padding = -len(there) % QUESTIONS
    assert part.question_slots.tolist() == there + padding * there[:1]
    for i, entry in enumerate(grid):
        for s in range(slots):
            mask = part.attention_mask[i, s].tolist()
            if s >= len(entry):
                assert mask == [False] * tokens
                continue
            row = rows[entry[s]]
            patches = part.patch_embeddings[i].numpy()
            assert np.array_equal(patches, made.patch_embeddings[row.image])
            states = made.states[row.question]
            assert mask == [t < len(states) for t in range(tokens)]
            assert np.array_equal(in_full[i, s, : len(states)].numpy(), states)
