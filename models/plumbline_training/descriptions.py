"""What a caption claims, as values; and whether a scene bears it out."""

from dataclasses import dataclass
from itertools import permutations

from numpy.random import Generator

from plumbline_training.scenes import Fill, Group, Relation, Scene, Size, relation_of

NAMED_RELATION, NAMED_BACKDROP, NAMED_COLOUR, NAMED_SIZE = 0.65, 0.6, 0.9, 0.7
NAMED_SINGLY = 0.5  # share of colours that are named where the caption leaves some out
LEFT_OUT = 0.1  # share of captions that pass over one group


@dataclass(frozen=True, slots=True)
class Mention:
    """One group as a caption names it; None means that the caption does not say."""

    count: int
    shape: str
    colour: str | None = None
    fill: Fill | None = None
    size: Size | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What a caption claims: groups in order, how the first two lie to each other, and the background."""

    mentions: tuple[Mention, ...]
    relation: Relation | None = None
    background: str | None = None


def describe(scene: Scene, rng: Generator) -> Description:
    """A true description of a scene, choosing at random what it mentions and in which order."""
    order = [int(k) for k in rng.permutation(len(scene.groups))]
    relation = None
    if _is_pair(scene) and rng.random() < NAMED_RELATION:
        relation = relation_of(scene.things[order[0]], scene.things[order[1]])
    if relation is None and len(order) > 1 and rng.random() < LEFT_OUT:
        order = order[:-1]
    shapes = [group.look.shape for group in scene.groups]
    all_coloured = len(set(shapes)) < len(shapes) or rng.random() < NAMED_COLOUR
    sized = rng.random() < NAMED_SIZE
    mentions = tuple(
        _mention(scene.groups[k], coloured=all_coloured or bool(rng.random() < NAMED_SINGLY), sized=sized)
        for k in order
    )
    named = scene.backdrop.colour is not None and rng.random() < NAMED_BACKDROP
    return Description(mentions, relation, scene.backdrop.colour if named else None)


def holds(description: Description, scene: Scene) -> bool:
    """Whether some assignment of the mentions to different groups makes every claim true."""
    background = description.background
    if background is not None and background != scene.backdrop.colour:
        return False
    places = range(len(scene.groups))
    return any(_fits(description, scene, chosen) for chosen in permutations(places, len(description.mentions)))


def _fits(description: Description, scene: Scene, chosen: tuple[int, ...]) -> bool:
    claims = zip(description.mentions, chosen, strict=True)
    if not all(_agrees(mention, scene.groups[k]) for mention, k in claims):
        return False
    if description.relation is None:
        return True
    first, second = (scene.things[k] for k in chosen[:2])
    return relation_of(first, second) == description.relation


def _agrees(mention: Mention, group: Group) -> bool:
    look = group.look
    return (
        mention.count == group.count
        and mention.shape == look.shape
        and mention.colour in {None, look.colour}
        and mention.fill in {None, look.fill}
        and mention.size in {None, look.size}
    )


def _mention(group: Group, *, coloured: bool, sized: bool) -> Mention:
    look = group.look
    fill = None if look.fill == "solid" else look.fill  # solid goes unmentioned
    size = look.size if sized else None
    return Mention(group.count, look.shape, look.colour if coloured else None, fill, size)


def _is_pair(scene: Scene) -> bool:
    return [group.count for group in scene.groups] == [1, 1]
