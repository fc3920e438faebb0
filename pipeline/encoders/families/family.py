"""What pictures' and questions' families have in common, and which family a model is of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from frozen_vqa.pipeline.errors import ModelError

NOT_READ = dict.fromkeys(
    ("siglip2", "siglip2_vision_model"),
    "takes patches of another number for each picture (NaFlex). SigLIP 2 of a fixed size is of "
    "type siglip; take one such as google/siglip2-base-patch16-224",
)
"""Types that look like one of a family, and why they are none."""


@dataclass(frozen=True)
class Family:
    """A type of model, by `model_type` in its config.json.

    Attributes:
        name: What people call the family; several types may have one name.
        part: The section of config.json about the model that is used, if the checkpoint has others
            beside it; their weights are not loaded.
        keys: How names of weights change from the checkpoint to this model, by regular expression.
        leave_out: What the model's class is told, so that parts that nothing reads are not made.
        settings: Values that its configuration gets, to the same end.
    """

    name: str
    part: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    leave_out: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


F = TypeVar("F", bound=Family)


def family_of(model: str, model_type: str, families: Mapping[str, F]) -> F:
    """Return the family of a type of model; `ModelError` with all that are read if it has none."""
    if model_type in families:
        return families[model_type]
    if model_type in NOT_READ:
        raise ModelError(f"{model} is a {model_type!r} model, which {NOT_READ[model_type]}")
    types: dict[str, list[str]] = {}
    for one, family in families.items():
        types.setdefault(family.name, []).append(one)
    needed = ", ".join(f"{name} ({', '.join(several)})" for name, several in types.items())
    raise ModelError(f"{model} is a {model_type!r} model; one of these types is needed: {needed}")
