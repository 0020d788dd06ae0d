"""The section `groups` of the settings: which encoders share a deployment, and what each deployment is given."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from plumbline_serve.settings.access import Section

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")
_MAX_NAME = 32
MAX_PER_NODE = 100
"""What Ray Serve takes at most."""


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise ValueError(
            f"not a name of at most {_MAX_NAME} lower-case letters and digits, parted by single hyphens or underscores"
        )
    return name


def _checked_gpus(gpus: float) -> float:
    if gpus > 1 and not gpus.is_integer():
        raise ValueError("Ray gives a part of one GPU, or whole ones")
    return gpus


GroupName = Annotated[str, AfterValidator(_checked_name)]
Gpus = Annotated[float, AfterValidator(_checked_gpus), Field(ge=0)]


class AutoscaleSettings(Section):
    """How many replicas a group has, by what waits for its encoders."""

    min: int = Field(default=1, ge=0)
    """Replicas at least. 0: none while nothing is asked of them; the first request starts one, and gets 503 until it is
    there."""
    max: int = Field(ge=1)
    """Replicas at most."""
    target_queue_s: float = Field(default=0.2, gt=0)
    """Seconds of work that a replica should have before it, what it computes included. More adds replicas, less takes
    them away."""
    up_after_s: float = Field(default=10.0, ge=0)
    """Seconds that more replicas must have been wanted before they are added. From 0 replicas it takes none."""
    down_after_s: float = Field(default=300.0, ge=0)
    """Seconds that fewer replicas must have been enough before they are taken away."""

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.max < self.min:
            raise ValueError("max is less than min")
        return self


class PlacementSettings(Section):
    """On which nodes of a cluster replicas may run."""

    labels: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """Labels that a node must have, as Ray knows them: `{ray.io/accelerator-type: H100}`."""
    resources: dict[str, Annotated[float, Field(gt=0)]] = {}  # noqa: RUF012 - pydantic copies it
    """Resources of your own that each replica reserves, as nodes were started with."""
    max_per_node: int | None = Field(default=None, ge=1, le=MAX_PER_NODE)
    """Replicas of the group on one node at most. Default: as many as there is room for."""


class GroupSettings(Section):
    """Encoder groups of the split layout, by name. Each is one deployment that holds the encoders of its scorers.

    An encoder that scorers of several groups need is in the first of these groups. Without this section one group,
    `encoders`, holds all of them, as `replicas` says.
    """

    scorers: tuple[str, ...] = Field(min_length=1)
    """Scorers whose encoders the group holds. Every scorer is in one group."""
    replicas: int = Field(default=1, ge=1)
    """Replicas of the group, where `autoscale` says nothing."""
    autoscale: AutoscaleSettings | None = None
    """How replicas come and go by themselves. Default: they do not."""
    cpus: float = Field(default=1.0, ge=0)
    """CPUs that Ray reserves per replica. Rounded up, threads per engine too, unless `replicas.compute_threads` is set
    or this is 0."""
    gpus: Gpus = 0.0
    """GPUs that Ray reserves per replica: a part of one, or whole ones."""
    max_ongoing: int = Field(default=1152, ge=1)
    """Calls that a replica takes at a time. Further ones wait in the gateways."""
    placement: PlacementSettings = PlacementSettings()
    """On which nodes replicas may run."""

    @model_validator(mode="after")
    def _has_one_number_of_replicas(self) -> Self:
        if self.autoscale is not None and "replicas" in self.model_fields_set:
            raise ValueError("replicas and autoscale exclude each other")
        return self

    @property
    def first_replicas(self) -> int:
        """Replicas that are started at first: one at least, which says what the group holds."""
        return self.replicas if self.autoscale is None else max(1, self.autoscale.min)

    @property
    def num_threads(self) -> int | None:
        """Threads per engine by what is reserved; None: nothing is."""
        return math.ceil(self.cpus) or None


def faults(groups: Mapping[str, GroupSettings], scorers: Iterable[str]) -> Iterator[str]:
    """What is wrong with who is in which group.

    Args:
        groups: By name.
        scorers: All that are configured.
    """
    holders: dict[str, list[str]] = {name: [] for name in scorers}
    for name, group in groups.items():
        for scorer in group.scorers:
            if scorer not in holders:
                yield f"groups.{name} names {scorer}, which is not among the scorers"
            else:
                holders[scorer].append(name)
    for scorer, found in holders.items():
        if not found:
            yield f"no group names {scorer}"
        elif len(found) > 1:
            yield f"{scorer} is named by {' and by '.join(found)}"
