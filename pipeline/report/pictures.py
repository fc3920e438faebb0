"""Small copies of the pictures, from the data set that the cache was made of, if it is still there.

A picture is shown only if it is the one that was encoded: its thumbnail has to equal the stored
one. So no heat map lies on another picture, and a cache from a stranger shows no file of this
machine that its maker did not have.
"""

import base64
import io
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.Image import Resampling

from frozen_vqa.cache import FeatureCache
from frozen_vqa.cache.stores.address import is_url
from frozen_vqa.cache.typed_json import Json
from frozen_vqa.pipeline.encoders.picture_files.budget import MAX_PIXELS
from frozen_vqa.pipeline.encoders.preprocess import fit_crop, fit_whole, load_rgb
from frozen_vqa.pipeline.encoders.processor import USUAL_EDGE
from frozen_vqa.pipeline.encoders.reading import reading_of, recorded_sides
from frozen_vqa.pipeline.errors import PipelineError
from frozen_vqa.pipeline.extract.decoder import (
    DECODERS,
    grey_thumbnail,
    is_same_picture,
    stored_thumbnails,
)
from frozen_vqa.pipeline.runs.held_out import split_of
from frozen_vqa.pipeline.sources.example import Id, Source
from frozen_vqa.pipeline.sources.open_source import FORMS, open_source
from frozen_vqa.pipeline.sources.pictures.stored import StoredPicture

MOST_PICTURES = 3_000
MOST_BYTES = 12_000_000
"""Of all pictures of a page, as text."""

MOST_SCENES = 99_999

SIDES = (256, 192, 128, 96, 64)
BYTES_PER_PIXEL = 0.2
"""What a small WebP takes, roughly, to choose a size."""


@dataclass(frozen=True)
class Pictures:
    """Data URIs by the row of the picture, and why pictures are missing ("" if none is)."""

    uris: Mapping[int, str]
    missing: str = ""


def read_pictures(cache: FeatureCache, split: str, rows: Sequence[int]) -> Pictures:
    """Return small copies of the pictures in these rows, the first ones if not all fit a page."""
    split = split_of(split, cache.manifest.splits)
    origin = cache.manifest.splits[split].origin
    dataset, columns = origin.get("dataset"), origin.get("columns")
    images, annotations = (
        Path(file) if isinstance(file := origin.get(name), str) else None
        for name in ("images", "annotations")
    )
    if not isinstance(dataset, str):
        return Pictures({}, "The cache does not say which data set its pictures are from.")
    kind, _, rest = dataset.partition(":")
    if kind not in FORMS:  # a cache may be a stranger's, and must not say which code runs
        return Pictures({}, f"The pictures of {dataset} come from code, which a report never runs.")
    if kind == "shapes" and len(rest) > len(str(MOST_SCENES)):
        return Pictures({}, f"The scenes of {dataset} are too many to draw again.")
    if kind == "hub" and not os.path.exists(os.path.expanduser(rest)):
        return Pictures({}, f"The pictures of {dataset} are on the Hub, which a report never asks.")
    if is_url(rest):
        return Pictures({}, f"The pictures of {dataset} are at URLs, which a report never asks.")
    try:
        source = open_source(
            dataset,
            columns=columns if isinstance(columns, dict) else None,
            images=images,
            annotations=annotations,
        )
        ids = {str(i): i for example in source.examples(split) for i in example.images}
    except PipelineError:  # the message may quote a file that a stranger's cache names
        return Pictures({}, f"The pictures of {dataset} cannot be read here any more.")
    return _shrink(cache, source, ids, rows, cache.split(split).rows_by_image_id)


def _shrink(
    cache: FeatureCache,
    source: Source,
    ids: Mapping[str, Id],
    rows: Sequence[int],
    others: Mapping[str, int],
) -> Pictures:
    """Return what `read_pictures` does; `others` has the rows of further ids."""
    names, chosen = cache.image_ids(), list(rows[:MOST_PICTURES])
    known = {row: names[row] for row in chosen}
    for image_id, row in others.items():
        if row in known and known[row] not in ids:
            known[row] = image_id
    thumbnails = stored_thumbnails(cache.directory, cache.manifest, chosen)
    in_full = replace(reading_of(cache.manifest.spec.vision), jpeg_side=None)
    room = MOST_BYTES / (BYTES_PER_PIXEL * max(1, len(chosen)))
    side = next((side for side in SIDES if side**2 <= room), SIDES[-1])
    reasons: list[str] = []

    def shrink(row: int, stored: np.ndarray) -> str:
        image_id = ids.get(known[row])
        if image_id is None:
            reasons.append(f"{known[row]!r}, which the data set does not name any more")
            return ""
        try:
            found = source.picture(image_id)
            if isinstance(found, StoredPicture):
                reasons.append(f"{found}: at a URL, which a report never asks")
                return ""
            picture = load_rgb(found, in_full)
            small = _fitted(picture, cache.manifest.spec.vision, stored, side)
        except PipelineError as error:
            reasons.append(f"{source.where(image_id)}: {error}")
            return ""
        if small is None:
            reasons.append(f"{source.where(image_id)}: not the picture that was encoded")
            return ""
        return _uri(small)

    with ThreadPoolExecutor(DECODERS, thread_name_prefix="pictures") as threads:
        every = dict(zip(chosen, threads.map(shrink, chosen, thumbnails), strict=True))
    lost = len(rows) - len(chosen)
    uris: dict[int, str] = {}
    total = 0
    for row, uri in every.items():
        total += len(uri)
        if uri and total <= MOST_BYTES:
            uris[row] = uri
        lost += bool(uri) and total > MOST_BYTES
    missing = []
    if reasons:
        first = min(reasons)  # threads end in any order
        missing.append(f"Pictures that cannot be shown: {len(reasons):,}. One is {first}.")
    if lost:
        missing.append(f"Pictures left out, so that this file stays small: {lost:,}.")
    return Pictures(uris, " ".join(missing))


def _fitted(
    image: Image.Image, vision: Mapping[str, Json], stored: np.ndarray, side: int
) -> Image.Image | None:
    """Return a small copy of what the encoder saw; None if its thumbnail is not the stored one."""
    resample = vision.get("resample")
    sides = recorded_sides(vision)
    if not isinstance(resample, int) or math.prod(sides) > MAX_PIXELS:
        return None
    filter_ = Resampling(resample)
    resize = vision.get("resize", round(sides[0] * USUAL_EDGE))
    if vision.get("fit") == "crop" and resize != "a square":
        edge = max(1, resize) if type(resize) is int else None
        pixels = fit_crop(image, size=sides[0], shortest_edge=edge, resample=filter_)
        image = Image.fromarray(pixels)
    else:
        pixels = fit_whole(image, sides, resample=filter_)
    if not is_same_picture(stored, grey_thumbnail(pixels)):
        return None
    image.thumbnail((side, side), Resampling.LANCZOS)
    return image


def _uri(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, format="WEBP", quality=75)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
