"""Who a request is from, how urgent it is and when its caller goes: what every stage of the request path shares by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from plumbline_serve.scheduling.concurrency import Deadline

Priority: TypeAlias = Literal["interactive", "normal", "batch"]
"""`batch` is refused first where there is more work than time."""
PRIORITIES: tuple[Priority, ...] = ("interactive", "normal", "batch")
"""The most urgent first."""
LANE_WEIGHTS: Mapping[Priority, float] = {"interactive": 16.0, "normal": 4.0, "batch": 1.0}
"""What the work of each gets, of threads and of encoders, while all have some; what one leaves, the others take."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as far as sharing goes."""

    tenant: str = ""
    """The name of the caller's key; empty where the service asks for none. Tenants share by weight."""
    weight: float = 1.0
    """Of the tenant, above 0: one of weight 2 gets twice as much as one of weight 1 while both wait."""
    sees_embeddings: bool = False
    """Whether its key is for vectors as they are, where others get them rounded or not at all."""


ANYONE = Caller()
"""Whoever calls a service that asks for no key."""


@dataclass(frozen=True, slots=True, eq=False)
class RequestContext:
    """One request's claims; it is equal to itself alone, so that what waits can be told apart by request."""

    deadline: Deadline = field(default_factory=Deadline)
    caller: Caller = ANYONE
    priority: Priority = "normal"
    is_deterministic: bool = False
    """Whether each of its inputs is encoded alone, so that no number depends on what else there is to compute."""
