"""What callers pass, read at once: any iterable is gone through once, a retry sends what it held again."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Literal, TypeAlias, TypeVar, get_args

from typing_extensions import Never

from plumbline_client.errors import UsageError
from plumbline_client.images import Image, ImageLike, image_of, images_within

T = TypeVar("T")
_ALSO_CALLED = {"prompt": "text", "caption": "text", "picture": "image", "path": "image"}
"""What others call the fields of an item."""


@dataclass(frozen=True, slots=True)
class Question:
    """A yes-or-no question about an image."""

    text: str
    expect: Literal["yes", "no"] = "yes"
    """The right answer."""
    tag: str | None = None
    """What kind of question it is; questions of one tag get one rate."""
    depends_on: Sequence[int] = ()
    """Questions of the same item by index, from 0: where one of them fails, this one counts as 0."""


@dataclass(frozen=True, slots=True, init=False)
class Item:
    """One image, one text, or both.

    Args:
        image: An `Image`, or what is one without doubt: a `pathlib.Path`, the bytes of a file, a Pillow image, an
            array `[height, width, 3]` of uint8. A str is none: it could be a path, an address or a text.
        text: What the image should show.
        id: Comes back in the result; None: the item's index, as a string.
        references: Captions that the text is compared with: `refclipscore`.
        reference_image: What the image is compared with: `image_similarity`.
        phrases: Parts of the text that are held against the image too: `phrase_clipscore`.
        questions: What is asked about the image, each a `Question` or a str whose right answer is yes: `questions`.
        frames: Of a video, in its order, in place of the image; at most 64.
        pool: How the values of frames become one: their `mean`; `min`, that of the worst frame; or `clip4clip`, that of
            the frames' mean encoding where a scorer compares encodings, and the mean elsewhere.
        group: The class that a calibration with groups has a threshold for.
    """

    image: Image | None
    text: str | None
    id: str | None
    references: tuple[str, ...]
    reference_image: Image | None
    phrases: tuple[str, ...]
    questions: tuple[Question, ...]
    frames: tuple[Image, ...]
    pool: Literal["mean", "min", "clip4clip"]
    group: str | None

    def __init__(
        self,
        image: ImageLike | None = None,
        text: str | None = None,
        id: str | None = None,  # noqa: A002 - the wire's word
        *,
        references: Iterable[str] = (),
        reference_image: ImageLike | None = None,
        phrases: Iterable[str] = (),
        questions: Iterable[Question | str] = (),
        frames: Iterable[ImageLike] = (),
        pool: Literal["mean", "min", "clip4clip"] = "mean",
        group: str | None = None,
        **unknown: Never,
    ) -> None:
        if unknown:
            raise UsageError(_unknown(next(iter(unknown))))
        for name, value in (("text", text), ("id", id), ("group", group)):
            if value is not None and not isinstance(value, str):
                raise UsageError(f"The {name} of an item must be a str; this is {_kind(value)}.")
        object.__setattr__(self, "image", None if image is None else image_of(image))
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "id", id)
        object.__setattr__(self, "group", group)
        object.__setattr__(self, "references", _texts(references, "The references of an item"))
        object.__setattr__(self, "reference_image", None if reference_image is None else image_of(reference_image))
        object.__setattr__(self, "phrases", _texts(phrases, "The phrases of an item"))
        object.__setattr__(self, "frames", tuple(image_of(each) for each in _each(frames, "The frames of an item")))
        object.__setattr__(self, "pool", pool)
        object.__setattr__(self, "questions", tuple(map(_question, _each(questions, "The questions of an item"))))


ItemLike: TypeAlias = Item | tuple[ImageLike | None, str | None] | ImageLike
"""An item, an image with its text, or an image alone."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """One condition of a filter: bounds, both inclusive, or a calibration in their place."""

    scorer: str
    """Or a combination: of the call, or that which the calibration was made of."""
    min: float | None = None
    max: float | None = None
    min_words: int | None = None
    """Fewest words of a text that the value is trusted for; an item with fewer is rejected, and `reasons` says so."""
    calibration: str | None = None
    """One of this scorer, by name (`calibrate`): its threshold must be met."""


@dataclass(frozen=True, slots=True)
class Term:
    """One score of a combination."""

    scorer: str
    weight: float | None = None
    """None: 1."""
    min: float | None = None
    """The value that counts as 0, as do those below; given with `max`. Without them the value counts as it is."""
    max: float | None = None
    """The value that counts as 1, as do those above. Where lower is better the two change places."""


@dataclass(frozen=True, slots=True, init=False)
class Combination:
    """Several scores as one, higher is better; an error where one of them is.

    Args:
        method: `sum` of weight times value, or weighted `harmonic` mean, which one low value sinks: each term needs
            bounds.
        terms: At least one.
    """

    method: Literal["sum", "harmonic"]
    terms: tuple[Term, ...]

    def __init__(self, method: Literal["sum", "harmonic"], terms: Iterable[Term]) -> None:
        given = tuple(_each(terms, "The terms of a combination"))
        for each in given:
            if not isinstance(each, Term):
                raise UsageError(f"A combination is made of Term; this holds {_kind(each)}.")
        if method not in get_args(Combination.__annotations__["method"]):
            raise UsageError(f"A combination is a sum or harmonic; this is {method!r}.")
        object.__setattr__(self, "method", method)
        object.__setattr__(self, "terms", given)


Combinations: TypeAlias = Mapping[str, Combination]
"""By the name that each has among the scores."""


def combinations_of(combine: Combinations | None) -> dict[str, Combination]:
    """Read the combinations of a request.

    Raises:
        UsageError: They are none.
    """
    if combine is None:
        return {}
    if not isinstance(combine, Mapping) or not all(isinstance(each, Combination) for each in combine.values()):
        raise UsageError('Combinations have names: {"reward": Combination("sum", [Term("clipscore")])}.')
    return dict(combine)


def items_of(items: Iterable[ItemLike]) -> tuple[Item, ...]:
    """Read the items of a request.

    Raises:
        UsageError: They are not items.
    """
    return tuple(_item(each) for each in _each(items, "Items"))


def scorers_of(scorers: Iterable[str] | None) -> list[str] | None:
    """Read the scorers that a request names.

    Raises:
        UsageError: They are not ids.
    """
    if scorers is None:
        return None
    named = list(_each(scorers, "Scorers"))
    if not all(isinstance(each, str) for each in named):
        raise UsageError('Scorers are named by their ids: ["clipscore"].')
    return named


def policy_of(policy: Iterable[Threshold]) -> tuple[Threshold, ...]:
    """Read the conditions of a filter.

    Raises:
        UsageError: They are not thresholds.
    """
    thresholds = tuple(_each(policy, "The thresholds of a policy"))
    for each in thresholds:
        if not isinstance(each, Threshold):
            raise UsageError(f"A policy is a list of Threshold; this holds {_kind(each)}.")
    return thresholds


def texts_or_images_of(inputs: Iterable[str] | Iterable[ImageLike]) -> list[str] | list[Image]:
    """Read inputs that are either all texts or all images.

    Raises:
        UsageError: They are both, or neither.
    """
    if (several := images_within(inputs)) is not None:
        return several
    given: list[str | ImageLike] = list(_each(inputs, "Inputs"))
    texts = [each for each in given if isinstance(each, str)]
    if len(texts) == len(given):
        return texts
    if texts:
        raise UsageError("Inputs are either all texts or all images; these are both.")
    return [image_of(each) for each in given if not isinstance(each, str)]


def texts_of(texts: Iterable[str]) -> list[str]:
    """Read texts.

    Raises:
        UsageError: One is none.
    """
    return list(_texts(texts, "The texts for an image"))


def images_of(images: Iterable[ImageLike]) -> list[Image]:
    """Read images.

    Raises:
        UsageError: One is none.
    """
    several = images_within(images)
    return [image_of(each) for each in _each(images, "Images")] if several is None else several


def _unknown(name: str) -> str:
    known = {each.name: each.name for each in fields(Item)}
    near = get_close_matches(name, known | _ALSO_CALLED, n=1)
    hint = f": did you mean {(known | _ALSO_CALLED)[near[0]]}?" if near else f"; it has {', '.join(known)}."
    return f"An item has no {name}{hint}"


def _item(given: ItemLike) -> Item:
    if isinstance(given, Item):
        return given
    if isinstance(given, tuple):
        if len(given) != 2:  # noqa: PLR2004 - an image and its text
            raise UsageError("An item that is a tuple holds an image and its text.")
        return Item(*given)
    if isinstance(given, str):
        raise UsageError("A str is no item: Item(text=…) is a text, a pathlib.Path the image of a file.")
    return Item(given)


def _question(given: Question | str) -> Question:
    if isinstance(given, str):
        return Question(given)
    if not isinstance(given, Question):
        raise UsageError(f"The questions of an item are Question or str; this is {_kind(given)}.")
    return given


def _texts(given: Iterable[str], what: str) -> tuple[str, ...]:
    texts = tuple(_each(given, what))
    for each in texts:
        if not isinstance(each, str):
            raise UsageError(f"{what} are str; this is {_kind(each)}.")
    return texts


def _each(given: Iterable[T], what: str) -> Iterator[T]:
    if isinstance(given, str | bytes | bytearray | Mapping):
        raise UsageError(f"{what} come in a list; this is {_kind(given)}.")
    try:
        return iter(given)
    except TypeError:
        raise UsageError(f"{what} come in a list or another iterable; {_kind(given)} is none.") from None


def _kind(given: object) -> str:
    return f"one {type(given).__name__}"
