"""The parts of a row of features: what one encoder gives at one of its layers.

    patch_embeddings   dinov2-base@-5 │ dinov2-base │ siglip2       side by side, by channel

A cache of one encoder and one layer has a single part. A reader may pick some of several, by names
such as "siglip2" (all layers of it), "dinov2-base@-5" and "dinov2-base+siglip2".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, starmap

from frozen_vqa.cache.errors import CacheError
from frozen_vqa.cache.typed_json import Json

LAST = -1
"""The last layer, after the final norm; the layers before it count downwards."""

MOST = 64
"""Parts of a row; each is read and normalised by itself."""

EACH = "each"
"""What a reader is asked for to get every part alone, and all of them."""

Columns = Sequence[tuple[slice, slice]]
"""Where channels of a row go to, and where they come from."""


@dataclass(frozen=True)
class Part:
    """Some of the channels of a row: `dim` numbers of an encoder with these settings."""

    settings: Mapping[str, Json]
    dim: int

    @property
    def model(self) -> str:
        """The name of the encoder."""
        return str(self.settings.get("model"))

    @property
    def layer(self) -> Json:
        """The layer, counted from the last one, which is -1."""
        return self.settings.get("layer", LAST)


def labels(parts: Sequence[Part]) -> list[str]:
    """Return the shortest names that tell parts apart."""
    short = {part.model: _last(part.model) for part in parts}
    alike = [name for name in short.values() if list(short.values()).count(name) > 1]
    names = [part.model if short[part.model] in alike else short[part.model] for part in parts]
    return [
        f"{name}@{part.layer}" if names.count(name) > 1 or part.layer != LAST else name
        for name, part in zip(names, parts, strict=True)
    ]


def find_parts(
    asked: str,
    parts: Sequence[Part],
    depths: Mapping[str, int],
    where: str,
    names: Sequence[str] = (),
) -> list[int]:
    """Return which parts are asked for, in their own order; all for "".

    Args:
        asked: "NAME", "NAME@LAYER" or "LAYER", several of them joined by "+". A name is that of a
            model, or the last part of it.
        depths: The number of layers of models, so that a layer may also count from the first one.
        where: How a message begins.
        names: What it calls the parts; their labels if it has none.

    Raises:
        CacheError: if there is no such part, or a name means several models.
    """
    if not asked.strip():
        return list(range(len(parts)))
    found: set[int] = set()
    for one in asked.split("+"):
        fit = list(_fitting(one.strip(), parts, depths))
        models = sorted({parts[i].model for i in fit})
        if not fit or len(models) > 1:
            what = f"{one.strip()!r:.80} is {' and '.join(models)}" if fit else ""
            if one.strip() == EACH:
                what = f"{EACH!r} stands alone on the command line, without other parts"
            names = names or labels(parts)
            give = f"one of {', '.join(names)}, or several joined by +"
            raise CacheError(
                f"{where}: {what or f'there is no {one.strip()!r:.80} in this cache'}; give "
                f"{give if len(names) > 1 else f'{names[0]}, or leave it out'}"
            )
        found.update(fit)
    return sorted(found)


def spans(parts: Sequence[Part]) -> list[slice]:
    """Return the channels of each part in a row."""
    ends = list(accumulate((part.dim for part in parts), initial=0))
    return list(starmap(slice, pairwise(ends)))


def columns(parts: Sequence[Part], chosen: Sequence[int]) -> Columns:
    """Return the channels of chosen parts; neighbours are one slice."""
    found: list[tuple[slice, slice]] = []
    places = spans(parts)
    for to, i in zip(spans([parts[i] for i in chosen]), chosen, strict=True):
        at = places[i]
        if found and found[-1][1].stop == at.start:
            first_to, first = found.pop()
            to, at = slice(first_to.start, to.stop), slice(first.start, at.stop)
        found.append((to, at))
    return found


def _fitting(asked: str, parts: Sequence[Part], depths: Mapping[str, int]) -> Iterator[int]:
    name, _, layer = asked.rpartition("@")
    if not _is_number(layer):
        name, layer = asked, ""
    for i, part in enumerate(parts):
        named = name in (part.model, _last(part.model)) or (layer and not name)
        number = int(layer or LAST)
        if number >= 0 and part.model in depths:
            number -= depths[part.model] + 1
        if named and (not layer or number == part.layer):
            yield i


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 6


def _last(model: str) -> str:
    return model.rstrip("/").rpartition("/")[2] or model
