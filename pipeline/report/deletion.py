"""The deletion test: does the answer depend on the patches that a head attends to?

Attention alone proves nothing. So some patches of a picture are replaced by the picture's mean
patch, and the probability of the answer is asked for again: once without the patches that are
attended most, once without as many of the least attended, once without as many random ones. A map
that shows what the answer rests on has the first curve far below the other two.

Source: Petsiuk, Das and Saenko, RISE, BMVC 2018 (the deletion curve); Jain and Wallace, Attention
is not Explanation, NAACL 2019 (why it is needed).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from frozen_vqa.cache import FeatureCache, SplitTable
from frozen_vqa.cache.format.bfloat16 import to_floats
from frozen_vqa.cache.format.quantise import dequantise
from frozen_vqa.cache.format.spec import SCALE_DTYPE
from frozen_vqa.pipeline.evaluate.statistics import Interval, mean_interval
from frozen_vqa.pipeline.model.vqa_model import VqaModel

SHARES = (0.05, 0.1, 0.2, 0.4)
"""Shares of the patches that are replaced; at least one patch each time."""


@dataclass(frozen=True)
class Deletion:
    """Probabilities of the answer to each question, of which maps there are `maps`.

    Attributes:
        whole: (questions,) with the whole picture.
        most, least: (questions, maps, shares) without the patches that a map shows as attended most
            or least. The first map is the average over the attention heads, then comes each head.
        random: (questions, shares) without random patches.
    """

    whole: np.ndarray
    most: np.ndarray
    least: np.ndarray
    random: np.ndarray

    def areas(self) -> np.ndarray:
        """Return the area between the curves of random and most attended patches, for each map.

        (questions, maps), the mean difference of the probabilities over the shares from none to
        the largest: 0 if the map says nothing about the answer, at most 1.
        """
        difference = self.random[:, None] - self.most
        zero = np.zeros((*difference.shape[:2], 1))
        return (
            np.trapezoid(np.concatenate([zero, difference], 2), (0, *SHARES), axis=2) / SHARES[-1]
        )


def area_interval(areas: np.ndarray, pictures: np.ndarray) -> tuple[float, Interval]:
    """Return mean and 95 % interval, in points of probability, of the (questions,) areas of a map.

    `pictures` are (questions,) as in `mean_interval`.
    """
    found = mean_interval(100 * areas, pictures, least=-100, largest=100)
    return 100 * float(areas.mean()), found


def delete_patches(
    model: VqaModel,
    cache: FeatureCache,
    table: SplitTable,
    rows: Sequence[int],
    maps: Sequence[np.ndarray],
    answers: Sequence[int],
    *,
    seed: int = 0,
) -> Deletion:
    """Test the maps of some questions, one question after the other.

    Args:
        rows: (questions,) rows of the split.
        maps: Per question (heads, patches), what each head attends to.
        answers: (questions,) class whose probability is asked for.
    """
    rng = np.random.default_rng(seed)
    found = []
    for row, heads, answer in zip(rows, maps, answers, strict=True):
        every = np.concatenate([heads.mean(0, keepdims=True), heads])
        gone = choose_patches(every, rng)
        found.append(probabilities_without(model, cache, table, int(row), gone, int(answer)))
    shares = len(SHARES)
    both = np.array(found).reshape(len(found), -1) if found else np.zeros((0, 1 + shares))
    maps_of_each = (both.shape[1] - 1 - shares) // (2 * shares)
    ends = both[:, 1 + shares :].reshape(len(found), 2, maps_of_each, shares)
    return Deletion(both[:, 0], ends[:, 0], ends[:, 1], both[:, 1 : 1 + shares])


def choose_patches(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return which patches go in each variant of a picture: (variants, patches) bool.

    The variants are the whole picture; random patches by share; then the most attended ones of the
    first map by share, those of the second, and so on; then the least attended ones likewise. Equal
    weights come in random order.
    """
    patches = maps.shape[1]
    counts = [max(1, round(share * patches)) for share in SHARES]
    chance = rng.permutation(patches)
    orders = [np.argsort(chance)]
    for sign in (-1, 1):
        orders += [np.lexsort((chance, sign * weights)) for weights in maps]
    gone = np.zeros((1 + len(orders) * len(counts), patches), dtype=bool)
    for i, order in enumerate(orders):
        for j, count in enumerate(counts):
            gone[1 + i * len(counts) + j, order[:count]] = True
    return gone


@torch.inference_mode()
def probabilities_without(
    model: VqaModel,
    cache: FeatureCache,
    table: SplitTable,
    row: int,
    gone: np.ndarray,
    answer: int,
) -> np.ndarray:
    """Return the probability of an answer without some patches of the picture: (variants,).

    The patches that go in each variant, `gone` (variants, patches) bool, are replaced by the mean
    of all patches of the picture.
    """
    device = model.head.weight.device
    picture = read_patches(cache, int(table.image_rows[row])).to(device)
    mask = torch.from_numpy(gone).to(device)[..., None]
    patches = torch.where(mask, picture.mean(0), picture)
    question = int(table.question_rows[row])
    states = torch.from_numpy(cache.questions.states(question)).to(device)
    prefixes = torch.arange(len(states), device=device).expand(len(gone), -1)
    logits = model(
        patches,
        states,
        torch.ones(len(gone), 1, len(states), dtype=torch.bool, device=device),
        picture_prefixes=prefixes,
        question_slots=torch.arange(len(gone), device=device),
    )
    return logits[:, answer].double().sigmoid().cpu().numpy()


def read_patches(cache: FeatureCache, row: int) -> Tensor:
    """Return the patch embeddings of a picture in single precision: (patches, vision_dim)."""
    spec = cache.spec
    out = np.empty((1, spec.patches, spec.vision_dim), spec.image_dtype)
    scales = np.empty((1, *spec.scales), SCALE_DTYPE) if spec.quantised else None
    cache.read_images(np.array([row]), out, scales)
    found = to_floats(out) if scales is None else dequantise(out, scales, spec.vision_dims)
    return torch.from_numpy(found[0]).float()
