"""What every request body has in common."""

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Positive: TypeAlias = Annotated[Finite, Field(gt=0)]


class Strict(BaseModel):
    """No unknown fields, no conversions: 5 is not "5"."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Request(Strict):
    """A request body."""

    timeout_ms: Positive | None = Field(
        None,
        description="Milliseconds, from when the service received the request, after which an answer is of no use: "
        "it is 504 by then. The header `x-request-timeout-seconds` says the same in seconds; the smaller one wins.",
    )


def exactly_one(**choices: Any) -> None:
    """Refuse a body that has none or several of the fields that exclude each other; None stands for not given."""
    if sum(value is not None for value in choices.values()) != 1:
        raise PydanticCustomError("choice", "must have exactly one of {names}", {"names": ", ".join(choices)})
