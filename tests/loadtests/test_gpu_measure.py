"""The measurement for GPUs on tiny shapes on the CPU: that it runs with what a borrowed machine has, and counts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from loadtests.gpu import jpeg_to_score, rates
from loadtests.gpu.measure import NO_GPU, OK, SOME_FAILED, main
from loadtests.gpu.shapes import FULL, TINY
from plumbline_models.backends import Tuning

NOT_THERE = (
    *("aiohttp", "cachetools", "fastapi", "ftfy", "huggingface_hub", "nncf", "onnx", "onnx_ir", "onnxscript"),
    *("open_clip", "openvino", "prometheus_client", "pydantic", "pydantic_settings", "ray", "regex", "scipy"),
    *("sentencepiece", "simplejpeg", "tensorrt_rtx", "torchvision", "transformers", "yaml"),
)
PROGRAM = """
import sys
sys.modules.update(dict.fromkeys({packages}))
from loadtests.gpu.measure import main
sys.exit(main({words}))
"""


def test_the_whole_path_runs_with_nothing_but_torch_safetensors_and_pillow(tmp_path: Path) -> None:
    words = ["--tiny", "--only", "ViT", "--out", str(tmp_path)]
    program = PROGRAM.format(packages=NOT_THERE, words=words)
    ran = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=False)
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert (ran.returncode, report["failures"]) == (OK, []), ran.stderr[-2000:]
    [row], [scored] = report["rates"], report["jpeg_to_score"]
    assert set(row["rows_a_second"]) == {"torch eager bf16", "torch.compile bf16", "torch-compile bf16"}
    assert all(rate > 0 for rate in row["rows_a_second"].values())
    assert scored["engine"] == "torch-compile bf16"
    assert scored["images_a_second"] > 0
    assert scored["images_a_second_by_nvjpeg"] is None  # simplejpeg is not there
    assert scored["p50_ms"] > 0
    page = (tmp_path / "gpu.md").read_text()
    assert "| ViT-L/14-336 image | 2 |" in page


def test_jpegs_decoded_by_nvjpeg_are_measured_where_it_can_be_used(tmp_path: Path) -> None:
    measured = TINY.measured()[0]
    engine = rates.openers(None, Tuning(tmp_path, device="cpu", num_threads=1), has_variants=False)["torch eager bf16"]
    few = jpeg_to_score.Offered(16, 8)
    by_cpu, by_none = (jpeg_to_score.measure(measured, engine(measured.graph), few, device=each) for each in (None, 0))
    assert by_cpu["images_a_second_by_nvjpeg"] > 0  # by nvImageCodec's own libjpeg-turbo
    assert torch.cuda.is_available() or by_none["images_a_second_by_nvjpeg"] is None


@pytest.mark.parametrize("measured", TINY.measured(), ids=lambda measured: measured.label)
def test_every_shape_is_measured(measured, tmp_path: Path) -> None:
    openers = rates.openers(None, Tuning(tmp_path, device="cpu", num_threads=1), has_variants=False)
    eager = {"torch eager bf16": openers["torch eager bf16"]}
    found = rates.measure(measured, eager, peak_flops=1e9, pace=rates.Pace(float("inf"), 1))
    assert [row["batch"] for row in found.rows] == list(measured.batches)
    for row in found.rows:
        assert row["failures"] == {}
        assert row["share_of_peak"]["torch eager bf16"] > 0


def test_an_engine_that_torch_stands_in_for_is_a_failure_and_no_figure(tmp_path: Path) -> None:
    measured = TINY.measured()[0]
    openers = rates.openers("tensorrt-rtx", Tuning(tmp_path, device="cuda"), has_variants=False)
    broken = {"tensorrt-rtx fp16": openers["tensorrt-rtx fp16"]}
    [row] = rates.measure(measured, broken, peak_flops=1e9, pace=rates.Pace(float("inf"), 1)).rows
    assert row["rows_a_second"] == {}
    assert "no NVIDIA GPU" in row["failures"]["tensorrt-rtx fp16"]


def test_operations_are_counted_as_the_field_counts_them() -> None:
    by_label = {measured.label: measured for measured in FULL.measured()}
    assert list(by_label)[:3] == ["ViT-L/14-336 image", "CLIP-FlanT5-XL image", "CLIP-FlanT5-XL score"]
    # 191 and 4.4 billion multiplications with additions, as open_clip's model profile has them, less what is
    # spared in the last block, of which the class token alone is read.
    assert rates.flop_of_a_row(by_label["ViT-L/14-336 image"]) == pytest.approx(2 * 191e9 * 0.97, rel=0.02)
    assert rates.flop_of_a_row(by_label["ViT-B/32 image"]) == pytest.approx(2 * 4.4e9 * 0.935, rel=0.02)


def test_without_time_nothing_is_measured_and_that_is_written_down(tmp_path: Path) -> None:
    assert main(["--tiny", "--minutes", "0", "--out", str(tmp_path)]) == SOME_FAILED
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["rates"] == []
    assert report["failures"] == [f"{measured.label}: no time was left" for measured in TINY.measured()]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path)]) == NO_GPU
    assert list(tmp_path.iterdir()) == []
