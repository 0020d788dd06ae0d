"""Whether a request can be answered in time, decided when it comes: before it is decoded, and before it waits.

What is ahead of it at each encoder that it needs is known, and so is what batches take. From this follows when it would
be done: its images are decoded, then images and texts are encoded side by side, then pairs of both. A request that
would be done after its deadline is refused at once, and so is one without a deadline that would wait too long.

Nothing is refused that has nothing to wait for: a lone request may take as long as it takes, and a wrong estimate is
put right by what runs. How far estimates fall short is learnt from the requests that they let in.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from plumbline_models.core.errors import OverloadedError
from plumbline_models.core.protocols import Encoder, EncoderKind
from plumbline_serve.batching import (
    Compute,
    EncoderLoad,
    Forecast,
    Margin,
    check_wait,
    comes_late,
    late,
    overloaded,
    size_class,
)
from plumbline_serve.encoding_cache import EncodingKey
from plumbline_serve.scheduling.cpu_pools import CpuPool
from plumbline_serve.scheduling.request_context import PRIORITIES, RequestContext
from plumbline_serve.scheduling.turns import FEW, Line

MAX_WAITING = 640
"""Requests that wait for encoders at a time. HAProxy gives a gateway 768, and has further ones wait unseen: as many
places are left for requests that are read, or answered from what is kept."""
IMAGES_PER_CALL = 32
"""Images that go to their encoder together: it works on the first of a long request while the next are decoded."""

BATCHES_AHEAD = 4
"""For which requests of a line are under way, for each stream of their encoder: one is computed, one waits, and what
goes into the next is decoded."""
FEWEST = 8
"""Requests of a line that may be under way, however large they are."""
BUSY_FOR_S = 1.0
"""How long the encoder for which a request was refused is asked about first."""
ANY = Line(None, MAX_WAITING)
"""Of those that wait for encoders of which nothing is known yet."""


@dataclass(slots=True)
class Want:
    """What a request asks of one encoder."""

    encoder: str
    by: Encoder
    decode_s: dict[EncodingKey, float] = field(default_factory=dict)
    """Seconds of a thread that each input takes first, by key; those that are neither stored nor being encoded."""

    @property
    def kind(self) -> EncoderKind:
        """Of the encoder."""
        return self.by.kind

    @property
    def num_inputs(self) -> int:
        """How many there are."""
        return len(self.decode_s)


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A request that was let in."""

    at_s: float
    """When, on the clock of deadlines."""
    done_s: float
    """Seconds until it is done, as foreseen then."""
    is_hopeless: bool
    """Whether it was foreseen to be late, and let in only because it has nothing to wait for."""


