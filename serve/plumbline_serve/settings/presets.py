"""Configurations by name, for published weights: `--config preset:clip-large`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plumbline_models.core.errors import ConfigError

PREFIX = "preset:"


@dataclass(frozen=True, slots=True)
class Preset:
    """Scorers with their sections, and what they would fetch."""

    summary: str
    scorers: Mapping[str, Mapping[str, Any]]
    gigabytes: Mapping[str, float]
    """About, by hub repository: what is read of it, in 10^9 bytes."""
    extra: str | None = None
    """Of `plumbline-serve`, without which it does not run."""


_BASE = {"arch": "ViT-B-32-quickgelu", "pretrained": "openai"}
_LARGE = {"arch": "ViT-L-14-336-quickgelu", "pretrained": "openai"}
_TOWER = {"openai/clip-vit-large-patch14-336": 1.7}
PRESETS: Mapping[str, Preset] = {
    "clip-base": Preset(
        "alignment, and which words are wrong: quick on CPUs",
        {"clipscore": _BASE, "fclipscore": _BASE},
        {"timm/vit_base_patch32_clip_224.openai": 0.6},
    ),
    "clip-large": Preset(
        "the same on the largest of OpenAI's networks",
        {"clipscore": _LARGE, "fclipscore": _LARGE},
        {"timm/vit_large_patch14_clip_336.openai": 1.7},
    ),
    "vqa-small": Preset(
        "alignment by questions, for CPUs",
        {"vqascore": {"model": "HuggingFaceTB/SmolVLM-256M-Instruct"}},
        {"HuggingFaceTB/SmolVLM-256M-Instruct": 0.5},
        extra="vlm",
    ),
    "vqa-xl": Preset(
        "alignment by questions, as papers report it with the smaller network",
        {"vqascore": {"model": "zhiqiulin/clip-flant5-xl"}},
        {"zhiqiulin/clip-flant5-xl": 7.2, **_TOWER},
    ),
    "vqa-xxl": Preset(
        "alignment by questions, the metric of most papers",
        {"vqascore": {"model": "zhiqiulin/clip-flant5-xxl"}},
        {"zhiqiulin/clip-flant5-xxl": 23.5, **_TOWER},
    ),
    "preference": Preset(
        "which image people prefer, by three networks",
        {"pickscore": {}, "hpsv2": {"version": "v2.1"}, "imagereward": {}},
        {"yuvalkirstain/PickScore_v1": 3.9, "xswu/HPSv2": 2.0, "THUDM/ImageReward": 1.8},
    ),
}


def preset_values(name: str) -> dict[str, Any]:
    """What a configuration file of a preset would hold.

    Args:
        name: With the prefix.

    Raises:
        ConfigError: There is none of that name.
    """
    preset = PRESETS.get(name.removeprefix(PREFIX))
    if preset is None:
        raise ConfigError(f"There is no {name}; there are {', '.join(PRESETS)}.")
    return {"scorers": {scorer: dict(section) for scorer, section in preset.scorers.items()}}
