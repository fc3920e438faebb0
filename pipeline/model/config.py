"""The settings of a head, and the shapes that its data gives it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from frozen_vqa.cache.format.parts import MOST
from frozen_vqa.cache.typed_json import NAMES
from frozen_vqa.pipeline.errors import ConfigError
from frozen_vqa.pipeline.plugins import FORM, is_own

Fusion = Literal["co-attention", "text-to-image", "concat", "question-only", "image-only"]
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)
Merge = Literal["concat", "gated"]
PoolingKind = Literal["mean", "attention"]
POOLINGS: tuple[PoolingKind, ...] = get_args(PoolingKind)
AnswerHead = Literal["mlp", "linear"]
Side = Annotated[int, (1, 2**20)]

Limit = tuple[Callable[[Any], bool], str]
"""A condition on a setting, and its words in a message."""

AT_LEAST_0: Limit = (lambda value: 0 <= value < 2**31, "at least 0 and below 2**31")
AT_LEAST_1: Limit = (lambda value: 1 <= value < 2**31, "at least 1 and below 2**31")
SHARE: Limit = (lambda value: 0 <= value < 1, "at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """The settings of a head that a user chooses.

    Raises:
        ConfigError: if a value is not allowed; it names every such setting.
    """

    LIMITS: ClassVar[Mapping[str, Limit]] = {
        "width": (lambda width: 0 <= width <= 10**6, "at least 0 and at most 1,000,000"),
        "layers": (lambda layers: 1 <= layers <= 10**6, "at least 1 and at most 1,000,000"),
        "heads": AT_LEAST_1,
        "fusion": (
            lambda name: name in FUSIONS or is_own(name),
            f"one of {', '.join(FUSIONS)}, or {FORM} of your own",
        ),
        **dict.fromkeys(("dropout", "feature_dropout"), SHARE),
    }

    fusion: str = "co-attention"
    """How pictures and questions meet: one of `FUSIONS`, or "module:Name" of the user's own."""
    layers: int = 1
    """Cross-attention layers; the kinds without attention ignore it."""
    width: int = 256
    """Size of everything between the projections and the answer head; 0: that of a hidden state."""
    heads: int = 4
    """Attention heads; the width is a multiple of them."""
    dropout: float = 0.0
    """Share of activations that training drops."""
    feature_dropout: float = 0.0
    """Share of the encoders' channels that training drops, drawn for each picture and prefix."""
    position_embedding: bool = True
    """Whether patches are told their row and column."""
    text_self_attention: bool = False
    """Whether the tokens of a question attend to each other before each layer."""
    merge: Merge = "concat"
    """How an MLP reads original and attended features."""
    pooling: PoolingKind = "attention"
    """How tokens and patches become one vector each."""
    post_norm: bool = False
    """Whether norms come after each residual sum, and not before each attention."""
    answer_head: AnswerHead = "mlp"
    """What turns the pooled vectors into logits."""

    def __post_init__(self) -> None:
        wrong = []
        for field in fields(self):
            name, kind, value = field.name, field.type, getattr(self, field.name)
            if kind is float and type(value) is int and abs(value) < 2**53:
                value = float(value)
            if name == "text_layer" and type(value) is int:  # as a file of settings names it
                value = str(value)
            object.__setattr__(self, name, value)
            holds, limit = self.LIMITS.get(name, (lambda _: True, ""))
            if get_origin(kind) is Literal:
                holds, limit = get_args(kind).__contains__, f"one of {', '.join(get_args(kind))}"
            elif type(value) is not kind and kind in NAMES:
                wrong.append(f"{name} is {value!r:.60}; {NAMES[kind]} is needed")
                continue
            if not holds(value):
                wrong.append(f"{name} is {value!r:.60}; it must be {limit}")
        if wrong:
            raise ConfigError("; ".join(wrong))

    @property
    def sees_pictures(self) -> bool:
        """Whether the answers depend on the picture."""
        return self.fusion != "question-only"

    def with_shapes(
        self,
        *,
        vision_dim: int,
        text_dim: int,
        grid: tuple[int, int],
        answers: int,
        pictures: int = 1,
        vision_parts: Sequence[int] = (),
        text_parts: Sequence[int] = (),
    ) -> "ModelConfig":
        """Return these settings of a head with the shapes of its data; see `ModelConfig`."""
        settings = {field.name: getattr(self, field.name) for field in fields(HeadSettings)}
        settings["width"] = self.width or text_dim
        return ModelConfig(
            **settings,
            vision_dim=vision_dim,
            text_dim=text_dim,
            grid=grid,
            answers=answers,
            pictures=pictures,
            vision_parts=tuple(vision_parts),
            text_parts=tuple(text_parts),
        )


@dataclass(frozen=True, kw_only=True)
class ModelConfig(HeadSettings):
    """Everything that fixes the shape of a head; its width is resolved."""

    LIMITS: ClassVar[Mapping[str, Limit]] = {
        **HeadSettings.LIMITS,
        **dict.fromkeys(("vision_dim", "text_dim", "answers"), AT_LEAST_1),
        "pictures": (lambda pictures: 1 <= pictures <= 1000, "at least 1 and at most 1,000"),
        "width": (lambda width: 1 <= width <= 10**6, "at least 1 and at most 1,000,000"),
    }

    vision_dim: int
    """Size of one patch embedding."""
    text_dim: int
    """Size of one hidden state."""
    grid: tuple[Side, Side]
    """Rows and columns of patches of one picture."""
    answers: int
    """Number of logits: the size of the answer vocabulary, or 1 where a head scores choices."""
    pictures: int = 1
    """Pictures of each question."""
    vision_parts: tuple[Side, ...] = ()
    """Sizes of the parts of a patch embedding, each normalised by itself; none if it has one."""
    text_parts: tuple[Side, ...] = ()
    """Sizes of the parts of a hidden state, likewise."""

    @property
    def patches(self) -> int:
        """Patches of all pictures of a question."""
        return self.pictures * self.grid[0] * self.grid[1]

    def __post_init__(self) -> None:
        for name in ("grid", "vision_parts", "text_parts"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON brings a list
        super().__post_init__()
        for side, whole in (("vision", self.vision_dim), ("text", self.text_dim)):
            parts = getattr(self, f"{side}_parts")
            if parts and (len(parts) > MOST or min(parts) < 1 or sum(parts) != whole):
                raise ConfigError(
                    f"{side}_parts is {parts!s:.60}; at most {MOST} sizes are needed that add "
                    f"up to {side}_dim, which is {whole}"
                )
        if self.width % self.heads:
            raise ConfigError(
                f"width {self.width} cannot be split over {self.heads} heads; "
                f"choose a width that is a multiple of the heads"
            )
