"""What pictures and captions claim, as one vector of yes or no that can be read from either's embedding."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from plumbline_training.descriptions import Description, Mention
from plumbline_training.scenes import COLOURS, FILLS, OPPOSITES, SHAPES, Relation, Scene, relation_of

SIZES = ("small", "large")
COUNTS = (1, 2, 3, 4)
SIDES: tuple[Relation, ...] = tuple(OPPOSITES)
"""An object is left of, right of, above or below the other one."""

Claim = tuple[str, str | int, str]


def _all_claims() -> Iterator[Claim]:
    for name, values in (("count", COUNTS), ("fill", FILLS), ("size", SIZES), ("side", SIDES)):
        for value in values:
            for look in (*COLOURS, *SHAPES):
                yield (name, value, look)
    for colour in COLOURS:
        yield ("background", colour, "")
        for shape in SHAPES:
            yield ("colour", colour, shape)


PLACES: dict[Claim, int] = {claim: place for place, claim in enumerate(_all_claims())}
NUM_CLAIMS = len(PLACES)


def claims_of(description: Description) -> NDArray[np.float32]:
    """`[NUM_CLAIMS]`: 1 for each thing that a caption says."""
    claims = np.zeros(NUM_CLAIMS, dtype=np.float32)
    said = [claim for mention in description.mentions for claim in _of_mention(mention)]
    if description.relation is not None:
        first, second = description.mentions[:2]
        said += _each(first, "side", description.relation)
        said += _each(second, "side", OPPOSITES[description.relation])
    if description.background is not None:
        said.append(("background", description.background, ""))
    claims[[PLACES[claim] for claim in said]] = 1
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


def _of_mention(mention: Mention) -> list[Claim]:
    claims = [*_each(mention, "count", mention.count), *_each(mention, "fill", mention.fill or "solid")]
    if mention.size is not None:
        claims += _each(mention, "size", mention.size)
    if mention.colour is not None:
        claims.append(("colour", mention.colour, mention.shape))
    return claims


def _each(mention: Mention, name: str, value: str | int) -> list[Claim]:
    """The claim of the mentioned shape and, where it is named, of the mentioned colour."""
    return [(name, value, look) for look in (mention.shape, mention.colour) if look is not None]
