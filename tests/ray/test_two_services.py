"""Two services on one machine, as where a new version is tried beside the old one: each answers its own callers."""

import pytest

from plumbline_client import Client, GrpcClient, Image, Item

pytestmark = pytest.mark.ray

NUM_CALLS = 8  # HAProxy takes turns; one call alone might meet the right one by chance


def test_callers_of_one_service_are_never_answered_by_another(start, png_of):
    services = {scorer: start(f"scorers: {{{scorer}: {{}}}}") for scorer in ("clipscore", "qualiclip")}
    item = Item(image=Image.data(png_of(1)), text="a red circle")
    for scorer, service in services.items():
        with Client(service.url) as rest, GrpcClient(service.target) as grpc:
            for _ in range(NUM_CALLS):
                for client in (rest, grpc):
                    (result,) = client.score([item]).results
                    assert set(result.scores) == {scorer}
