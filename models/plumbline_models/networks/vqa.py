"""Question-answering networks by family: each gives an image encoder and a pair encoder that belong together.

A further family is one function here and a folder with its encoders: an image's encoding is whatever the pair encoder
needs of it, and a pair's encoding is an `AnswerLikelihood`. Scorers see nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Final

from plumbline_models.core.errors import ConfigError
from plumbline_models.core.protocols import BuildContext, Encoder
from plumbline_models.networks.causal.checkpoint import CausalCheckpoint, PixelOverrides
from plumbline_models.networks.causal.engines import open_causal_backend
from plumbline_models.networks.causal.families import ANSWER_CONVENTIONS, CAUSAL_FAMILIES, CausalFamily
from plumbline_models.networks.causal.image_encoder import CausalImageEncoder
from plumbline_models.networks.causal.pair_encoder import CausalPairEncoder
from plumbline_models.networks.flant5.checkpoint import FlanT5Checkpoint
from plumbline_models.networks.flant5.image_encoder import Aspect, FlanT5ImageEncoder
from plumbline_models.networks.flant5.pair_encoder import FlanT5PairEncoder
from plumbline_models.networks.vqa_family import Family
from plumbline_models.text.questions import DEFAULT_ANSWER, DEFAULT_QUESTION, SLOT, QuestionTemplate


@dataclass(frozen=True, slots=True)
class VqaSpec:
    """Which network, and which question it answers.

    Args:
        name: A folder, or a hub name.
        template: The question and the answer.
        aspect: What becomes of images that are not square; None: what the checkpoint says.
        tokenizer: Folder or hub name, where it is not the checkpoint's.
        vision_tower: Folder or hub name, where it is not the checkpoint's.
    """

    name: str
    template: QuestionTemplate
    aspect: Aspect | None = None
    tokenizer: str | None = None
    vision_tower: str | None = None
    pixels: PixelOverrides = field(default_factory=PixelOverrides)
    """What of a causal checkpoint's treatment of images is overridden."""
    repetition_penalty: float = 1.0
    """As the public program's generation applies it, for causal families."""


@dataclass(frozen=True, slots=True)
class VqaEncoders:
    """Two encoders that belong together."""

    image: Encoder
    pair: Encoder


@dataclass(frozen=True, slots=True)
class FamilyEntry:
    """One family: how it is opened, and its question and answer where no others are configured."""

    open: Callable[[VqaSpec, BuildContext], VqaEncoders]
    question: str
    answer: str
    value: str
    """What the score is, in words."""

    @property
    def prompt(self) -> str:
        """Around a question of the caller's own: what ends the family's question ends it as well."""
        return f"{SLOT} {self.question.partition('? ')[2]}"


def _open_flant5(spec: VqaSpec, context: BuildContext) -> VqaEncoders:
    if spec.pixels != PixelOverrides() or spec.repetition_penalty != 1.0:
        raise ConfigError("The family clip-flant5 takes neither max_pixels, nor tiles, nor repetition_penalty.")
    checkpoint = FlanT5Checkpoint(spec.name, tokenizer=spec.tokenizer, vision_tower=spec.vision_tower)
    image = FlanT5ImageEncoder(checkpoint, context.backend, aspect=spec.aspect)
    pair = FlanT5PairEncoder(checkpoint, context.backend, template=spec.template, aspect=spec.aspect)
    return VqaEncoders(image=context.registry.take(image), pair=context.registry.take(pair))


def _open_causal(family: CausalFamily, spec: VqaSpec, context: BuildContext) -> VqaEncoders:
    if spec.aspect is not None or spec.vision_tower is not None:
        raise ConfigError(f"The family {family.name} takes neither image_aspect_ratio nor vision_tower.")
    checkpoint = CausalCheckpoint(spec.name, family, tokenizer=spec.tokenizer, overrides=spec.pixels)
    open_backend = partial(open_causal_backend, context)
    image = CausalImageEncoder(checkpoint, open_backend)
    pair = CausalPairEncoder(
        checkpoint, open_backend, template=spec.template, repetition_penalty=spec.repetition_penalty
    )
    return VqaEncoders(image=context.registry.take(image), pair=context.registry.take(pair))


FAMILIES: Final[Mapping[Family, FamilyEntry]] = MappingProxyType(
    {
        "clip-flant5": FamilyEntry(_open_flant5, DEFAULT_QUESTION, DEFAULT_ANSWER, ANSWER_CONVENTIONS["all_tokens"]),
        **{
            name: FamilyEntry(
                partial(_open_causal, family), family.question, family.answer, ANSWER_CONVENTIONS[family.conventions]
            )
            for name, family in CAUSAL_FAMILIES.items()
        },
    }
)
