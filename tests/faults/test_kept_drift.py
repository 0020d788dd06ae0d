"""What gateways have counted for drift is still there when all of them were killed."""

import base64
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from loadtests.service.faults import GATEWAY, Fault, wait_until_replaced
from tests.faults.conftest import CONFIG
from tests.services import encoded, picture

pytestmark = pytest.mark.ray
WAIT_S = 60.0
NUM_SCORES = 40
WIDE = f"{CONFIG}store: sqlite:///store.db\nreplicas: {{layout: split, num_gateways: 2, num_encoders: 1}}\n"


def num_kept(store: Path) -> tuple[int, int]:
    """Scores in the store, and processes that they are of."""
    with closing(sqlite3.connect(store)) as connection:
        rows = connection.execute("SELECT document, process FROM plumbline_drift_counts").fetchall()
    return sum(sum(json.loads(document)["scores"][1]) for document, _ in rows), len({process for _, process in rows})


def num_counted(url: str) -> int:
    """Scores in the window, as a gateway says that takes calls."""
    while True:
        try:
            reply = httpx.get(f"{url}/v1/drift", timeout=WAIT_S)
        except httpx.TransportError:
            continue
        if reply.status_code == httpx.codes.OK:
            return int(reply.json()["scorers"]["qualiclip"]["m"])
        time.sleep(0.1)


def test_counts_of_gateways_that_were_killed_are_read_by_those_that_follow(start) -> None:
    service = start(WIDE)
    made = {"scorer": "qualiclip", "values": [0.3 + index / 500 for index in range(200)]}
    assert httpx.post(f"{service.url}/v1/references", json=made, timeout=WAIT_S).status_code == httpx.codes.OK
    for seed in range(NUM_SCORES):  # each on a connection of its own
        image = {"b64": base64.b64encode(encoded(picture(seed), "PNG")).decode()}
        asked = {"scorers": ["qualiclip"], "items": [{"image": image}]}
        assert httpx.post(f"{service.url}/v1/score", json=asked, timeout=WAIT_S).json()["results"][0]["status"] == "ok"
    assert num_counted(service.url) == NUM_SCORES
    store = service.log.with_name("store.db")
    while num_kept(store) != (NUM_SCORES, 2):
        time.sleep(0.1)
    fault = Fault(GATEWAY)
    struck = fault.inject(service.process.pid)
    assert len(struck) == 2
    wait_until_replaced(service.process.pid, fault, struck)
    assert num_counted(service.url) == NUM_SCORES
