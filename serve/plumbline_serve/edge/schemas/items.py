"""Requests about items: score and filter."""

from typing import Annotated, Any, Self, TypeAlias

from pydantic import ConfigDict, Discriminator, Field, JsonValue, Tag, model_validator
from pydantic_core import PydanticCustomError

from plumbline_serve.edge.schemas.request import Finite, Request, Strict
from plumbline_serve.edge.schemas.source import ImageSource

MAX_SCORERS = 64  # that a request may name; far more than there are
MAX_WORDS = 2**16  # that a condition may ask of a text; far more than any text within the limits has
_IMAGES = "Images that items name by their key: sent, decoded and encoded once for all items that name them."
_EXAMPLE_IMAGE: dict[str, JsonValue] = {"b64": "iVBORw0KGgo…"}


def _image_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "key"
    return "source" if isinstance(value, dict | ImageSource) else None


ImageRef: TypeAlias = Annotated[
    Annotated[str, Tag("key")] | Annotated[ImageSource, Tag("source")],
    Discriminator(_image_kind, custom_error_type="image", custom_error_message="must be a string or an object"),
]


class Item(Strict):
    """One image, one text, or both."""

    id: str | None = Field(None, description="Comes back in the result; by default the item's index.")
    image: ImageRef | None = Field(None, description="A key of `images`, or a source of its own.")
    text: str | None = Field(None, description="The prompt or caption.")


class _ItemsRequest(Request):
    images: dict[str, ImageSource] = Field(default_factory=dict, description=_IMAGES)
    items: list[Item] = Field(description="At least one; the service's limits say how many.")


class ScoreRequest(_ItemsRequest):
    """Score items in one batch."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "scorers": ["clipscore", "vqascore"],
                    "images": {"a": _EXAMPLE_IMAGE},
                    "items": [
                        {"id": "1", "image": "a", "text": "a red circle"},
                        {"image": {"b64": "/9j/4AAQSkZJRg…"}, "text": "two blue squares"},
                    ],
                    "timeout_ms": 2000,
                }
            ]
        }
    )

    scorers: list[str] | None = Field(
        None, max_length=MAX_SCORERS, description="By default every loaded scorer that an item allows."
    )


class Threshold(Strict):
    """One condition; both bounds are inclusive, at least one is set."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["min"]}, {"required": ["max"]}]})

    scorer: str
    min: Finite | None = None
    max: Finite | None = None
    min_words: int | None = Field(
        None,
        ge=1,
        le=MAX_WORDS,
        description="Fewest words, punctuation apart, of a text that the value is trusted for: an item with fewer is "
        "rejected, and `reasons` says so. A text without words scores fclipscore 0, its best.",
    )

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.min is None and self.max is None:
            raise PydanticCustomError("bounds", "must have min, max or both")
        return self


class Policy(Strict):
    """Thresholds that must all hold."""

    all: list[Threshold] = Field(min_length=1, max_length=MAX_SCORERS)


class FilterRequest(_ItemsRequest):
    """Accept or reject items by a policy."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "policy": {"all": [{"scorer": "qualiclip", "min": 0.4}, {"scorer": "vqascore", "min": 0.6}]},
                    "items": [{"image": _EXAMPLE_IMAGE, "text": "a red circle"}],
                }
            ]
        }
    )

    policy: Policy
    explain: bool = Field(default=False, description="Run every scorer of the policy even on rejected items.")
