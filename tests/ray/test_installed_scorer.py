"""A scorer of another package, found by its entry point in every process of a running service."""

import os
import shutil
from pathlib import Path

import httpx
import pytest

from plumbline_client import Client, GrpcClient, Image, Item

pytestmark = pytest.mark.ray
MODULE = Path(__file__).parents[1] / "serve" / "agreement.py"
CONFIG = "scorers:\n  clipscore: {}\n  agreement: {}\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder as pip would leave it: one module, and the entry point that registers its scorer."""
    folder = tmp_path / "site"
    facts = folder / "agreement-1.0.dist-info"
    facts.mkdir(parents=True)
    shutil.copy(MODULE, folder)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: agreement\nVersion: 1.0\n", encoding="utf-8")
    (facts / "entry_points.txt").write_text("[plumbline.scorers]\nagreement = agreement:Agreement\n", encoding="utf-8")
    return folder


def test_a_scorer_of_another_package_answers_in_the_running_service(start, site, png_of):
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    running = start(CONFIG, PYTHONPATH=path)
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
