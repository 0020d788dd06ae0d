import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from plumbline_models.images.resample import Interpolation, Window, enlarge_window

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@pytest.mark.parametrize("interpolation", FILTERS)
@settings(max_examples=150, deadline=None)  # sizes differ a hundredfold
@given(data=st.data())
def test_a_window_is_what_pillow_would_have_made_there(interpolation: Interpolation, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 120)), data.draw(st.integers(1, 120))
    resized = data.draw(st.integers(height, 400)), data.draw(st.integers(width, 400))
    top, left = data.draw(st.integers(0, resized[0] - 1)), data.draw(st.integers(0, resized[1] - 1))
    window = Window(
        top, left, data.draw(st.integers(1, resized[0] - top)), data.draw(st.integers(1, resized[1] - left))
    )
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    whole = np.asarray(Image.fromarray(pixels).resize(resized[::-1], FILTERS[interpolation]))
    expected = whole[top : top + window.height, left : left + window.width]
    kept = enlarge_window(pixels, resized, window=window, interpolation=interpolation)
    assert kept.flags.c_contiguous
    np.testing.assert_array_equal(kept, expected)
