"""Content as OpenAI's chat requests have it, for formats that take an image or a text in one place."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from plumbline_serve.edge.compat.core import Body, field_fault, image_of, is_data_image
from plumbline_serve.messages import ImageSource

Content: TypeAlias = str | ImageSource
"""A text, or an image."""


class ImageUrl(Body):
    """Where an image is, or the image itself as a `data:` URL."""

    url: str


class Part(Body):
    """A text or an image."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: ImageUrl | None = None


class Contents(Body):
    """Parts that are one thing together; we take one of them."""

    content: str | Sequence[Part]


def content_of(given: str | Contents, pointer: str) -> Content:
    """The text or the image that stands in one place of a request; a string that begins `data:image` is an image.

    Args:
        given: As it stands there.
        pointer: To it.

    Raises:
        InvalidFieldError: It has no part, or more than one.
    """
    if isinstance(given, Contents):
        if isinstance(given.content, str):
            return content_of(given.content, pointer)
        return part_of(given.content, f"{pointer}/content")
    return image_of(given) if is_data_image(given) else given


def part_of(parts: Sequence[Part], pointer: str) -> Content:
    """The text or the image of parts; see `content_of`.

    Args:
        parts: One.
        pointer: To them.
    """
    if len(parts) != 1:
        raise field_fault(pointer, "must have one part: a text or an image")
    part = parts[0]
    if part.type == "text" and part.text is not None:
        return part.text
    if part.type == "image_url" and part.image_url is not None:
        return image_of(part.image_url.url)
    raise field_fault(f"{pointer}/0", f"must have the member {part.type}")


def as_sent(content: str | Contents) -> Any:
    """What a request had in one place, to be said again in its reply.

    Args:
        content: As it stood there.
    """
    return content if isinstance(content, str) else content.model_dump(exclude_none=True)
