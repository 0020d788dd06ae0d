"""What waits for a CPU pool, in fair order: lanes by priority, their tenants by weight, a tenant's requests alike.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) at each of the three levels. Each share has a start: the
cost that was taken of it, divided by its weight. The least start is next. Who comes new, or comes back, starts where
the level is, so that nobody saves up a claim; and who leaves an empty share keeps its start until the level has come
there, so that nobody gains by sending one unit at a time.

The level goes on by what each share would have had, had all been served side by side. It would else stand still where
new requests keep coming: they would all start at the same place, before the second unit of any that came earlier, and
the empty shares of those that have gone would gather.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from plumbline_serve.scheduling.request_context import LANE_WEIGHTS, RequestContext

U = TypeVar("U")


class FairQueue(Generic[U]):
    """Units of work by request; not for several threads at once. Each call takes time by the shares, not the units."""

    def __init__(self) -> None:
        self._lanes: _Level[U] = _Level(1.0)

    @property
    def num_units(self) -> int:
        """Units that wait."""
        return self._lanes.num_units

    @property
    def cost(self) -> float:
        """Of all units that wait."""
        return self._lanes.cost

    def push(self, context: RequestContext, units: Sequence[tuple[float, U]], *, is_first: bool = False) -> None:
        """Add units behind the others of their request.

        Args:
            context: Of the request.
            units: Each with its cost, above 0, in the measure of all units.
            is_first: Whether they go before the others instead: they were taken, and could not start.
        """
        lane = self._lanes.level(context.priority, LANE_WEIGHTS[context.priority])
        tenant = lane.level(context.caller.tenant, context.caller.weight)
        request = tenant.request(context)
        if is_first:
            request.units.extendleft(reversed(units))
        else:
            request.units.extend(units)
        _add([self._lanes, lane, tenant, request], len(units), math.fsum(cost for cost, _ in units))

    def pop(self, *, most_cost: float = math.inf, until_cost: float = 0.0) -> list[tuple[float, U]]:
        """Take what is next: a unit, or a few of one request.

        Args:
            most_cost: Pass over requests whose next unit costs more.
            until_cost: Take further units of the same request until they cost so much together.

        Returns:
            Units with their costs; none where no unit waits or none is as cheap as that.
        """
        if not self._lanes.num_units or not (most_cost == math.inf or self._lanes.has(most_cost)):
            return []
        cost, units = self._lanes.take(most_cost, until_cost)
        self._lanes.add(-len(units), -cost)
        return units

    def drop(self, context: RequestContext, is_dropped: Callable[[U], bool]) -> None:
        """Take out units of one request, wherever they stand.

        Args:
            context: Of the request.
            is_dropped: Whether to take a unit out.
        """
        path = self._path(context)
        request = path[-1]
        if not isinstance(request, _Request):
            return
        dropped = [cost for cost, unit in request.units if is_dropped(unit)]
        request.units = deque(each for each in request.units if not is_dropped(each[1]))
        _add(path, -len(dropped), -math.fsum(dropped))

    def cost_ahead(self, context: RequestContext, own_cost: float) -> float:
        """What units cost that will be taken before some more of this request, its own among them, if nothing comes.

        While a share takes a cost, each of its neighbours takes as much by weight, and no more than it has.

        Args:
            context: Of the request.
            own_cost: Of what it would add, all together.
        """
        lane = self._lanes.children.get(context.priority)
        tenant = lane.children.get(context.caller.tenant) if isinstance(lane, _Level) else None
        request = tenant.children.get(context) if isinstance(tenant, _Level) else None
        total = own_cost + (request.cost if request else 0.0)
        for level, key, weight in (
            (tenant, context, 1.0),
            (lane, context.caller.tenant, context.caller.weight),
            (self._lanes, context.priority, LANE_WEIGHTS[context.priority]),
        ):
            if isinstance(level, _Level):
                others = [share for name, share in level.children.items() if name != key]
                total += math.fsum(min(share.cost, total * share.weight / weight) for share in others)
        return total - own_cost

    def _path(self, context: RequestContext) -> "list[_Share[U]]":
        """From all lanes down to the request, as far as it is there."""
        path: list[_Share[U]] = [self._lanes]
        for key in (context.priority, context.caller.tenant, context):
            last = path[-1]
            if not isinstance(last, _Level) or key not in last.children:
                break
            path.append(last.children[key])
        return path


@dataclass(slots=True)
class _Counts:
    """How much waits in a share."""

    weight: float
    num_units: int = 0
    cost: float = 0.0

    def add(self, num_units: int, cost: float) -> None:
        """More of it, or less."""
        self.num_units += num_units
        self.cost += cost
        if not self.num_units:
            self.cost = 0.0  # sums of floats do not return there by themselves
            self.forget()

    def forget(self) -> None:
        """Nothing waits any more, so nobody is owed anything."""


@dataclass(slots=True)
class _Request(_Counts, Generic[U]):
    """The last level: one request's units, in order of arrival, each with its cost."""

    units: deque[tuple[float, U]] = field(default_factory=deque)

    def has(self, most_cost: float) -> bool:
        """Whether the next unit costs no more."""
        return bool(self.units) and self.units[0][0] <= most_cost

    def take(self, _most_cost: float, until_cost: float) -> tuple[float, list[tuple[float, U]]]:
        """As `_Level.take`; there is a unit."""
        taken = [self.units.popleft()]
        cost = taken[0][0]
        while self.units and cost < until_cost:
            taken.append(self.units.popleft())
            cost += taken[-1][0]
        return cost, taken


