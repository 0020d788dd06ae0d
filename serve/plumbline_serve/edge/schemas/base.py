"""What the bodies of all requests share."""

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

from plumbline_serve.edge.values import Timeout
from plumbline_serve.scheduling.request_context import Priority


class Strict(BaseModel):
    """No unknown fields, no conversions: 5 is not "5"."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def given(*names: str, without: tuple[str, ...] = ()) -> dict[str, JsonValue]:
    """A schema of objects with these members and without those; one that is null is not given.

    Args:
        names: Members that it has.
        without: Members that it has not.
    """
    present: dict[str, JsonValue] = {name: {"not": {"type": "null"}} for name in names}
    absent: dict[str, JsonValue] = {name: {"type": "null"} for name in without}
    return {"required": list(names), "properties": present | absent}


class Request(Strict):
    """A request body."""

    timeout_ms: Timeout | None = Field(
        None,
        description="Milliseconds, from when the service received the request, after which an answer is of no use: "
        "it is 504 by then. The header `x-request-timeout-seconds` says the same in seconds; the smaller one wins.",
    )
    priority: Priority = Field(
        "normal",
        description="How urgent the request is among those that wait. `batch` is refused first where there is more "
        "work than time.",
    )
    deterministic: bool = Field(
        default=False,
        description="Whether every number is to be the same, bit for bit, whatever else the service computes at the "
        "time or has kept. Each input is then encoded alone, which takes longer.",
    )


def refuse(fault: str | None) -> None:
    """Refuse a value for a fault; None: there is none."""
    if fault is not None:
        raise PydanticCustomError("fault", "{fault}", {"fault": fault})
