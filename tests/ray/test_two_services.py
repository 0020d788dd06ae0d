"""Two services on one machine, as where a new version is tried beside the old one: each answers its own callers."""

from pathlib import Path

import pytest

from plumbline_client import Client, GrpcClient, Image, Item

pytestmark = pytest.mark.ray

NUM_CALLS = 8  # HAProxy takes turns; one call alone might meet the right one by chance


def test_callers_of_one_service_are_never_answered_by_another(start, png_of, tmp_path):
    long_tmp = str(tmp_path / "where the paths of sockets would be too long")
    Path(long_tmp).mkdir()
    environments = {"clipscore": {}, "qualiclip": {"TMPDIR": long_tmp}}
    services = {scorer: start(f"scorers: {{{scorer}: {{}}}}", **each) for scorer, each in environments.items()}
    item = Item(image=Image.data(png_of(1)), text="a red circle")
    for scorer, service in services.items():
        with Client(service.url) as rest, GrpcClient(service.target) as grpc:
            for _ in range(NUM_CALLS):
                for client in (rest, grpc):
                    (result,) = client.score([item]).results
                    assert set(result.scores) == {scorer}
