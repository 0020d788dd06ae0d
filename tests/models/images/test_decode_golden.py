import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import skimage

from plumbline_models.images.decode import DecodePolicy, decode
from plumbline_models.images.preprocess_pixels import normalise, preprocess_pixels
from plumbline_models.images.preprocess_spec import PreprocessSpec

GOLDEN = Path(__file__).parents[2] / "golden"
PHOTOGRAPHS = Path(skimage.__file__).parent / "data"
AS_THE_PAPERS = DecodePolicy(exif_orientation="ignore", alpha="drop")

QUALICLIP = json.loads((GOLDEN / "qualiclip" / "golden.json").read_text())["cases"]
FCLIPSCORE = json.loads((GOLDEN / "fclipscore" / "b32_quickgelu.json").read_text())["images"]


@pytest.mark.parametrize(
    "case", [case for case in QUALICLIP if case["mode"] != "I;16"], ids=lambda case: str(case["id"])
)
def test_qualiclip_images_decode_as_its_own_program_saw_them(case: dict[str, Any]) -> None:
    pixels = decode((GOLDEN / "qualiclip" / case["file"]).read_bytes(), AS_THE_PAPERS)
    assert pixels.shape == (case["height"], case["width"], 3)
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == case["rgb_sha256"]


@pytest.mark.parametrize("name", FCLIPSCORE)
def test_fclipscore_images_decode_and_fit_as_its_own_program_saw_them(name: str) -> None:
    expected = FCLIPSCORE[name]
    pixels = decode((PHOTOGRAPHS / name).read_bytes(), AS_THE_PAPERS)
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == expected["rgb_sha256"]
    spec = PreprocessSpec()
    tensor = normalise(preprocess_pixels(pixels, spec), spec)
    assert tensor.reshape(-1)[:4].tolist() == pytest.approx(expected["pixel_first4"], abs=1e-8)  # printed digits
    assert hashlib.sha256(tensor.tobytes()).hexdigest() == expected["pixel_sha256"]


def test_sixteen_bit_grey_is_rescaled_where_the_papers_program_clips_it_to_white() -> None:
    pixels = decode((GOLDEN / "qualiclip" / "images" / "gray_I16_96x128.png").read_bytes(), AS_THE_PAPERS)
    assert pixels.shape == (96, 128, 3)
    assert pixels.min() < 64
    assert pixels.max() > 192
