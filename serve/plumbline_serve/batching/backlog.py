"""How much work is ahead of a request, by the order in which it is done (`input_queue`), in time that does not grow.

Work is counted in cost, by lane, by tenant and by size of request. Two members of a level that wait at the same time
are served by their weights: until one has had the cost `c`, another of weight `w` has had no more than `c * w` over its
own weight, and no more than it has.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from plumbline_serve.scheduling.request_context import LANE_WEIGHTS, Caller, Priority, RequestContext

NUM_SIZES = 12
"""Classes of sizes, each twice the one before: the last begins at a cost of 1024."""
NOTHING: Mapping[Priority, float] = {}


def size_class(cost: float) -> int:
    """The class of a request's size: 0 up to a cost of 1, and one more each time that it doubles."""
    return 0 if cost <= 1.0 else min(NUM_SIZES - 1, math.ceil(math.log2(cost)))


@dataclass(slots=True)
class TenantLoad:
    """What one tenant has waiting in a lane."""

    weight: float
    cost: float = 0.0
    num: int = 0
    """Requests."""
    nums: list[int] = field(default_factory=lambda: [0] * NUM_SIZES)
    """Requests by class of size."""
    costs: list[float] = field(default_factory=lambda: [0.0] * NUM_SIZES)
    """What is left of them, by class of size."""

    def ahead(self, cost: float) -> float:
        """What is done before a new request of that size: larger ones give way, but for as much as it has itself."""
        next_size = size_class(cost) + 1
        larger = sum(self.costs[next_size:])
        return sum(self.costs[:next_size]) + min(larger, cost * sum(self.nums[next_size:]))


@dataclass(slots=True)
class LaneLoad:
    """What waits in one lane."""

    weight: float
    cost: float = 0.0
    tenants_weight: float = 0.0
    """Of those that have something waiting."""
    tenants: dict[str, TenantLoad] = field(default_factory=dict)


class Backlog:
    """What waits, or is known to come; it may be sent to another process."""

    def __init__(self) -> None:
        self._lanes: dict[Priority, LaneLoad] = {
            priority: LaneLoad(weight) for priority, weight in LANE_WEIGHTS.items()
        }

    @property
    def cost(self) -> float:
        """Of all of it."""
        return sum(lane.cost for lane in self._lanes.values())

    def until(
        self, context: RequestContext, cost: float, *, is_new: bool = False, coming: Mapping[Priority, float] = NOTHING
    ) -> float:
        """What is done in all until a request's tenant has had so much in the request's lane.

        Args:
            context: The request's.
            cost: What the tenant has to be given.
            is_new: Whether that is a new request, behind what the tenant has waiting.
            coming: What further work comes all the while, by lane, as a part of what the encoder can do.
        """
        own, caller = self._lanes[context.priority], context.caller
        others, weights = own.cost, own.tenants_weight
        if (tenant := own.tenants.get(caller.tenant)) is not None:
            others, weights = others - tenant.cost, weights - tenant.weight
            cost += tenant.ahead(cost) if is_new else 0.0
        in_lane = cost + max(0.0, min(others, cost * weights / caller.weight))
        waits, comes, most = 0.0, 0.0, 0.0  # in the other lanes
        for name, lane in self._lanes.items():
            if lane is not own:
                in_turn = in_lane * lane.weight / own.weight
                waits += min(lane.cost, in_turn)
                comes += coming.get(name, 0.0)
                most += in_turn
        left = 1.0 - comes
        return min(in_lane + most, (in_lane + waits) / left) if left > 0.0 else in_lane + most

    def change(self, context: RequestContext, size: int, *, cost: float, num: int = 0) -> None:
        """Count more of a request, or less.

        Args:
            context: The request's.
            size: Its class.
            cost: What has been added; negative: taken.
            num: 1 where nothing of it waited before, -1 where nothing does any more.
        """
        lane = self._lanes[context.priority]
        tenant = _tenant(lane, context.caller)
        tenant.num += num
        tenant.nums[size] += num
        change = cost if tenant.nums[size] else -tenant.costs[size]  # sums of fractions do not come back to 0
        tenant.costs[size] += change
        tenant.cost += change
        lane.cost += change
        if not tenant.num:
            del lane.tenants[context.caller.tenant]
            lane.tenants_weight -= tenant.weight
        if not lane.tenants:
            lane.cost = lane.tenants_weight = 0.0


def _tenant(lane: LaneLoad, caller: Caller) -> TenantLoad:
    tenant = lane.tenants.get(caller.tenant)
    if tenant is None:
        tenant = lane.tenants[caller.tenant] = TenantLoad(caller.weight)
        lane.tenants_weight += caller.weight
    return tenant
