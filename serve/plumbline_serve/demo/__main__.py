"""Runs the demo; exit status 0 if the service started, both protocols gave the same numbers, and it stopped cleanly."""

import contextlib
import os
import signal
import subprocess  # nosec B404  # our own programs
import sys
import time
from collections.abc import Iterator

import httpx
from rich.console import Console
from rich.table import Table

from plumbline_client import Client, GrpcClient, Image, Item, ItemResult, ScoreReply
from plumbline_serve.demo import Exhibit, exhibits
from plumbline_serve.machine.ports import free_port

START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 90
POLL_S = 0.25
FORMATS = {"fclipscore": ".5f"}  # its values are small
PIPED_WIDTH = 124  # columns, where no terminal says how many it has
console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)


def main() -> int:
    """Start, score, print, stop."""
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
        is_same = _score_gallery(f"http://{host}:{port}", f"{host}:{grpc_port}")
    console.print(f"Stopped with exit status {service.returncode}.")
    return 0 if is_same and service.returncode == 0 else 1


@contextlib.contextmanager
def _service(host: str, port: int, grpc_port: int) -> Iterator[subprocess.Popen[bytes]]:
    ports = ["--host", host, "--port", str(port), "--grpc-port", str(grpc_port)]
    command = [sys.executable, "-m", "plumbline_serve.cli", "serve", "--log-format", "text", *ports]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as service:  # noqa: S603 - our own command  # nosec B603
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


def _score_gallery(url: str, target: str) -> bool:
    """Score the gallery over both protocols and print the scores; whether both gave the same ones."""
    shown = exhibits()
    items = [item for exhibit in shown for item in _items(exhibit)]
    with Client(url) as rest, GrpcClient(target) as grpc:
        over_rest, over_grpc = rest.score(items), grpc.score(items)
    _print(shown, over_rest)
    is_same = _values(over_rest) == _values(over_grpc)
    console.print("REST and gRPC agree bit for bit." if is_same else "[red]REST and gRPC disagree.[/]")
    return is_same


def _items(exhibit: Exhibit) -> list[Item]:
    image = Image.file(exhibit.path)
    return [Item(image=image, text=exhibit.right), Item(image=image, text=exhibit.wrong)]


def _print(shown: list[Exhibit], reply: ScoreReply) -> None:
    """Two lines per image: its right caption, then its wrong one."""
    scorers = list(reply.results[0].scores)
    table = Table(title="What the images show, and what they do not", title_justify="left")
    for heading in ("image", "", "caption"):
        table.add_column(heading)
    for scorer in scorers:
        table.add_column(scorer, justify="right")
    captions = [(e.path.stem, text, mark) for e in shown for text, mark in ((e.right, "right"), (e.wrong, "wrong"))]
    for (name, text, mark), result in zip(captions, reply.results, strict=True):
        values = [f"{result.value(scorer):{FORMATS.get(scorer, '.3f')}}" for scorer in scorers]
        is_second = mark == "wrong"
        table.add_row("" if is_second else name, mark, _marked(text, result), *values, end_section=is_second)
    console.print(table)
    console.print("Marked: words that fclipscore says the image does not show.")


def _marked(text: str, result: ItemResult) -> str:
    """The caption with its misaligned words marked, so that they are seen without colours, too."""
    words = [word for score in result.scores.values() for word in score.words if word.misaligned]
    for word in sorted(words, key=lambda word: word.start, reverse=True):
        text = f"{text[: word.start]}[bold red]>{text[word.start : word.end]}<[/]{text[word.end :]}"
    return text


def _values(response: ScoreReply) -> list[dict[str, float]]:
    return [{name: score.value or 0.0 for name, score in result.scores.items()} for result in response.results]


if __name__ == "__main__":
    sys.exit(main())
