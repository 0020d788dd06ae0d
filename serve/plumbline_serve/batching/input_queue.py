"""What waits for an encoder, and whose turn it is.

Lanes by priority share the encoder by their weights, a lane's tenants by the weights of theirs: whoever has had least
for its weight is next. Who comes back after a pause starts level with those that wait, without a claim to what it left.

A tenant's requests go in the order in which they would be done if all of them were served side by side. So a small one
passes a large one, equal ones keep the order in which they came, and a large one moves up while others are served and
cannot starve. A request has its place from when it is announced, while its images are still being decoded.
"""

import asyncio
import bisect
import itertools
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

from plumbline_models.core.errors import PlumblineError
from plumbline_models.core.protocols import Encoding, Preprocessed
from plumbline_serve.batching.backlog import Backlog, size_class
from plumbline_serve.scheduling.request_context import LANE_WEIGHTS, Priority, RequestContext

ANY = object()
"""Stands for every bucket."""
MOST_BY_REQUESTS, MOST_BY_TENANTS = 1.5, 2.0
"""How many times as many inputs as may wait do so where the last ones are of small requests, or of other tenants."""
NOTHING = 1e-9
"""Cost below which there is none: fractions that were added and taken again leave less."""


@dataclass(slots=True, eq=False)
class Entry:
    """One input on its way through a batcher; times are seconds on the monotonic clock."""

    preprocessed: Preprocessed
    cost: float
    """What it counts as among all that waits (`EncoderLoad.charge`)."""
    bucket: Hashable
    context: RequestContext
    future: asyncio.Future[Encoding | PlumblineError]
    queued_at: float
    started_at: float = 0.0
    ended_at: float = 0.0

    def answer(self, encoding: Encoding | PlumblineError) -> None:
        """Hand the caller its encoding or its error; nothing happens if it has gone."""
        if not self.future.done():
            self.future.set_result(encoding)


def is_wanted(entry: Entry) -> bool:
    """Whether somebody waits for an input, and its deadline has not passed; may be called on any thread."""
    return not entry.future.done() and not entry.context.deadline.has_passed


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """What one request has waiting for the encoder."""

    context: RequestContext
    place: tuple[float, int]
    """In the order of its tenant's requests."""
    size: int
    announced: float = 0.0
    """Cost that is known to come."""
    cost: float = 0.0
    """All that is not taken yet: what waits, and what is announced."""
    waiting: dict[Hashable, "OrderedDict[Entry, None]"] = field(default_factory=dict)
    """By bucket, and all of them under `ANY`; in order of arrival."""

    @property
    def entries(self) -> "OrderedDict[Entry, None]":
        """All that waits."""
        return self.waiting.get(ANY, OrderedDict())


@dataclass(slots=True)
class _Tenant:
    weight: float
    served: float
    clock: float = 0.0
    """How much each request has had, had all of them been served side by side."""
    num_requests: int = 0
    order: dict[Hashable, list[tuple[tuple[float, int], QueuedRequest]]] = field(default_factory=dict)
    """Requests with something waiting, by bucket and under `ANY`; each request has a place of its own."""


@dataclass(slots=True)
class _Lane:
    weight: float
    served: float = 0.0
    level: float = 0.0
    """What the tenant that was served last had had."""
    num_items: int = 0
    tenants: dict[str, _Tenant] = field(default_factory=dict)


