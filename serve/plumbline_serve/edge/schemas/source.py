"""Where an image comes from."""

from typing import Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from plumbline_serve.edge.schemas.request import Strict, exactly_one


class RawShape(Strict):
    """The shape of raw pixels: the part holds `height * width * 3` bytes, RGB uint8, row by row."""

    height: int = Field(ge=1, description="Pixels.")
    width: int = Field(ge=1, description="Pixels.")


class ImageSource(Strict):
    """One image: exactly one of `b64`, `url` and `part`."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["b64"]}, {"required": ["url"]}, {"required": ["part"]}],
            "dependentRequired": {"raw": ["part"]},
        }
    )

    b64: str | None = Field(
        None,
        description="A compressed image file (PNG, JPEG, WebP and others) in base64 (RFC 4648: either alphabet, with "
        "or without padding and line breaks), or a `data:` URL of one.",
    )
    url: str | None = Field(
        None, description="Where to fetch the image from. A service may refuse URLs, except `data:` URLs of base64."
    )
    part: str | None = Field(None, description="multipart/form-data only: the name of the part with the image.")
    raw: RawShape | None = Field(None, description="With `part`: its bytes are pixels and not a compressed file.")

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        exactly_one(b64=self.b64, url=self.url, part=self.part)
        if self.raw is not None and self.part is None:
            raise PydanticCustomError("raw", "may have raw only beside part")
        return self
