"""`images.jpeg_decoder: nvjpeg` as callers see it: CPUs decode for deterministic requests, and without a GPU."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from plumbline_models.core.errors import ConfigError
from plumbline_models.core.protocols import Score
from plumbline_models.images.decode import DecodePolicy
from plumbline_models.images.nvjpeg import NvJpegDecoder
from plumbline_serve.assembly import assembled
from plumbline_serve.messages import EncodedImage, Item, ItemScores, ScoreReply, ScoreRequest
from plumbline_serve.metrics import exposition
from plumbline_serve.requests.binding import Bindings
from plumbline_serve.settings import ImageSettings, Settings, load_settings

OFF_BY_ONE = """
from plumbline_models.images.nvjpeg import process

opened = process.open_codec

def open_codec(options):
    decode = opened(options)
    return lambda files: [pixels + (pixels < 255) for pixels in decode(files)]

process.open_codec = open_codec
process.main()
"""
"""What decodes by nvImageCodec on the CPU, to pixels that are as far off as is allowed."""


def value_of(reply: ScoreReply, scorer: str) -> float:
    (result,) = reply.results
    assert isinstance(result, ItemScores)
    score = result.scores[scorer]
    assert isinstance(score, Score)
    return score.value


def grey_jpeg() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((256, 256, 3), 7, np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


async def test_deterministic_requests_are_decoded_by_the_cpu(open_pipeline: Any) -> None:
    nvjpeg = NvJpegDecoder(device=None, program=("-c", OFF_BY_ONE))
    assert nvjpeg.settle()
    pipeline = await open_pipeline(policy=DecodePolicy(), nvjpeg=nvjpeg, image=2**20)
    item = Item(id="1", image=EncodedImage(grey_jpeg()), text=None)
    found: list[float] = []
    for is_deterministic in (False, True, False, True):
        request = ScoreRequest([item], scorers=("mean",), deterministic=is_deterministic)
        found.append(value_of(await pipeline.score(request), "mean"))
    assert found == [8.0, 7.0, 8.0, 7.0]  # kept apart, too


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU")
async def test_where_no_gpu_decodes_cpus_do_and_the_metric_says_so() -> None:
    values = []
    for decoder in ("cpu", "nvjpeg"):
        settings = Settings(backend="openvino", scorers={"clipscore": {}}, images={"jpeg_decoder": decoder})
        async with assembled(settings) as assembly:
            item = Item(id="1", image=EncodedImage(grey_jpeg()), text="grey")
            values.append(value_of(await assembly.service.score(ScoreRequest([item])), "clipscore"))
            said = exposition([assembly.instruments.snapshot()]).decode()
    assert values[0] == values[1]
    assert re.search(r'plumbline_engine_fallbacks_total{backend="nvjpeg",graph="jpeg"} 1', said)


def test_what_is_bound_to_the_cpu_s_pixels_is_not_to_nvjpeg_s() -> None:
    as_ever = {"images.exif_orientation": "apply", "images.alpha": "white"}
    assert Bindings.of(ImageSettings()).conventions == as_ever
    assert Bindings.of(ImageSettings(jpeg_decoder="nvjpeg")).conventions == {
        **as_ever,
        "images.jpeg_decoder": "nvjpeg",
    }


def test_the_split_layout_refuses_nvjpeg(tmp_path: Path) -> None:
    path = tmp_path / "plumbline.yaml"
    path.write_text("images: {jpeg_decoder: nvjpeg}\nreplicas: {layout: split}\n")
    with pytest.raises(ConfigError, match=r"needs replicas\.layout: fused"):
        load_settings(path)
