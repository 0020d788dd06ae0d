"""What the edges tell the metrics."""

from typing import Literal, Protocol, TypeAlias

Wire: TypeAlias = Literal["rest", "grpc"]


class EdgeObserver(Protocol):
    """Hears of every answered request; labels are bounded and never hold keys, URLs or request ids."""

    def request(self, route: str, protocol: Wire, code: str, seconds: float) -> None:
        """A request was answered.

        Args:
            route: A route of the contract or the name of an RPC; `unmatched` for any other path.
            protocol: `rest` or `grpc`.
            code: The HTTP status (`499`: the caller went away first), or the name of the gRPC code.
            seconds: From the request's first byte to the reply's last.
        """
        ...

    def rejection(self, reason: str) -> None:
        """A request was refused as a whole, before or for lack of time to answer it; `reason` is the error's code."""
        ...

    def expired(self, stage: str) -> None:
        """A deadline passed in this stage."""
        ...

    def in_flight(self, num_bytes: int) -> None:
        """The requests under way hold so many bytes."""
        ...

    def limits_failed(self) -> None:
        """What keys have used could not be asked of the Redis that gateways share; it is counted here for a while."""
        ...


class Unobserved:
    """Tells nobody."""

    def request(self, route: str, protocol: Wire, code: str, seconds: float) -> None:
        """As `EdgeObserver.request`."""

    def rejection(self, reason: str) -> None:
        """As `EdgeObserver.rejection`."""

    def expired(self, stage: str) -> None:
        """As `EdgeObserver.expired`."""

    def in_flight(self, num_bytes: int) -> None:
        """As `EdgeObserver.in_flight`."""

    def limits_failed(self) -> None:
        """As `EdgeObserver.limits_failed`."""
