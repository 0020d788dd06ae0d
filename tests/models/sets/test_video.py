"""Frames as one encoding: CLIP4Clip's own numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.sets.vectors import unit_rows
from plumbline_models.sets.video import pooled

GOLDEN: list[dict[str, Any]] = json.loads(
    Path("tests/golden/sets/video_pool_and_retrieval.json").read_text(encoding="utf-8")
)["cases"]
(CASE,) = [case for case in GOLDEN if case["name"] == "frame_pooling"]
RTOL = 1e-6  # the golden file's own


def test_pooled_frames_have_clip4clips_logits():
    given = CASE["input"]
    videos = [
        pooled([np.array(frame) for frame, is_there in zip(frames, mask, strict=True) if is_there])
        for frames, mask in zip(given["frames"], given["frame_mask"], strict=True)
    ]
    logits = given["logit_scale_exp"] * unit_rows(given["text"]) @ np.array(videos).T
    assert logits == pytest.approx(np.array(CASE["expected"]["clip4clip_meanP_logits_text_by_video"]), rel=RTOL)


def test_frames_that_cancel_out_have_no_encoding():
    with pytest.raises(InvalidFieldError):
        pooled([np.array([1.0, 0.0]), np.array([-1.0, 0.0])])
