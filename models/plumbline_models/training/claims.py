"""What pictures and captions claim, as one vector of yes or no that can be read from either's embedding."""

from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from plumbline_models.training.descriptions import Description, Mention
from plumbline_models.training.scenes import (
    COLOURS,
    FILLS,
    OPPOSITES,
    PALETTE,
    SHAPES,
    Relation,
    Scene,
    relation_of,
)

RELATIONS: tuple[Relation, ...] = tuple(OPPOSITES)
SIZES = ("small", "large")
MAX_COUNT = 4
NUM_SHAPES = len(SHAPES)
BLOCKS = {
    "colour": len(COLOURS) * NUM_SHAPES,
    "fill": len(FILLS) * NUM_SHAPES,
    "count": MAX_COUNT * NUM_SHAPES,
    "size": len(SIZES) * NUM_SHAPES,
    "relation": len(RELATIONS) * NUM_SHAPES * NUM_SHAPES,
    "background": len(PALETTE),
}
OFFSETS: dict[str, int] = dict(zip(BLOCKS, accumulate(BLOCKS.values(), initial=0), strict=False))
NUM_CLAIMS = sum(BLOCKS.values())


def claims_of(description: Description) -> NDArray[np.float32]:
    """`[NUM_CLAIMS]`: 1 for each thing that a caption says."""
    claims = np.zeros(NUM_CLAIMS, dtype=np.float32)
    for mention in description.mentions:
        claims[_places(mention)] = 1
    if description.relation is not None:
        first, second = description.mentions[:2]
        claims[_relation_place(first.shape, description.relation, second.shape)] = 1
        claims[_relation_place(second.shape, OPPOSITES[description.relation], first.shape)] = 1
    if description.background is not None:
        claims[OFFSETS["background"] + COLOURS.index(description.background)] = 1
    return claims


def truths_of(scene: Scene) -> NDArray[np.float32]:
    """`[NUM_CLAIMS]`: 1 for each thing that is so in a scene."""
    looks = [group.look for group in scene.groups]
    mentions = tuple(
        Mention(group.count, look.shape, look.colour, look.fill, look.size)
        for look, group in zip(looks, scene.groups, strict=True)
    )
    is_pair = [group.count for group in scene.groups] == [1, 1]
    relation = relation_of(*scene.things) if is_pair else None
    return claims_of(Description(mentions, relation, scene.backdrop.colour))


def _places(mention: Mention) -> list[int]:
    shape = SHAPES.index(mention.shape)
    places = [
        OFFSETS["count"] + (mention.count - 1) * NUM_SHAPES + shape,
        OFFSETS["fill"] + FILLS.index(mention.fill or "solid") * NUM_SHAPES + shape,
    ]
    if mention.colour is not None:
        places.append(OFFSETS["colour"] + COLOURS.index(mention.colour) * NUM_SHAPES + shape)
    if mention.size is not None:
        places.append(OFFSETS["size"] + SIZES.index(mention.size) * NUM_SHAPES + shape)
    return places


def _relation_place(first: str, relation: Relation, second: str) -> int:
    row = RELATIONS.index(relation) * NUM_SHAPES + SHAPES.index(first)
    return OFFSETS["relation"] + row * NUM_SHAPES + SHAPES.index(second)
