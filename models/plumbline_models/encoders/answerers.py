"""Question-answering networks by family: each gives an image encoder and a pair encoder that belong together.

A further family is one function here and its encoders beside it: the image encoder's row is whatever the pair encoder
needs of an image, and a pair's row is an `AnswerLikelihood`. Scorers see nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from plumbline_models.checkpoints.flant5 import FlanT5Checkpoint
from plumbline_models.core.protocols import Encoder, Workshop
from plumbline_models.encoders.flant5_image import FlanT5ImageEncoder
from plumbline_models.encoders.flant5_pair import FlanT5PairEncoder
from plumbline_models.text.questions import Asking

Family: TypeAlias = Literal["clip-flant5"]


@dataclass(frozen=True, slots=True)
class AnswererSpec:
    """Which network, and what it is asked.

    Args:
        name: A folder, or a hub name.
        asking: The question and the answer.
        aspect: What becomes of images that are not square; None: what the checkpoint says.
        tokenizer: Folder or hub name, where it is not the checkpoint's.
        vision_tower: Folder or hub name, where it is not the checkpoint's.
    """

    name: str
    asking: Asking
    aspect: Literal["pad", "square"] | None = None
    tokenizer: str | None = None
    vision_tower: str | None = None


@dataclass(frozen=True, slots=True)
class Answerer:
    """Two encoders that belong together."""

    image: Encoder
    pair: Encoder


def _open_flant5(spec: AnswererSpec, workshop: Workshop) -> Answerer:
    checkpoint = FlanT5Checkpoint(spec.name, tokenizer=spec.tokenizer, vision_tower=spec.vision_tower)
    image = FlanT5ImageEncoder(checkpoint, workshop.backend, aspect=spec.aspect)
    pair = FlanT5PairEncoder(checkpoint, workshop.backend, asking=spec.asking)
    return Answerer(image=workshop.shelf.take(image), pair=workshop.shelf.take(pair))


FAMILIES: Final[Mapping[Family, Callable[[AnswererSpec, Workshop], Answerer]]] = MappingProxyType(
    {"clip-flant5": _open_flant5}
)
