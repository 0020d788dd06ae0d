"""What the service tells its backends, and what they tell it."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from plumbline_models.backends.fallback import Fallback
from plumbline_models.core.errors import BackendUnavailableError, EngineError
from plumbline_models.core.graph import Graph
from plumbline_serve.configured_scorers import tuning_of
from plumbline_serve.metrics import Instruments, exposition
from plumbline_serve.settings import ReplicaSettings, Settings


def test_an_engine_that_failed_is_counted_where_metrics_are_scraped() -> None:
    instruments = Instruments()
    instruments.fell_back("clip_image", "tensorrt")
    instruments.fell_back("clip_image", "tensorrt")
    line = b'plumbline_engine_fallbacks_total{backend="tensorrt",graph="clip_image"} 2.0'
    assert line in exposition([instruments.snapshot()])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, when it is imported
@pytest.mark.parametrize("name", ["EncoderReplica", "Gateway"])
async def test_replicas_count_the_engines_that_their_backends_replace(name: str, tmp_path: Path) -> None:
    from plumbline_serve import deployments  # noqa: PLC0415 - Ray, under the filter above
    from plumbline_serve.deployments.generation import Generation  # noqa: PLC0415 - likewise

    deployment: Any = getattr(deployments, name)
    replica = deployment.__new__(deployment)
    auth = {"require_ray_token": False}
    settings = Settings(backend="tensorrt-rtx", scorers={"clipscore": {}}, cache_dir=tmp_path, auth=auth)
    is_encoder = name == "EncoderReplica"
    split = settings.model_copy(update={"replicas": ReplicaSettings(layout="split")})
    with pytest.raises(BackendUnavailableError):  # no GPU here; by then everything is put together
        await replica.__init__(*((Generation(1, split), "encoders") if is_encoder else (Generation(1, settings),)))
    compute = replica._compute if is_encoder else replica._local
    backend = next(iter(compute._encoders.values()))._open_backend()
    graph = Graph("clip_image", (), ("rows",), "", build=nn.Identity)
    fallback = Fallback(backend.name, backend.precision, backend._tuning)
    fallback.report(graph, EngineError("No engine."), instead="torch runs it")
    found = exposition([await replica.metrics_snapshot()])
    assert b'plumbline_engine_fallbacks_total{backend="tensorrt-rtx",graph="clip_image"} 1.0' in found


def test_backends_are_told_the_configured_engines_and_sizes(tmp_path: Path) -> None:
    engines = {"dir": tmp_path, "typical": {"batch": 16}, "largest": {"height": 2048}}
    tuning = tuning_of(Settings(cache_dir=tmp_path / "cache", engines=engines))
    assert (tuning.cache_dir, tuning.engines_dir) == (tmp_path / "cache", tmp_path)
    assert (tuning.typical_sizes, tuning.largest_sizes) == ({"batch": 16}, {"height": 2048})


@pytest.mark.parametrize("strips", [True, False])
def test_backends_are_told_where_weights_belong(tmp_path: Path, strips: bool) -> None:
    settings = Settings(cache_dir=tmp_path, engines={"strip_weights": strips})
    assert tuning_of(settings).strips_weights is strips


@pytest.mark.parametrize(("num_threads", "num_streams", "expected"), [(4, 2, 2), (2, 4, 2), (1, 1, 1)])
def test_an_engine_has_no_more_streams_than_threads(
    tmp_path: Path, num_threads: int, num_streams: int, expected: int
) -> None:
    replicas = {"compute_threads": num_threads, "compute_streams": num_streams}
    tuning = tuning_of(Settings(cache_dir=tmp_path, replicas=replicas))
    assert (tuning.num_threads, tuning.num_streams) == (num_threads, expected)
