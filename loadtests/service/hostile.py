"""What a neighbour loses while others mean no good.

    python -m loadtests.service.hostile [--kinds slow_body,vanishing] [--callers 8] [--requests 300] [--out F]

One service with clipscore on the embedded network. A neighbour with an address of its own sends one new pair after
another over REST, alone and then beside so many hostile callers of each kind (`hostile_callers`; of half-sent heads
4,300). Printed are its percentiles and their ratio to those alone, what it was not served, the slowest `/livez`, what
the gateway's heap grew by meanwhile, and what of that was left 10 s later. All in one run on one machine: the hostile
callers' own CPU time is in the ratio too.
"""

import argparse
import subprocess  # nosec B404  # our own programs
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException

from loadtests.service.faults import GATEWAY, living
from loadtests.service.hostile_callers import CALLERS, NUM_HEADS, half_a_head
from loadtests.service.images import forms
from loadtests.service.load_generators import FORM
from loadtests.service.memory import anonymous_mib
from loadtests.service.percentiles import percentile, require
from loadtests.service.report import add_out, report, table
from loadtests.service.running import Running, running, stopping

CONFIG = "scorers: {clipscore: {}}"
NEIGHBOUR = "127.0.0.2"
BEGIN_S, REST_S = 2.0, 10.0
"""Before the neighbour is measured, and before what is left is."""
TIMEOUT_S, GIVE_UP_S = 10.0, 60.0
HEAD = ("beside", "p50 ms", "ratio", "p99 ms", "ratio", "not served", "slowest /livez ms", "grew MiB", "left MiB")


@dataclass
class Seen:
    """What the neighbour saw."""

    p50_ms: float
    p99_ms: float
    num_failed: int
    livez_ms: float
    grew_mib: float = 0.0
    left_mib: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(CALLERS), help="which hostile callers")
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--requests", type=int, default=300, help="of the neighbour beside each kind")
    add_out(parser)
    options = parser.parse_args()
    require(options.requests, 99)
    bodies = forms(1, is_new=True)
    with running(CONFIG, {}) as service:
        measure(service, bodies, options.requests)  # warms up
        alone = measure(service, bodies, options.requests)
        rows = [_row("nobody", alone, alone)]
        beside: dict[str, Seen] = {}
        for kind in options.kinds.split(","):
            num_callers = NUM_HEADS if kind == half_a_head.__name__ else options.callers
            beside[kind] = _beside(service, kind, num_callers, bodies, options.requests)
            rows.append(_row(kind, beside[kind], alone))
            print(" ".join(rows[-1]), file=sys.stderr, flush=True)
    print(table(HEAD, rows))
    report({"alone": asdict(alone), "beside": {kind: asdict(seen) for kind, seen in beside.items()}}, out=options.out)


def measure(service: Running, bodies: Iterator[bytes], num_requests: int) -> Seen:
    """What the neighbour sees of so many requests, one after the other, and of probes between them."""
    latencies_s: list[float] = []
    livez_s = [0.0]
    num_failed = 0
    until = time.monotonic() + GIVE_UP_S
    for number in range(num_requests):
        if time.monotonic() > until:
            num_failed += num_requests - number
            break
        if number % 50 == 0:
            livez_s.append(_time(service, "GET", "/livez", b""))
        latency_s = _time(service, "POST", "/v1/score", next(bodies))
        num_failed += latency_s >= TIMEOUT_S
        latencies_s.append(latency_s)
    latencies_s += [GIVE_UP_S] * (num_requests - len(latencies_s))
    return Seen(percentile(latencies_s, 50) * 1e3, percentile(latencies_s, 99) * 1e3, num_failed, max(livez_s) * 1e3)


def _time(service: Running, method: str, path: str, body: bytes) -> float:
    """Seconds to a reply with 200; `TIMEOUT_S` for any other end."""
    started = time.perf_counter()
    connection = HTTPConnection("127.0.0.1", service.port, timeout=TIMEOUT_S, source_address=(NEIGHBOUR, 0))
    try:
        connection.request(method, path, body, FORM)
        reply = connection.getresponse()
        reply.read()
        is_served = reply.status == 200
    except (OSError, HTTPException):
        is_served = False
    finally:
        connection.close()
    return time.perf_counter() - started if is_served else TIMEOUT_S


def _beside(service: Running, kind: str, num_callers: int, bodies: Iterator[bytes], num_requests: int) -> Seen:
    [gateway] = living(service.pid, GATEWAY)
    before_mib = anonymous_mib(gateway)
    with _hostile(service, kind, num_callers):
        time.sleep(BEGIN_S)
        seen = measure(service, bodies, num_requests)
        seen.grew_mib = anonymous_mib(gateway) - before_mib
    time.sleep(REST_S)
    seen.left_mib = anonymous_mib(gateway) - before_mib
    return seen


@contextmanager
def _hostile(service: Running, kind: str, num_callers: int) -> Iterator[None]:
    program = [sys.executable, "-m", "loadtests.service.hostile_callers"]
    arguments = [kind, str(service.port), str(service.grpc_port), str(num_callers)]
    process = subprocess.Popen([*program, *arguments], stderr=subprocess.DEVNULL)  # nosec B603  # our own command
    with stopping(process):
        yield


def _row(name: str, seen: Seen, alone: Seen) -> tuple[str, ...]:
    numbers: Mapping[str, float] = {
        "p50": seen.p50_ms,
        "p50 ratio": seen.p50_ms / alone.p50_ms,
        "p99": seen.p99_ms,
        "p99 ratio": seen.p99_ms / alone.p99_ms,
    }
    rest = (f"{seen.num_failed}", f"{seen.livez_ms:.0f}", f"{seen.grew_mib:.0f}", f"{seen.left_mib:.0f}")
    return (name, *(f"{number:.1f}" for number in numbers.values()), *rest)


if __name__ == "__main__":
    main()
