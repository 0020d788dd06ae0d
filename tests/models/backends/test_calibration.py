import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from plumbline_models.backends.calibration import MAX_IMAGES, MIN_IMAGES, Calibration
from plumbline_models.core.arrays import Array, Pixels
from plumbline_models.core.errors import ConfigError
from tests.models.backends.calibration_images import draw_calibration_images


def as_it_is(image: Pixels) -> Mapping[str, Array]:
    return {"pixels": image[None]}


def test_images_come_in_order_of_name_a_batch_each(tmp_path: Path) -> None:
    draw_calibration_images(tmp_path, MIN_IMAGES)
    (tmp_path / "007.png").rename(tmp_path / "zzz.png")
    calibration = Calibration.of(tmp_path)
    assert [path.name for path in calibration.files[-2:]] == ["015.png", "zzz.png"]
    batches = calibration.batches(as_it_is)
    assert [batch["pixels"].shape for batch in batches] == [(1, 48, 48, 3)] * MIN_IMAGES
    assert all(batch["pixels"].flags.writeable for batch in batches)


def test_the_digest_is_of_the_images_and_not_of_their_names(tmp_path: Path) -> None:
    first = Calibration.of(draw_calibration_images(tmp_path / "one", MIN_IMAGES))
    (draw_calibration_images(tmp_path / "two", MIN_IMAGES) / "015.png").rename(tmp_path / "two" / "last.png")
    assert Calibration.of(tmp_path / "two").digest == first.digest
    assert Calibration.of(draw_calibration_images(tmp_path / "three", MIN_IMAGES, seed=1)).digest != first.digest


def test_no_more_than_enough_are_taken_and_hidden_files_are_not(tmp_path: Path) -> None:
    draw_calibration_images(tmp_path, MAX_IMAGES + 3)
    (tmp_path / ".000.png").write_bytes(b"")
    names = [path.name for path in Calibration.of(tmp_path).files]
    assert (len(names), names[0], names[-1]) == (MAX_IMAGES, "000.png", f"{MAX_IMAGES - 1:03}.png")


def test_what_is_no_image_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    draw_calibration_images(tmp_path, MIN_IMAGES)
    (tmp_path / "README.txt").write_text("not a image")
    assert len(Calibration.of(tmp_path).batches(as_it_is)) == MIN_IMAGES
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "README.txt is left out" in record.getMessage()


def test_too_few_that_can_be_decoded_are_refused(tmp_path: Path) -> None:
    draw_calibration_images(tmp_path, MIN_IMAGES)
    (tmp_path / "003.png").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="at least 16 images, the folder holds 15"):
        Calibration.of(tmp_path).batches(as_it_is)


@pytest.mark.parametrize(
    ("num_images", "words"),
    [
        pytest.param(MIN_IMAGES - 1, "at least 16 images, the folder holds 15", id="too few"),
        pytest.param(None, "cannot be read", id="no folder"),
    ],
)
def test_a_folder_that_will_not_do_is_refused(tmp_path: Path, num_images: int | None, words: str) -> None:
    if num_images is not None:
        draw_calibration_images(tmp_path / "images", num_images)
    with pytest.raises(ConfigError, match=words):
        Calibration.of(tmp_path / "images")


def test_bytes_of_images_are_told_apart_from_one_another(tmp_path: Path) -> None:
    draw_calibration_images(tmp_path, MIN_IMAGES)
    before = Calibration.of(tmp_path).digest
    (tmp_path / "000.png").write_bytes((tmp_path / "001.png").read_bytes())
    assert Calibration.of(tmp_path).digest != before
    first, second, *_ = Calibration.of(tmp_path).batches(as_it_is)
    assert np.array_equal(first["pixels"], second["pixels"])
