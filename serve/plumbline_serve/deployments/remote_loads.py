"""How busy the encoder replicas are, as a gateway knows it: by what they said last, and what it has asked of them."""

import time
from dataclasses import dataclass, replace

from plumbline_serve.batching import Backlog, EncoderLoad
from plumbline_serve.batching.backlog import size_class
from plumbline_serve.deployments.hop import Loads
from plumbline_serve.scheduling.request_context import RequestContext

GONE_AFTER_S = 10.0
"""A replica that has said nothing for so long is not counted with."""


@dataclass(slots=True)
class _Open:
    """What a request has open at one encoder."""

    size: int
    cost: float


class RemoteLoads:
    """The load of each encoder over all replicas; for one event loop."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, Loads]] = {}
        """By replica, with when it was."""
        self._asked: dict[str, Backlog] = {}
        """What this gateway's requests have open, by encoder."""
        self._open: dict[RequestContext, dict[str, _Open]] = {}

    def hear(self, loads: Loads) -> None:
        """A replica says how busy it is."""
        now = time.monotonic()
        self._heard[loads.replica] = now, loads
        self._heard = {name: heard for name, heard in self._heard.items() if now - heard[0] < GONE_AFTER_S}

    def load(self, key: str) -> EncoderLoad | None:
        """Of the least busy replica, or by what was asked of all of them since they said it, where that is more."""
        now = time.monotonic()
        known = [
            _aged(load, now - at_s)
            for at_s, loads in self._heard.values()
            if (load := loads.encoders.get(key)) is not None
        ]
        if not known:
            return None
        least = min(known, key=lambda load: load.drain_s)
        asked = self._asked.get(key)
        if asked is None or asked.cost <= least.backlog.cost * len(known):
            return least
        return replace(least, backlog=asked, num_streams=least.num_streams * len(known))

    def reserve(self, key: str, context: RequestContext, num_inputs: int) -> None:
        """A request is about to ask so much of an encoder.

        Args:
            key: Of the encoder.
            context: The request's.
            num_inputs: That are to come.
        """
        load = self.load(key)
        cost = num_inputs * (load.charge(context, load.input_cost) if load else 1.0)
        opened = self._open.setdefault(context, {}).setdefault(key, _Open(size_class(cost), 0.0))
        self._change(key, context, opened, cost)

    def answered(self, key: str, context: RequestContext, num_inputs: int) -> None:
        """A part of what a request asked has been answered.

        Args:
            key: Of the encoder.
            context: The request's.
            num_inputs: In the part.
        """
        load, opened = self.load(key), self._open.get(context, {}).get(key)
        if load is not None and opened is not None:
            cost = num_inputs * load.charge(context, load.input_cost)
            self._change(key, context, opened, -min(opened.cost, cost))

    def release(self, context: RequestContext) -> None:
        """Nothing further comes of a request."""
        for key, opened in self._open.pop(context, {}).items():
            self._change(key, context, opened, -opened.cost)

    def _change(self, key: str, context: RequestContext, opened: _Open, cost: float) -> None:
        was, opened.cost = opened.cost > 0, opened.cost + cost
        num = (opened.cost > 0) - was
        if was or num:
            self._asked.setdefault(key, Backlog()).change(context, opened.size, cost=cost, num=num)


def _aged(load: EncoderLoad, age_s: float) -> EncoderLoad:
    """What is left of a load after a while; all of it, until the replica would have done with it."""
    if age_s >= load.drain_s:
        return replace(load, backlog=Backlog(), left_s=0.0, turn_s=0.0)
    return replace(load, left_s=max(0.0, load.left_s - age_s))
