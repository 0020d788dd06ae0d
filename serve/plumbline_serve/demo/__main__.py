"""Runs the demo; exit status 0 if the service started, answered the same over both protocols, and stopped cleanly."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
from rich.console import Console
from rich.table import Table

from plumbline_client import Client, GrpcClient, Image, Item, ItemResult, ScoreResponse
from plumbline_serve.demo.gallery import Exhibit, exhibits
from plumbline_serve.ray_environment import free_port

START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 90
POLL_S = 0.25
console = Console()


def main() -> int:
    """Start, ask, print, stop."""
    host = os.environ.get("PLUMBLINE_HOST", "127.0.0.1")
    port = int(os.environ.get("PLUMBLINE_PORT") or free_port())
    grpc_port = int(os.environ.get("PLUMBLINE_GRPC_PORT") or free_port())
    console.print(f"Starting Plumbline on {host}:{port} (REST) and {host}:{grpc_port} (gRPC) …")
    with _service(host, port, grpc_port) as service:
        started = time.monotonic()
        if not _becomes_ready(service, f"http://{host}:{port}/readyz"):
            console.print("[red]The service did not become ready.[/]")
            return 1
        console.print(f"Ready after {time.monotonic() - started:.0f} s.\n")
        is_same = _ask(f"http://{host}:{port}", f"{host}:{grpc_port}")
    console.print(f"Stopped with exit status {service.returncode}.")
    return 0 if is_same and service.returncode == 0 else 1


@contextlib.contextmanager
def _service(host: str, port: int, grpc_port: int) -> Iterator[subprocess.Popen[bytes]]:
    ports = ["--host", host, "--port", str(port), "--grpc-port", str(grpc_port)]
    command = [sys.executable, "-m", "plumbline_serve.cli", "serve", *ports]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as service:  # noqa: S603 - our own command
        try:
            yield service
        finally:
            service.send_signal(signal.SIGTERM)
            try:
                service.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                service.kill()


def _becomes_ready(service: subprocess.Popen[bytes], url: str) -> bool:
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until and service.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=5).is_success:
                return True
        time.sleep(POLL_S)
    return False


def _ask(url: str, target: str) -> bool:
    """Score the gallery over both protocols and print the answers side by side; whether they are equal."""
    shown = exhibits()
    items = [item for exhibit in shown for item in _items(exhibit)]
    with Client(url) as rest, GrpcClient(target) as grpc:
        over_rest, over_grpc = rest.score(items), grpc.score(items)
    for scorer in over_rest.results[0].scores:
        _print(scorer, shown, over_rest, over_grpc)
    is_same = _values(over_rest) == _values(over_grpc)
    console.print("REST and gRPC agree bit for bit." if is_same else "[red]REST and gRPC disagree.[/]")
    return is_same


def _items(exhibit: Exhibit) -> list[Item]:
    image = Image.file(exhibit.path)
    return [Item(image=image, text=exhibit.right), Item(image=image, text=exhibit.wrong)]


def _print(scorer: str, shown: list[Exhibit], over_rest: ScoreResponse, over_grpc: ScoreResponse) -> None:
    table = Table(title=scorer, title_justify="left")
    for heading in ("image", "caption", "", "REST", "gRPC"):
        table.add_column(heading, justify="right" if heading in {"REST", "gRPC"} else "left")
    captions = [(e.path.name, text, mark) for e in shown for text, mark in ((e.right, "right"), (e.wrong, "wrong"))]
    for (name, text, mark), rest, grpc in zip(captions, over_rest.results, over_grpc.results, strict=True):
        caption = _marked(text, rest, scorer)
        table.add_row(name, caption, mark, f"{rest.value(scorer):.6g}", f"{grpc.value(scorer):.6g}")
    console.print(table)


def _marked(text: str, result: ItemResult, scorer: str) -> str:
    """The caption with its misaligned words marked, where the scorer names any."""
    for word in sorted(result.scores[scorer].words, key=lambda word: word.start, reverse=True):
        if word.misaligned:
            text = f"{text[: word.start]}[bold red]{text[word.start : word.end]}[/]{text[word.end :]}"
    return text


def _values(response: ScoreResponse) -> list[dict[str, float]]:
    return [{name: score.value or 0.0 for name, score in result.scores.items()} for result in response.results]


if __name__ == "__main__":
    sys.exit(main())