class Admission:
    """Refuses what cannot be answered in time; bound to one event loop.

    Args:
        compute: Says how busy encoders are.
        pool: Says how much there is to decode.
        max_wait_s: How long a request may wait whose caller gives no deadline.
    """

    def __init__(self, compute: Compute, pool: CpuPool, *, max_wait_s: float) -> None:
        self._compute = compute
        self._pool = pool
        self._max_wait_s = max_wait_s
        self._margins = {lane: Margin() for lane in PRIORITIES}
        self._admitted: dict[RequestContext, _Admitted] = {}
        self._busiest: tuple[Encoder | None, float] = None, -math.inf
        """For which encoder a request was refused last, and when."""

    def admit(self, context: RequestContext, wants: Sequence[Want]) -> Line:
        """Let a request wait for encoders, and give it its place at each of them until `release`.

        Args:
            context: The request's.
            wants: What it asks of each, at least one.

        Returns:
            The line that it stands in until it begins, or until it could not be in time even if there were no other.

        Raises:
            OverloadedError: It would be done too late, or wait too long, or too many wait.
        """
        done_s, alone_s, last = self._estimate(context, wants)
        now, margin, wait_s = time.monotonic(), self._margins[context.priority].value, done_s - alone_s
        try:
            check_wait(context, now, done_s=done_s, wait_s=wait_s, margin=margin, max_wait_s=self._max_wait_s)
        except OverloadedError:
            self._busiest = last and last[0].by, now
            raise
        if len(self._admitted) >= MAX_WAITING:
            raise overloaded("Too many requests wait; try again later.", "full", done_s, wait_s)
        is_hopeless = comes_late(context, now, done_s=done_s, margin=margin)
        self._admitted[context] = _Admitted(now, done_s, is_hopeless)
        for want in wants:
            self._compute.reserve(want.encoder, context, want.num_inputs)
        line = ANY if last is None else _line(context, *last)
        return line if is_hopeless else replace(line, latest_s=context.deadline.at_s - alone_s)

    @property
    def busiest(self) -> Encoder | None:
        """The encoder that a request was refused for a moment ago: the next one is likely to be late there too."""
        encoder, at_s = self._busiest
        return encoder if time.monotonic() < at_s + BUSY_FOR_S else None

    def check(self, context: RequestContext, want: Want) -> None:
        """Refuse a request with a deadline that one encoder alone would make it miss.

        Args:
            context: The request's.
            want: What it asks of that encoder, or a part of that.

        Raises:
            OverloadedError: It would be done too late.
        """
        if math.isinf(context.deadline.at_s):
            return
        if (load := self._compute.load(want.encoder)) is not None:
            found, margin = load.forecast(context, want.num_inputs), self._margins[context.priority].value
            wait_s = found.done_s - found.own_s
            check_wait(context, time.monotonic(), done_s=found.done_s, wait_s=wait_s, margin=margin)

    def too_late(self, context: RequestContext) -> OverloadedError:
        """The refusal of a request that waited in its line until it was too late.

        Args:
            context: The request's.
        """
        return late(time.monotonic() - self._admitted[context].at_s)

    def admit_to(self, pool: CpuPool, context: RequestContext, own_s: float) -> None:
        """Let a request wait for threads.

        Args:
            pool: Of threads.
            context: The request's.
            own_s: What its work is expected to take there.

        Raises:
            OverloadedError: It would be done too late, or wait too long.
        """
        wait_s = pool.backlog_s(context, own_s)
        check_wait(context, time.monotonic(), done_s=wait_s + own_s, wait_s=wait_s, max_wait_s=self._max_wait_s)

    def release(self, context: RequestContext, *, is_done: bool) -> None:
        """Let go of the places that a request has.

        Args:
            context: The request's.
            is_done: Whether it has what it asked for; else it was given up.
        """
        self._compute.release(context)
        admitted = self._admitted.pop(context, None)
        if admitted is None:
            return
        now = time.monotonic()
        if is_done or (now >= context.deadline.at_s and not admitted.is_hopeless):
            self._margins[context.priority].learn(admitted.done_s, now - admitted.at_s if is_done else math.inf)

    def _estimate(
        self, context: RequestContext, wants: Sequence[Want]
    ) -> tuple[float, float, tuple[Want, EncoderLoad] | None]:
        """Seconds until the request is done, what they would be if there were no other, and where it waits longest."""
        decode_s = sum(seconds for want in wants for seconds in want.decode_s.values())
        backlog_s = self._pool.backlog_s(context, decode_s) if decode_s else 0.0
        decode_s /= self._pool.num_threads
        done_s, alone_s = backlog_s + decode_s, decode_s
        longest_s, last = 0.0, None
        for kinds in (("image", "text"), ("pair",)):
            ready_s = done_s, alone_s
            for want in wants:
                if want.kind not in kinds or (load := self._compute.load(want.encoder)) is None:
                    continue
                forecast = load.forecast(context, want.num_inputs)
                step_s, step_alone_s = _step(context, want, (load, forecast), ready_s=ready_s, decode_s=decode_s)
                done_s, alone_s = max(done_s, step_s), max(alone_s, step_alone_s)
                if forecast.done_s > longest_s:
                    longest_s, last = forecast.done_s, (want, load)
        return done_s, alone_s, last


def _step(
    context: RequestContext,
    want: Want,
    at: tuple[EncoderLoad, Forecast],
    *,
    ready_s: tuple[float, float],
    decode_s: float,
) -> tuple[float, float]:
    """When an encoder has done its part, and when it had if there were no other request.

    The encoder begins with the first images while the next are decoded.

    Args:
        context: The request's.
        want: The part.
        at: The encoder's load, and what follows from it for the part alone.
        ready_s: When all its inputs are there, and when they were if there were no other request.
        decode_s: What decoding takes of that.
    """
    load, forecast = at
    last_s, early_s = forecast.own_s, 0.0
    if want.kind == "image" and want.num_inputs > IMAGES_PER_CALL:
        share = IMAGES_PER_CALL / want.num_inputs
        last_s, early_s = load.own_s(context, share * want.num_inputs), decode_s * (1 - share)
    ready = (0.0, 0.0) if want.kind == "text" else ready_s
    alone_s = max(ready[1] - early_s + forecast.own_s, ready[1] + last_s)
    done_s = max(forecast.done_s, ready[0] - early_s + forecast.own_s, ready[0] + last_s)
    return done_s, alone_s


def _line(context: RequestContext, want: Want, load: EncoderLoad) -> Line:
    """The line for an encoder: of requests of about that size, since smaller ones pass larger ones there."""
    cost = want.num_inputs * load.charge(context, load.input_cost)
    room = max(FEW * load.input_cost, BATCHES_AHEAD * load.num_streams * load.max_batch) / cost
    return Line((want.encoder, size_class(cost)), max(FEWEST, math.ceil(room)))
