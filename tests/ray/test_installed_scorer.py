"""A scorer of another package, found by its entry point in every process of a running service."""

from pathlib import Path

import httpx
import pytest

from plumbline_client import Client, GrpcClient, Image, Item
from tests.installed_package import installed, path_with

pytestmark = pytest.mark.ray
MODULE = Path(__file__).parents[1] / "serve" / "agreement.py"
CONFIG = "scorers:\n  clipscore: {}\n  agreement: {}\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The scorer's package."""
    return installed(tmp_path, MODULE, {"agreement": "agreement:Agreement"})


def test_a_scorer_of_another_package_answers_in_the_running_service(start, site, png_of):
    running = start(CONFIG, PYTHONPATH=path_with(site))
    item = Item(image=Image.data(png_of(3)), text="a red circle")
    with Client(running.url) as rest, GrpcClient(running.target) as rpc:
        [over_rest], [over_grpc] = (client.score([item]).results for client in (rest, rpc))
    scores = over_rest.scores
    cosine = scores["clipscore"].cosine
    assert cosine is not None
    assert scores["agreement"].value == pytest.approx((1 + cosine) / 2, abs=1e-7)
    assert over_grpc.scores["agreement"].value == scores["agreement"].value
    listed = httpx.get(f"{running.url}/v1/scorers", timeout=30).json()["scorers"]
    assert [entry["id"] for entry in listed] == ["clipscore", "agreement"]
