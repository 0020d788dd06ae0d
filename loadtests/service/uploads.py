"""What a gateway keeps of large requests, by the settings of its allocator (glibc).

    python -m loadtests.service.uploads [--ways NAME ...]

Eight callers send 64 requests of 60 MiB, JSON and forms in turn, to a service that is alone on the machine's loopback
interface. The images are bytes that no decoder reads, so that nothing but the way in is measured.
"""

import argparse
import base64
import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil

from loadtests.service.memory import anonymous_mib
from loadtests.service.running import Running, processes, running

NUM_UPLOADS, NUM_CALLERS = 64, 8
REQUEST_BYTES, NUM_IMAGES = 60 * 2**20, 4
TIMEOUT_S = 300.0
SETTLE_S = 15.0  # longer than a gateway waits until it gives memory back
WAYS: Mapping[str, Mapping[str, str]] = {
    "as it is": {},
    "4 arenas": {"MALLOC_ARENA_MAX": "4"},
    "mapping from 1 MiB": {"MALLOC_MMAP_THRESHOLD_": str(2**20)},
    "both": {"MALLOC_ARENA_MAX": "4", "MALLOC_MMAP_THRESHOLD_": str(2**20)},
}


def gateway_pid(service: Running) -> int:
    """The process that answers callers."""
    return next(int(each.pid) for each in processes(service.pid) if "Gateway" in " ".join(each.cmdline()))


def bodies() -> list[tuple[bytes, str]]:
    """A request as JSON and as a form, each with its media type."""
    image = os.urandom(REQUEST_BYTES // NUM_IMAGES)
    text = base64.b64encode(image[: len(image) // 4 * 3]).decode()
    items = [{"image": {"b64": text}, "text": str(number)} for number in range(NUM_IMAGES)]
    named = [{"image": {"part": str(number)}, "text": str(number)} for number in range(NUM_IMAGES)]
    document = json.dumps({"items": named}).encode()
    files = {"request": ("request", document, "application/json")}
    files |= {str(number): (str(number), image, "application/octet-stream") for number in range(NUM_IMAGES)}
    form = httpx.Request("POST", "http://x", files=files)
    return [
        (json.dumps({"items": items}).encode(), "application/json"),
        (form.read(), form.headers["content-type"]),
    ]


def upload(url: str, body: bytes, media_type: str) -> None:
    """Send one request, again where there is no room for it."""
    while True:
        reply = httpx.post(f"{url}/v1/score", content=body, headers={"content-type": media_type}, timeout=TIMEOUT_S)
        if reply.status_code not in {429, 503}:
            reply.raise_for_status()
            return
        time.sleep(0.5)


def measure(environment: Mapping[str, str]) -> tuple[float, float, float]:
    """MiB of anonymous memory of a gateway: ready, after the uploads, and a while later."""
    with running("limits: {max_upload_s: 600}\n", environment) as service:
        pid = gateway_pid(service)
        held, sent = [anonymous_mib(pid)], bodies()
        with ThreadPoolExecutor(NUM_CALLERS) as callers:
            url = f"http://127.0.0.1:{service.port}"
            list(callers.map(lambda number: upload(url, *sent[number % len(sent)]), range(NUM_UPLOADS)))
        held.append(anonymous_mib(pid))
        time.sleep(SETTLE_S)
        held.append(anonymous_mib(pid))
        if not psutil.pid_exists(pid):
            raise RuntimeError("The gateway did not outlive the uploads.")
    return held[0], held[1], held[2]


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    print(f"| allocator | ready, MiB | after {NUM_UPLOADS} uploads, MiB | {SETTLE_S:.0f} s later, MiB |")
    print("| --- | --- | --- | --- |", flush=True)
    for name in parser.parse_args().ways:
        row = " | ".join(f"{held:.0f}" for held in measure(WAYS[name]))
        print(f"| {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()
