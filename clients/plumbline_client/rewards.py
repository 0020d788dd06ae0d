"""One number per image, as trainers and samplers take them."""

import math
import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, overload

from plumbline_client.errors import UsageError
from plumbline_client.images import Image, ImageLike
from plumbline_client.items import Combinations, Item, combinations_of, images_of
from plumbline_client.problems import Problem
from plumbline_client.replies import ScoreReply, ScoreValue
from plumbline_client.requests import ScoreRequest


class Rewards(Sequence[float]):
    """float32 `[N]`, in the order of the images; NaN where there is none, and then `errors` says why.

    `numpy.asarray(rewards)` shares its memory; `list(rewards)` and `torch.tensor(rewards)` copy it.

    Args:
        values: One per image.
        errors: None where there is a value.
    """

    def __init__(self, values: Iterable[float], errors: Iterable[Problem | None]) -> None:
        self.values = array("f", values)
        """float32."""
        self.errors = tuple(errors)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        address, length = self.values.buffer_info()
        order = "<" if sys.byteorder == "little" else ">"
        return {"version": 3, "shape": (length,), "typestr": f"{order}f4", "data": (address, False)}

    @overload
    def __getitem__(self, index: int) -> float: ...

    @overload
    def __getitem__(self, index: slice) -> "array[float]": ...

    def __getitem__(self, index: int | slice) -> "float | array[float]":
        return self.values[index]

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Rewards({self.values.tolist()})"


class RewardsRequest:
    """Images with their prompts, as a request to score them by one scorer or combination.

    Args:
        images: In a list or another iterable, or an array of several.
        prompts: One for all of them, or one for each; None where the scorer takes no text.
        scorer: Or a combination; None: the only combination.
        combine: By the name that `scorer` may give.

    Raises:
        UsageError: There are more or fewer prompts than images, or it is not said what to score by.
    """

    def __init__(
        self,
        images: Iterable[ImageLike],
        prompts: str | Iterable[str] | None,
        *,
        scorer: str | None,
        combine: Combinations | None,
    ) -> None:
        named = combinations_of(combine)
        if scorer is None and len(named) == 1:
            [scorer] = named
        if scorer is None:
            raise UsageError("Rewards are of one scorer or combination: name it with scorer=.")
        if not isinstance(scorer, str):
            raise UsageError(f"A scorer is named by its id; this is one {type(scorer).__name__}.")
        items = _items(images_of(images), prompts)
        self.is_empty = not items
        """Whether there is nothing to ask: no rewards are the answer."""
        names = [term.scorer for term in named[scorer].terms] if scorer in named else [scorer]
        self.scored = ScoreRequest(items, names, combine)
        self._scorer = scorer

    def read(self, reply: ScoreReply | None) -> Rewards:
        """Read the reply; None where nothing was asked."""
        results = () if reply is None else reply.results
        scores = [result.scores.get(self._scorer, ScoreValue(error=result.error)) for result in results]
        values = (math.nan if score.value is None else score.value for score in scores)
        return Rewards(values, (score.error for score in scores))


def _items(images: list[Image], prompts: str | Iterable[str] | None) -> list[Item]:
    if prompts is None or isinstance(prompts, str):
        return [Item(image, prompts) for image in images]
    texts = list(prompts)
    if len(texts) != len(images):
        raise UsageError(f"There are {len(images)} images and {len(texts)} prompts: give one for each, or one for all.")
    return [Item(image, text) for image, text in zip(images, texts, strict=True)]
