"""What a cap on batches can gain at best: one server in a simulation, fed the same arrivals with each cap.

    python -m loadtests.service.batch_caps [--fixed-ms 6.8] [--each-ms 14.7] [--requests 200000] [--out F]

A batch of n takes --fixed-ms and n times --each-ms; as soon as one is done the next begins, with all that waits or with
as many as the cap allows. Requests of one item arrive as a Poisson process at shares of what full batches of 64 do a
second, in the order of whose arrival they are served. By default the times are those that ViT-B/32 takes on two cores
with its caption (docs/performance.md, "Latency by offered load").

The knee is found as `loadtests.service.latency` finds it, among the same shares, and 70 % of it is one of the rates.
For each rate the report has percentiles by cap, and the least 99th percentile of all caps over that of batches of 64.
"""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.service.latency import SHARE_OF_KNEE, SHARES, Load, find_knee
from loadtests.service.open_loop import poisson
from loadtests.service.percentiles import in_ms
from loadtests.service.report import add_out, report

CAPS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Server:
    """How long batches take, in seconds."""

    fixed_s: float
    each_s: float

    def rate(self, cap: int) -> float:
        """Requests a second that full batches do."""
        return cap / (self.fixed_s + self.each_s * cap)

    def latencies_s(self, arrivals_s: Sequence[float], cap: int) -> list[float]:
        """Seconds from each arrival to the end of its batch.

        Args:
            arrivals_s: In order.
            cap: On a batch.
        """
        found: list[float] = []
        now_s, first = 0.0, 0
        while first < len(arrivals_s):
            now_s = max(now_s, arrivals_s[first])
            end = first + 1
            while end < len(arrivals_s) and arrivals_s[end] <= now_s and end - first < cap:
                end += 1
            now_s += self.fixed_s + self.each_s * (end - first)
            found += [now_s - arrived for arrived in arrivals_s[first:end]]
            first = end
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixed-ms", type=float, default=6.8)
    parser.add_argument("--each-ms", type=float, default=14.7)
    parser.add_argument("--requests", type=int, default=200_000, help="at each rate")
    add_out(parser)
    options = parser.parse_args()
    server = Server(options.fixed_ms / 1000, options.each_ms / 1000)
    report(gains(server, options.requests), out=options.out)


def gains(server: Server, num_requests: int) -> dict[str, Any]:
    """Percentiles by rate and cap, and what the best cap gains.

    Args:
        server: What is served by.
        num_requests: That arrive at each rate.
    """
    loads = {share: at_share(server, share, num_requests) for share in SHARES if share < 1.0}
    knee = find_knee([Load(share, num_requests, caps[str(max(CAPS))]) for share, caps in loads.items()])
    below = SHARE_OF_KNEE * knee
    loads[below] = at_share(server, below, num_requests)
    return {
        "knee": knee,
        "shares": {
            f"{share:.2f}": {
                "least_p99_over_that_of_64": min(each["p99_ms"] for each in caps.values()) / caps["64"]["p99_ms"],
                "caps": caps,
            }
            for share, caps in sorted(loads.items())
        },
    }


def at_share(server: Server, share: float, num_requests: int) -> Mapping[str, Mapping[str, float]]:
    """Percentiles in milliseconds by cap, of those with which the server keeps up.

    Args:
        server: What is served by.
        share: Of what full batches of the largest cap do a second.
        num_requests: That arrive.
    """
    rate = share * server.rate(max(CAPS))
    arrivals_s = list(itertools.islice(poisson(rate), num_requests))
    return {str(cap): in_ms(server.latencies_s(arrivals_s, cap)) for cap in CAPS if rate < server.rate(cap)}


if __name__ == "__main__":
    main()