class _Turn(NamedTuple, Generic[U]):
    """When a share is next: by its start, and of equal ones by who had its place first."""

    start: float
    place: int
    key: Hashable
    share: "_Share[U]"


@dataclass(slots=True)
class _Level(_Counts, Generic[U]):
    """Shares beside each other."""

    children: "dict[Hashable, _Share[U]]" = field(default_factory=dict)
    _turns: "list[_Turn[U]]" = field(default_factory=list)
    """A heap, with one entry for each child, also for one that is empty and whose start is yet to come."""
    _now: float = 0.0
    """Where the level was when something was taken last; no less than the start of that."""
    _step: float = 0.0
    """How far that takes it."""
    _waiting_weight: float = 0.0
    """Of the shares with something waiting."""
    _places: "itertools.count[int]" = field(default_factory=itertools.count)

    def level(self, key: Hashable, weight: float) -> "_Level[U]":
        """The level of that name below this one; made where there is none."""
        found = self.children.get(key)
        level = found if isinstance(found, _Level) else self._add_child(key, _Level(weight))
        if level.num_units:
            self._waiting_weight += weight - level.weight
        level.weight = weight
        return level

    def request(self, key: Hashable) -> _Request[U]:
        """The request below this level; made where there is none."""
        found = self.children.get(key)
        return found if isinstance(found, _Request) else self._add_child(key, _Request(1.0))

    def has(self, most_cost: float) -> bool:
        """Whether a request below has a next unit of no more cost."""
        return any(share.has(most_cost) for share in self.children.values())

    def take(self, most_cost: float, until_cost: float) -> tuple[float, list[tuple[float, U]]]:
        """What the next units cost together, and they; there must be a request that `has` one.

        Whoever calls takes them off the counts of this share; those of the shares below are right.
        """
        turn = self._next() if most_cost == math.inf else min(each for each in self._turns if each.share.has(most_cost))
        cost, units = turn.share.take(most_cost, until_cost)
        after = _Turn(turn.start + cost / turn.share.weight, next(self._places), turn.key, turn.share)
        self._now += self._step
        self._step = cost / max(self._waiting_weight, turn.share.weight)
        if turn is self._turns[0]:
            self._now = max(self._now, turn.start)
            heapq.heapreplace(self._turns, after)
        else:  # it went before its turn, for the others could not go: the level has not come to its start
            self._turns[self._turns.index(turn)] = after
            heapq.heapify(self._turns)
        self.add_to(turn.share, -len(units), -cost)
        return cost, units

    def add_to(self, share: "_Share[U]", num_units: int, cost: float) -> None:
        """There is more of a share below, or less."""
        waited = bool(share.num_units)
        share.add(num_units, cost)
        self._waiting_weight += share.weight * (bool(share.num_units) - waited)

    def forget(self) -> None:
        """As for any share."""
        self._turns.clear()
        self.children.clear()
        self._now = self._step = self._waiting_weight = 0.0

    def _next(self) -> "_Turn[U]":
        """The least start; empty shares that the level has come to are forgotten."""
        while not (turn := self._turns[0]).share.num_units:
            heapq.heappop(self._turns)
            del self.children[turn.key]
        return turn

    def _add_child(self, key: Hashable, share: "S") -> "S":
        self.children[key] = share
        heapq.heappush(self._turns, _Turn(self._now, next(self._places), key, share))
        return share


def _add(path: "Sequence[_Share[Any]]", num_units: int, cost: float) -> None:
    """There is more of the last share of a path from all lanes down, or less."""
    path[0].add(num_units, cost)
    for level, share in itertools.pairwise(path):
        if isinstance(level, _Level):
            level.add_to(share, num_units, cost)


_Share: TypeAlias = _Level[U] | _Request[U]
S = TypeVar("S", bound=_Level[Any] | _Request[Any])
