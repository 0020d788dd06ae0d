"""What the service tells its backends, and what they tell it."""

from pathlib import Path

from plumbline_serve.assembly import tuning_of
from plumbline_serve.metrics import Instruments, exposition
from plumbline_serve.settings import Settings


def test_an_engine_that_failed_is_counted_where_metrics_are_scraped() -> None:
    instruments = Instruments()
    instruments.fell_back("clip_image", "tensorrt")
    instruments.fell_back("clip_image", "tensorrt")
    line = b'plumbline_engine_fallbacks_total{backend="tensorrt",graph="clip_image"} 2.0'
    assert line in exposition([instruments.snapshot()])


def test_backends_are_told_the_configured_engines_and_sizes(tmp_path: Path) -> None:
    engines = {"dir": tmp_path, "typical": {"batch": 16}, "largest": {"height": 2048}}
    tuning = tuning_of(Settings(cache_dir=tmp_path / "cache", engines=engines))  # type: ignore[arg-type]
    assert (tuning.cache_dir, tuning.engines_dir) == (tmp_path / "cache", tmp_path)
    assert (tuning.typical_sizes, tuning.largest_sizes) == ({"batch": 16}, {"height": 2048})
