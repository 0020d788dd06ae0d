"""Vectors, and the reply that brings them."""

import base64
import sys
from array import array
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field, model_validator
from typing_extensions import Self

from plumbline_client.errors import problem_error
from plumbline_client.problems import Problem, ReplyModel
from plumbline_client.replies.scoring import TimedReply

_FLOAT_BYTES = 4


class Embedding(ReplyModel):
    """One unit-norm vector, or an error in its place."""

    data: bytes = Field(default=b"", repr=False)
    """Little-endian float32: `numpy.frombuffer(embedding.data, "<f4")`."""
    error: Problem | None = None

    def floats(self) -> "array[float]":
        """Return the numbers.

        Raises:
            ProblemError: This input could not be embedded.
        """
        if self.error is not None:
            raise problem_error(self.error)
        numbers = array("f", self.data)
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers


def _read_embedding(value: Any) -> Any:
    """Accept what REST may carry: base64 text, a list of numbers, or an object with an error."""
    if isinstance(value, str):
        return {"data": base64.b64decode(value, validate=True)}
    if isinstance(value, list):
        numbers = array("f", value)
        if sys.byteorder == "big":
            numbers.byteswap()
        return {"data": numbers.tobytes()}
    return value


class EmbedReply(TimedReply):
    """Vectors in the order of the inputs."""

    encoder: str = Field(default="", validation_alias=AliasChoices("encoder", "model"))
    dim: int
    vectors: tuple[Annotated[Embedding, BeforeValidator(_read_embedding)], ...]
    truncated: tuple[int, ...] = ()
    """Texts whose end the encoder did not read, by index, from 0."""
    num_tokens: int = 0
    """Tokens that the encoder read of all texts, those that frame a text among them; 0 for images."""

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        for vector in self.vectors:
            if vector.error is None and len(vector.data) != _FLOAT_BYTES * self.dim:
                raise ValueError("a vector has another length than dim says")
        return self
