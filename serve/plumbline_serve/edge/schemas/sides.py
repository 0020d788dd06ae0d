"""Requests with one kind of thing to choose from: rank and embed."""

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from plumbline_serve.edge.schemas.request import Request, exactly_one
from plumbline_serve.edge.schemas.source import ImageSource

_TEXT_SIDE = frozenset({"text", "images"})
_IMAGE_SIDE = frozenset({"image", "texts"})


class RankRequest(Request):
    """Order N images for one text, or N texts for one image."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["text", "images"]}, {"required": ["image", "texts"]}],
            "examples": [
                {
                    "text": "a red circle",
                    "images": [{"b64": "iVBORw0KGgo…"}, {"b64": "/9j/4AAQSkZJRg…"}],
                    "scorer": "vqascore",
                    "top_k": 1,
                }
            ],
        }
    )

    text: str | None = Field(None, description="With `images`.")
    images: list[ImageSource] | None = Field(None, description="What to order for `text`.")
    image: ImageSource | None = Field(None, description="With `texts`.")
    texts: list[str] | None = Field(None, description="What to order for `image`.")
    scorer: str | None = Field(None, description="By default the first loaded one that takes an image and a text.")
    top_k: int | None = Field(None, ge=1, description="Places to answer; by default all.")

    @model_validator(mode="after")
    def _check_sides(self) -> Self:
        sides = {"text": self.text, "images": self.images, "image": self.image, "texts": self.texts}
        if {name for name, value in sides.items() if value is not None} not in (_TEXT_SIDE, _IMAGE_SIDE):
            raise PydanticCustomError("sides", "must have either text and images, or image and texts")
        return self


class EmbedRequest(Request):
    """Embed images or texts."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["images"]}, {"required": ["texts"]}],
            "examples": [{"texts": ["a red circle", "two blue squares"], "encoding": "base64"}],
        }
    )

    images: list[ImageSource] | None = None
    texts: list[str] | None = None
    scorer: str | None = Field(None, description="Whose encoder; by default the first loaded scorer's that has both.")
    encoding: Literal["float", "base64"] = Field(
        "float", description="Each vector as a list of numbers, or as base64 of little-endian float32."
    )

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        exactly_one(images=self.images, texts=self.texts)
        return self
