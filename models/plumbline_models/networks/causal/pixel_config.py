"""How a causal checkpoint takes images, from its `preprocessor_config.json`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from plumbline_models.core.errors import CheckpointError
from plumbline_models.images.square import mean_fill
from plumbline_models.networks.causal.families import Wording
from plumbline_models.networks.causal.hpsv3 import IMAGE_AREA, NAME
from plumbline_models.networks.causal.pixels import PaddedSquare, PixelPolicy, Tiles, WholePatches
from plumbline_models.networks.causal.rules import PixelRules
from plumbline_models.weights.folders import read_json

Three = tuple[float, float, float]
_OPENAI: Final[tuple[Three, Three]] = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
_HALVES: Final[tuple[Three, Three]] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def read_pixels(family: Wording, vision: Mapping[str, Any], *, file: Path) -> tuple[PixelPolicy, PixelRules]:
    """The policy by which images are resized, and the rules by which the tower takes them.

    Args:
        family: Says how to read them.
        vision: The tower's configuration.
        file: `preprocessor_config.json`, which may be missing.

    Raises:
        CheckpointError: A number is missing or none.
    """
    settings = read_json(file) if file.is_file() else {}
    try:
        return _READERS[family.name](vision, settings)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError("The checkpoint's treatment of images is not usable.", reason=str(error)) from error


def _padded(vision: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[PixelPolicy, PixelRules]:
    mean, std = _shades(settings, _OPENAI)
    side_px = int(vision["image_size"])
    return PaddedSquare(side_px, mean_fill(mean)), PixelRules("planes", mean, std, side_px)


def _whole_patches(
    vision: Mapping[str, Any], settings: Mapping[str, Any], default: tuple[Three, Three]
) -> tuple[WholePatches, PixelRules]:
    mean, std = _shades(settings, default)
    patch_px = int(settings.get("patch_size", vision["patch_size"]))
    merge = int(settings.get("merge_size", vision["spatial_merge_size"]))
    size = settings.get("size") or {}
    low = settings.get("min_pixels") or size.get("shortest_edge") or (2 * patch_px * merge) ** 2
    high = settings.get("max_pixels") or size.get("longest_edge") or 1280 * (patch_px * merge) ** 2
    policy = WholePatches(patch_px * merge, int(low), int(high))
    return policy, PixelRules("merged", mean, std, patch_px * merge)


def _qwen25(vision: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[PixelPolicy, PixelRules]:
    return _whole_patches(vision, settings, _OPENAI)


def _qwen3(vision: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[PixelPolicy, PixelRules]:
    return _whole_patches(vision, settings, _HALVES)


def _hpsv3(vision: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[PixelPolicy, PixelRules]:
    policy, rules = _whole_patches(vision, settings, _OPENAI)
    return replace(policy, min_pixels=IMAGE_AREA, max_pixels=IMAGE_AREA), rules


def _tiles(vision: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[PixelPolicy, PixelRules]:
    mean, std = _shades(settings, _HALVES)
    tile_px = int((settings.get("max_image_size") or {}).get("longest_edge", vision["image_size"]))
    longest_px = int((settings.get("size") or {}).get("longest_edge", 4 * tile_px))
    return Tiles(longest_px, tile_px, bool(settings.get("do_image_splitting", True))), PixelRules(
        "tiles", mean, std, tile_px
    )


def _shades(settings: Mapping[str, Any], default: tuple[Three, Three]) -> tuple[Three, Three]:
    return _three(settings.get("image_mean") or default[0]), _three(settings.get("image_std") or default[1])


def _three(values: Any) -> Three:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


_READERS: Final = {
    "llava-1.5": _padded,
    "qwen2.5-vl": _qwen25,
    "qwen3-vl": _qwen3,
    "smolvlm": _tiles,
    NAME: _hpsv3,
}
