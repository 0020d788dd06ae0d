"""What must hold of a request before any work is done; the same sentences for every protocol."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plumbline_models.core.errors import (
    InvalidFieldError,
    MissingImageError,
    MissingTextError,
    NoItemsError,
    PlumblineError,
    TextTooLongError,
    TooManyItemsError,
    UnknownImageError,
    UnknownScorerError,
)
from plumbline_models.core.protocols import Scorer
from plumbline_serve.messages import ImageSource, Item
from plumbline_serve.settings import Limits

_HALF = re.compile(r"[\ud800-\udfff]")  # of an emoji that was cut in two, say


@dataclass(frozen=True, slots=True)
class Case:
    """An item with its image looked up, or with the reason why it cannot be scored."""

    id: str
    image: ImageSource | None
    text: str | None
    error: PlumblineError | None = None

    def lacks(self, scorer: Scorer) -> PlumblineError | None:
        """What the scorer would need and the item does not have."""
        if "image" in scorer.info.needs and self.image is None:
            return MissingImageError(f"{scorer.info.name} needs an image.", scorer=scorer.info.name)
        if "text" in scorer.info.needs and self.text is None:
            return MissingTextError(f"{scorer.info.name} needs a text.", scorer=scorer.info.name)
        return None


class Checks:
    """The limits and the loaded scorers, which every request is checked against.

    Args:
        limits: Of the settings.
        scorers: By name.
    """

    def __init__(self, limits: Limits, scorers: Mapping[str, Scorer]) -> None:
        self._limits = limits
        self._scorers = scorers

    def cases(self, items: Sequence[Item], images: Mapping[str, ImageSource]) -> list[Case]:
        """Look up every item's image and check its text.

        Args:
            items: As the caller sent them.
            images: The request's table of images, by key.

        Raises:
            NoItemsError: There are none.
            TooManyItemsError: There are more than allowed.
        """
        self.count(len(items))
        return [self._case(item, images) for item in items]

    def count(self, num_items: int) -> None:
        """Check the number of items; raises as `cases` does."""
        if num_items == 0:
            raise NoItemsError("The request has no items.")
        if num_items > self._limits.max_items:
            raise TooManyItemsError(
                f"The request has {num_items} items; at most {self._limits.max_items} are allowed.",
                num_items=num_items,
            )

    def text(self, text: str) -> PlumblineError | None:
        """What is wrong with one text."""
        if not text.isascii() and _HALF.search(text):
            return InvalidFieldError("The text holds half of a surrogate pair, which is no character.")
        if len(text) > self._limits.max_text_chars:
            return TextTooLongError(
                f"The text has {len(text)} characters; at most {self._limits.max_text_chars} are allowed.",
                num_chars=len(text),
            )
        return None

    def scorer(self, name: str, pointer: str) -> Scorer:
        """The loaded scorer of that name.

        Args:
            name: As the caller sent it.
            pointer: To the field that holds it.

        Raises:
            UnknownScorerError: There is none; the error points at the field.
        """
        if scorer := self._scorers.get(name):
            return scorer
        known = ", ".join(self._scorers) or "none"
        raise UnknownScorerError(
            f"There is no scorer {name[:64]!r} here; loaded: {known}.",
            errors=[{"pointer": pointer, "detail": "not loaded"}],
        )

    def scorers(self, names: Sequence[str] | None) -> list[Scorer] | None:
        """The scorers of those names, each once; None where the caller left the choice.

        Raises:
            UnknownScorerError: One of them is not loaded.
            InvalidFieldError: The list is there but empty.
        """
        if names is None:
            return None
        if not names:
            raise InvalidFieldError(
                "The list of scorers is empty.",
                errors=[{"pointer": "/scorers", "detail": "must not be empty"}],
            )
        return list({name: self.scorer(name, f"/scorers/{i}") for i, name in enumerate(names)}.values())

    def _case(self, item: Item, images: Mapping[str, ImageSource]) -> Case:
        image = images.get(item.image) if isinstance(item.image, str) else item.image
        if isinstance(item.image, str) and image is None:
            unknown = UnknownImageError(f"The request carries no image {item.image[:64]!r}.")
            return Case(item.id, None, item.text, unknown)
        return Case(item.id, image, item.text, self.text(item.text) if item.text is not None else None)
