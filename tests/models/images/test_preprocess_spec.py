from collections.abc import Mapping
from typing import Any

import open_clip
import pytest
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from plumbline_models.core.errors import ConfigError
from plumbline_models.images.preprocess_spec import OPENAI_MEAN, OPENAI_STD, PreprocessSpec


def test_an_empty_config_means_open_clips_defaults() -> None:
    spec = PreprocessSpec.from_config({})
    default = PreprocessCfg()
    assert spec == PreprocessSpec()
    assert spec.size == (default.size, default.size)
    assert (spec.mean, spec.std) == (default.mean, default.std) == (OPENAI_MEAN, OPENAI_STD)
    assert (spec.mode, spec.interpolation, spec.fill_color) == ("shortest", "bicubic", 0)


def test_every_pretrained_config_of_open_clip_is_read() -> None:
    for arch, tag in open_clip.list_pretrained():
        published = open_clip.get_pretrained_cfg(arch, tag)
        config = merge_preprocess_dict(PreprocessCfg(), published)
        spec = PreprocessSpec.from_config(config)
        assert spec.mean == tuple(config["mean"])
        assert spec.std == tuple(config["std"])
        assert spec.mode == config["resize_mode"]
        assert PreprocessSpec.from_config(published | {"size": 224}) == spec


@pytest.mark.parametrize("size", [240, [240], (240, 240), 240.0])
def test_a_size_may_be_a_number_or_a_sequence(size: object) -> None:
    assert PreprocessSpec.from_config({"size": size}).size == (240, 240)


def test_a_config_is_read_in_full() -> None:
    config = {
        "size": [336, 224], "mode": "RGB", "mean": 0.5, "std": [0.5, 0.25, 0.125], "interpolation": "bilinear",
        "resize_mode": "longest", "fill_color": 255, "unknown": 1,
    }  # fmt: skip
    assert PreprocessSpec.from_config(config) == PreprocessSpec(
        (336, 224), "longest", "bilinear", 255, (0.5, 0.5, 0.5), (0.5, 0.25, 0.125)
    )


def test_values_of_none_are_defaults() -> None:
    config = dict.fromkeys(("size", "mean", "std", "interpolation", "resize_mode", "fill_color"))
    assert PreprocessSpec.from_config(config) == PreprocessSpec()


@pytest.mark.parametrize(
    "config",
    [
        {"size": 0}, {"size": -224}, {"size": 224.5}, {"size": "224"}, {"size": []}, {"size": [224, 224, 3]},
        {"size": True}, {"size": [224, None]}, {"size": float("nan")}, {"mode": "L"}, {"mean": [0.5, 0.5]},
        {"mean": "0.5"}, {"mean": [0.5, 0.5, "a"]}, {"std": 0}, {"std": [0.5, 0.5, -1]}, {"std": float("inf")},
        {"interpolation": "nearest"}, {"interpolation": []}, {"resize_mode": "crop"}, {"fill_color": 256},
        {"fill_color": "black"}, {"fill_color": 0.5},
    ],
    ids=str,
)  # fmt: skip
def test_nonsense_is_refused(config: Mapping[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PreprocessSpec.from_config(config)
