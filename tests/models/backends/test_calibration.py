import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from plumbline_models.backends.openvino.calibration import MAX_PICTURES, MIN_PICTURES, Calibration
from plumbline_models.core.arrays import Array, Pixels
from plumbline_models.core.errors import ConfigError
from tests.models.backends.calibration_pictures import draw_pictures


def as_it_is(picture: Pixels) -> Mapping[str, Array]:
    return {"pixels": picture[None]}


def test_pictures_come_in_order_of_name_a_batch_each(tmp_path: Path) -> None:
    draw_pictures(tmp_path, MIN_PICTURES)
    (tmp_path / "007.png").rename(tmp_path / "zzz.png")
    calibration = Calibration.of(tmp_path)
    assert [path.name for path in calibration.files[-2:]] == ["015.png", "zzz.png"]
    batches = calibration.batches(as_it_is)
    assert [batch["pixels"].shape for batch in batches] == [(1, 48, 48, 3)] * MIN_PICTURES
    assert all(batch["pixels"].flags.writeable for batch in batches)


def test_the_digest_is_of_the_pictures_and_not_of_their_names(tmp_path: Path) -> None:
    first = Calibration.of(draw_pictures(tmp_path / "one", MIN_PICTURES))
    (draw_pictures(tmp_path / "two", MIN_PICTURES) / "015.png").rename(tmp_path / "two" / "last.png")
    assert Calibration.of(tmp_path / "two").digest == first.digest
    assert Calibration.of(draw_pictures(tmp_path / "three", MIN_PICTURES, seed=1)).digest != first.digest


def test_no_more_than_enough_are_taken_and_hidden_files_are_not(tmp_path: Path) -> None:
    draw_pictures(tmp_path, MAX_PICTURES + 3)
    (tmp_path / ".000.png").write_bytes(b"")
    names = [path.name for path in Calibration.of(tmp_path).files]
    assert (len(names), names[0], names[-1]) == (MAX_PICTURES, "000.png", f"{MAX_PICTURES - 1:03}.png")


def test_what_is_no_picture_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    draw_pictures(tmp_path, MIN_PICTURES)
    (tmp_path / "README.txt").write_text("not a picture")
    assert len(Calibration.of(tmp_path).batches(as_it_is)) == MIN_PICTURES
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "README.txt is left out" in record.getMessage()


def test_too_few_that_can_be_decoded_are_refused(tmp_path: Path) -> None:
    draw_pictures(tmp_path, MIN_PICTURES)
    (tmp_path / "003.png").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="at least 16 pictures, the folder holds 15"):
        Calibration.of(tmp_path).batches(as_it_is)


@pytest.mark.parametrize(
    ("num_pictures", "words"),
    [
        pytest.param(MIN_PICTURES - 1, "at least 16 pictures, the folder holds 15", id="too few"),
        pytest.param(None, "cannot be read", id="no folder"),
    ],
)
def test_a_folder_that_will_not_do_is_refused(tmp_path: Path, num_pictures: int | None, words: str) -> None:
    if num_pictures is not None:
        draw_pictures(tmp_path / "pictures", num_pictures)
    with pytest.raises(ConfigError, match=words):
        Calibration.of(tmp_path / "pictures")


def test_bytes_of_pictures_are_told_apart_from_one_another(tmp_path: Path) -> None:
    draw_pictures(tmp_path, MIN_PICTURES)
    before = Calibration.of(tmp_path).digest
    (tmp_path / "000.png").write_bytes((tmp_path / "001.png").read_bytes())
    assert Calibration.of(tmp_path).digest != before
    first, second, *_ = Calibration.of(tmp_path).batches(as_it_is)
    assert np.array_equal(first["pixels"], second["pixels"])