class InputQueue:
    """Everything that waits for one encoder; it knows no clock."""

    def __init__(self) -> None:
        self.backlog = Backlog()
        self._lanes: dict[Priority, _Lane] = {name: _Lane(weight) for name, weight in LANE_WEIGHTS.items()}
        self._level = 0.0
        """What the lane that was served last had had."""
        self._requests: dict[RequestContext, QueuedRequest] = {}
        self._entries: OrderedDict[Entry, None] = OrderedDict()
        self._numbers = itertools.count()

    @property
    def num_items(self) -> int:
        """Inputs that wait."""
        return len(self._entries)

    @property
    def oldest_s(self) -> float:
        """When the oldest input came; infinity where none waits."""
        return next((entry.queued_at for entry in self._entries), math.inf)

    @property
    def contexts(self) -> Iterator[RequestContext]:
        """Of the requests of which something waits."""
        return (context for context, request in self._requests.items() if request.waiting)

    def has(self, context: RequestContext) -> bool:
        """Whether something of a request waits."""
        return (request := self._requests.get(context)) is not None and bool(request.waiting)

    def is_below_its_part(self, context: RequestContext, num_inputs: int, most: int) -> bool:
        """Whether inputs may still wait where as many do as may: their tenant, or their request, has less than others.

        Else whoever has the most waiting, and long deadlines, would keep all others out, whatever their shares are.

        Args:
            context: Of their request.
            num_inputs: How many there are.
            most: Inputs that may wait otherwise.
        """
        waiting = {each.context: len(each.entries) for each in self._requests.values() if each.waiting}
        waiting[context] = waiting.get(context, 0) + num_inputs
        of_tenants: Counter[str] = Counter()
        for each, num in waiting.items():
            of_tenants[each.caller.tenant] += num
        total, own = sum(waiting.values()), of_tenants[context.caller.tenant]
        if len(of_tenants) > 1 and own <= most / len(of_tenants):
            return total <= MOST_BY_TENANTS * most
        return waiting[context] <= most / len(waiting) and total <= MOST_BY_REQUESTS * most

    def num_in(self, lane: Priority) -> int:
        """Inputs that wait in a lane."""
        return self._lanes[lane].num_items

    def announce(self, context: RequestContext, cost: float) -> None:
        """Give a request its place, and count what is to come of it.

        Args:
            context: The request's.
            cost: Of the inputs that it will have here.
        """
        request = self._request(context, cost)
        request.announced += cost
        self._change(request, cost)

    def forget(self, context: RequestContext) -> None:
        """Nothing further comes of a request; what of it waits still does."""
        if (request := self._requests.get(context)) is not None:
            left, request.announced = request.announced, 0.0
            self._change(request, -left)
            self._leave_if_done(request)

    def push(self, entry: Entry, size: float) -> None:
        """Add an input.

        Args:
            entry: It.
            size: Cost of the whole call that it belongs to, which places a request that was not announced.
        """
        request = self._request(entry.context, size)
        known = min(entry.cost, request.announced)
        request.announced -= known
        self._change(request, entry.cost - known)
        tenant, lane = self._tenant(request), self._lanes[entry.context.priority]
        for bucket in (entry.bucket, ANY):
            if bucket not in request.waiting:
                request.waiting[bucket] = OrderedDict()
                bisect.insort(tenant.order.setdefault(bucket, []), (request.place, request), key=_place)
            request.waiting[bucket][entry] = None
        lane.num_items += 1
        self._entries[entry] = None

    def first(self, bucket: Hashable = ANY) -> Entry | None:
        """Whose turn it is among the inputs of a bucket."""
        for lane in sorted(self._lanes.values(), key=_served):
            tenants = [tenant for tenant in lane.tenants.values() if tenant.order.get(bucket)]
            if tenants:
                _, request = min(tenants, key=_served).order[bucket][0]
                return next(iter(request.waiting[bucket]))
        return None

    def take(self, entry: Entry) -> None:
        """Take an input out to be computed, at the expense of its lane, its tenant and its request."""
        lane, request = self._lanes[entry.context.priority], self._requests[entry.context]
        tenant = self._tenant(request)
        self._level, lane.level = lane.served, tenant.served
        lane.served += entry.cost / lane.weight
        tenant.served += entry.cost / tenant.weight
        tenant.clock += entry.cost / tenant.num_requests
        self.discard(entry)

    def fill(
        self,
        max_cost: float,
        max_items: int,
        *,
        is_wanted: Callable[[Entry], bool],
        fits: Callable[[float, float], bool] = lambda _cost, _at_s: True,
    ) -> list[Entry]:
        """Take a batch: inputs of the bucket whose turn it is, in their order, as many as are done by their deadlines.

        An input that would be late even alone is late in any batch, and bounds none.

        Args:
            max_cost: Of the batch; an input that is larger goes alone.
            max_items: Of the batch.
            is_wanted: Whether an input is to be computed; if not, it leaves the queue.
            fits: Told a batch's cost and a deadline, whether it is done by then.
        """
        lead = self.first()
        batch: list[Entry] = []
        cost, until_s = 0.0, math.inf
        while lead is not None and (entry := self.first(lead.bucket)) is not None:
            if not is_wanted(entry):
                self.discard(entry)
                continue
            at_s = entry.context.deadline.at_s
            earliest_s = min(until_s, at_s) if fits(entry.cost, at_s) else until_s
            cost += entry.cost
            if batch and (cost > max_cost or len(batch) == max_items or not fits(cost, earliest_s)):
                break
            until_s = earliest_s
            self.take(entry)
            batch.append(entry)
        return batch

    def discard(self, entry: Entry) -> bool:
        """Take an input out, wherever it stands, at nobody's expense; whether it was there."""
        if entry not in self._entries:
            return False
        del self._entries[entry]
        request = self._requests[entry.context]
        order = self._tenant(request).order
        for bucket in (entry.bucket, ANY):
            del request.waiting[bucket][entry]
            if not request.waiting[bucket]:
                del request.waiting[bucket]
                del order[bucket][bisect.bisect_left(order[bucket], request.place, key=_place)]
                if not order[bucket]:
                    del order[bucket]
        self._lanes[entry.context.priority].num_items -= 1
        self._change(request, -entry.cost)
        self._leave_if_done(request)
        return True

    def entries(self) -> list[Entry]:
        """All that waits, the oldest first."""
        return list(self._entries)

    def late(self, is_late: Callable[[QueuedRequest, float], bool]) -> list[QueuedRequest]:
        """Requests that it is too late for, in their order; those behind them then have less ahead of them.

        Args:
            is_late: Told a request of which something waits, and what its tenant has in its lane until it is done.
        """
        late: list[QueuedRequest] = []
        for lane in self._lanes.values():
            for tenant in lane.tenants.values():
                cost = 0.0
                for _, request in tenant.order.get(ANY, ()):
                    if is_late(request, cost + request.cost):
                        late.append(request)
                    else:
                        cost += request.cost
        return late

    def _request(self, context: RequestContext, cost: float) -> QueuedRequest:
        request = self._requests.get(context)
        if request is None:
            tenant = self._join(context)
            tenant.num_requests += 1
            place = (tenant.clock + cost, next(self._numbers))
            request = self._requests[context] = QueuedRequest(context, place, size_class(cost))
        return request

    def _join(self, context: RequestContext) -> _Tenant:
        """The request's tenant; with a lane that was empty it starts level with those that wait."""
        lane, caller = self._lanes[context.priority], context.caller
        if not lane.tenants:
            lane.served = max(lane.served, self._level)
        tenant = lane.tenants.get(caller.tenant)
        if tenant is None:
            tenant = lane.tenants[caller.tenant] = _Tenant(caller.weight, lane.level)
        return tenant

    def _tenant(self, request: QueuedRequest) -> _Tenant:
        return self._lanes[request.context.priority].tenants[request.context.caller.tenant]

    def _change(self, request: QueuedRequest, cost: float) -> None:
        was = request.cost > NOTHING
        request.cost += cost
        num = (request.cost > NOTHING) - was
        if was or num:
            self.backlog.change(request.context, request.size, cost=cost, num=num)

    def _leave_if_done(self, request: QueuedRequest) -> None:
        if request.waiting or request.announced > NOTHING:
            return
        del self._requests[request.context]
        lane, tenant = self._lanes[request.context.priority], self._tenant(request)
        tenant.num_requests -= 1
        if not tenant.num_requests:
            del lane.tenants[request.context.caller.tenant]


def _place(placed: tuple[tuple[float, int], QueuedRequest]) -> tuple[float, int]:
    return placed[0]


def _served(member: _Lane | _Tenant) -> float:
    return member.served
