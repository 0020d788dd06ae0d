"""Edges that speak every wire format: over the embedded networks on the fake backend, and over rules that fail."""

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

from plumbline_serve.assembly import assemble, local_compute
from plumbline_serve.configured_scorers import encoders_of, make_scorers
from plumbline_serve.messages import Ranked
from plumbline_serve.metrics import Instruments
from plumbline_serve.scheduling.request_context import ANYONE, Caller
from plumbline_serve.settings import Limits, Settings
from plumbline_serve.settings.access import AuthSettings, EdgeSettings, Protocol
from tests.keys import add_key
from tests.serve.edge.rule_service import ENCODERS, SCORERS, RuleService

ALL = EdgeSettings(compat=get_args(Protocol))
LIMITS = Limits(max_items=8, max_request_bytes=2**20, max_pixels=250_000, max_text_chars=200)


@pytest.fixture(scope="session")
def edge(open_for_all: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The embedded networks as the gateway assembles them."""
    return open_networks(open_for_all, tmp_path_factory.mktemp("cache"), ALL)


@pytest.fixture(scope="session")
def scaled(open_for_all: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same with a scale of rewards as UniRL has it."""
    changed = ALL.model_copy(update={"reward_divisors": {"clipscore": 0.75}})
    return open_networks(open_for_all, tmp_path_factory.mktemp("scaled"), changed)


def open_networks(open_for_all: Callable[..., Any], cache: Path, edge: EdgeSettings) -> Any:
    """The embedded networks on the fake backend behind an edge of those settings."""
    sections: dict[str, Any] = {"clipscore": {}, "qualiclip": {}, "vqascore": {}}
    settings = Settings(backend="fake", precision="fp32", scorers=sections, limits=LIMITS, edge=edge, cache_dir=cache)
    scorers, instruments = make_scorers(settings), Instruments()
    compute = local_compute(settings, encoders_of(scorers.values()), instruments)
    service = assemble(settings, scorers, compute=compute, instruments=instruments).service
    opened = open_for_all(settings, service)
    opened.closers.insert(0, lambda: opened.loop.run(compute.close()))
    opened.loop.run(compute.start())
    service.is_loaded = True
    return opened


@pytest.fixture(scope="session")
def _rules(open_for_all: Callable[..., Any]) -> Any:
    return open_for_all(Settings(limits=LIMITS, edge=ALL))


@pytest.fixture
def rules(_rules: Any) -> Any:
    """The service of rules, whose texts say how a request fails."""
    _rules.service.received.clear()
    _rules.service.is_ready = True
    _rules.notebook.requests.clear()
    return _rules


class TwoTowers(RuleService):
    """The same rules, by a scorer that has encoders of images and of texts."""

    async def scorers(self) -> Any:
        """One, of both."""
        return [replace(SCORERS[0], needs=("image", "text"), encoders=("mini/image", "mini/text"))]

    async def rank(self, request: Any, caller: Caller = ANYONE) -> Any:
        """In plain numbers."""
        reply = await super().rank(request, caller)
        return replace(reply, ranking=[Ranked(each.index, float(each.value)) for each in reply.ranking])

    async def encoders(self) -> Any:
        """Those two."""
        return [ENCODERS[0], replace(ENCODERS[0], key="mini/text", kind="text")]


@pytest.fixture
def towers(open_for_all: Callable[..., Any]) -> Any:
    """The service of rules with both encoders."""
    return open_for_all(Settings(limits=LIMITS, edge=ALL), TwoTowers())


@pytest.fixture(scope="session")
def guarded(open_for_all: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same, open to those who know the key."""
    keys = tmp_path_factory.mktemp("keys") / "keys.yaml"
    add_key(keys, "the-key")
    return open_for_all(Settings(limits=LIMITS, edge=ALL, auth=AuthSettings(keys_file=keys)))


def encoded(seed: int, kind: str = "PNG") -> bytes:
    """A small image file."""
    out = io.BytesIO()
    Image.new("RGB", (40, 32), (seed * 40 % 256, seed * 90 % 256, 80)).save(out, kind)
    return out.getvalue()


@pytest.fixture(scope="session")
def image() -> Callable[..., bytes]:
    """Makes small image files."""
    return encoded


@pytest.fixture(scope="session")
def b64() -> Callable[..., str]:
    """Makes them in base64."""
    return lambda *args: base64.b64encode(encoded(*args)).decode()


@pytest.fixture(scope="session")
def scored(edge: Any) -> Callable[..., list[float]]:
    """What our own route says of images and texts."""

    def score(scorer: str, images: list[bytes], texts: list[str] | None = None) -> list[float]:
        items = [{"image": {"b64": base64.b64encode(each).decode()}} for each in images]
        for item, text in zip(items, texts or (), strict=False):
            item["text"] = text  # type: ignore[assignment]
        reply = edge.post("/v1/score", {"scorers": [scorer], "items": items})
        return [each["scores"][scorer]["value"] for each in reply.json()["results"]]

    return score
