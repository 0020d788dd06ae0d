"""A batch that never ends inside an engine: the watchdog finds it, Ray replaces the replica, callers are told."""

import base64
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.service.faults import GATEWAY, living
from tests.installed_package import installed, path_with
from tests.services import encoded, picture

pytestmark = pytest.mark.ray
WAIT_S = 120.0
STUCK_S = 5.0
CONFIG = "scorers: {clipscore: {}, hanging: {}}\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The scorer's package."""
    return installed(tmp_path, Path(__file__).with_name("hanging.py"), {"hanging": "hanging:Hanging"})


def test_a_gateway_whose_engine_hangs_is_replaced_and_its_callers_are_told(start, site: Path, tmp_path: Path) -> None:
    hangs = tmp_path / "hangs"
    service = start(CONFIG, PYTHONPATH=path_with(site), HANGS_WHILE_THERE=str(hangs), STUCK_S=str(STUCK_S))
    image = {"b64": base64.b64encode(encoded(picture(3), "PNG")).decode()}

    def ask(text: str, scorer: str) -> int | None:
        """The status, or None where the connection ends without one."""
        body: dict[str, Any] = {"items": [{"image": image, "text": text}], "scorers": [scorer]}
        try:
            reply = httpx.post(f"{service.url}/v1/score", json=body, timeout=WAIT_S)
        except httpx.TransportError:
            return None
        assert reply.status_code != 200 or reply.json()["results"][0]["status"] == "ok"
        return reply.status_code

    assert ask("a red circle", "hanging") == 200
    (gateway,) = living(service.process.pid, GATEWAY)
    hangs.touch()
    began = time.monotonic()
    with ThreadPoolExecutor(1) as callers:
        hung = callers.submit(ask, "a blue square", "hanging")
        while gateway in living(service.process.pid, GATEWAY):
            assert time.monotonic() - began < WAIT_S
            time.sleep(0.2)
        hangs.unlink()
        assert time.monotonic() - began >= STUCK_S
        assert hung.result() in {None, 503}
        while ask("a green star", "hanging") != 200:
            assert time.monotonic() - began < WAIT_S
            time.sleep(0.2)
    print(f"hung engine: answered again after {time.monotonic() - began:.0f} s")  # noqa: T201 - figures, for -s
