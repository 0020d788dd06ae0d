"""CLIP architectures by their open_clip name, read from open_clip's own files without importing it (or torch)."""

import difflib
import importlib.util
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from plumbline_models.core.errors import CheckpointError, UnknownArchError
from plumbline_models.networks.clip.hugging_face_arch import (
    PREPROCESSOR,
    is_transformers_clip,
    model_config,
    preprocess_config,
)
from plumbline_models.networks.clip.siglip_arch import SIGLIP_PREPROCESS, is_transformers_siglip, siglip_config

CONTEXT_LENGTH: Final = 77
VOCAB_SIZE: Final = 49408
CLIP_PREPROCESS: Final[Mapping[str, Any]] = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
"""What open_clip does where neither the tag nor the folder says otherwise; mean and std of pixels in 0..1."""
_SIGMOID: Final = "init_logit_bias"
"""Set for the architectures of open_clip that were trained by a sigmoid: SigLIP, SigLIP 2 and NLLB-SigLIP."""
SIGLIP: Final = "siglip"
"""Set in the settings of both towers of a SigLIP whose files the transformers library wrote."""
_HUB_NAME: Final = re.compile(r"[\w.-]+/[\w.-]+")
_OTHER_BLOCK: Final = (
    *("block_type", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"),
    *("ls_init_value", "act_kwargs"),
)
"""Settings that, where set, make a tower's blocks others than CLIP's; likewise the towers, below."""
_OTHER_TEXT: Final = (*_OTHER_BLOCK, SIGLIP, "hf_model_name", "no_causal_mask", "embed_cls", "proj_bias")
_OTHER_VISION: Final = (
    *_OTHER_BLOCK,
    SIGLIP,
    "timm_model_name",
    "attentional_pool",
    "no_ln_pre",
    "final_ln_after_pool",
)


@dataclass(frozen=True)
class Arch:
    """An open_clip architecture.

    Args:
        name: As open_clip spells it, or the folder's name.
        config: What open_clip calls `model_cfg`: sizes of both towers.
        preprocess: What differs from `CLIP_PREPROCESS`, in open_clip's words; besides, what `PreprocessSpec` adds to
            them, and `"text": "transformers"` where texts are cleaned as that library does.
        home: The folder whose files the configuration may name; None for open_clip's own.
        epsilon: Below which a word is misaligned to these weights, where that was measured: it goes with the size of
            an encoder's attributions.
    """

    name: str
    config: Mapping[str, Any]
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    home: Path | None = None
    epsilon: float | None = None

    @property
    def embed_dim(self) -> int:
        """Width of the space that both towers map to."""
        return int(self.config["embed_dim"])

    @property
    def vision(self) -> Mapping[str, Any]:
        """Settings of the image tower."""
        return dict(self.config["vision_cfg"])

    @property
    def text(self) -> Mapping[str, Any]:
        """Settings of the text tower."""
        return dict(self.config["text_cfg"])

    @property
    def has_quick_gelu(self) -> bool:
        """Whether both towers use QuickGELU in place of GELU."""
        return bool(self.config.get("quick_gelu", False))

    @property
    def is_siglip(self) -> bool:
        """Whether the towers are SigLIP's, in the transformers library's layout."""
        return bool(self.vision.get(SIGLIP))

    @property
    def has_sigmoid(self) -> bool:
        """Whether the towers were trained by a sigmoid of scale and bias, not by a softmax."""
        return self.is_siglip or _SIGMOID in self.config

    @property
    def image_size_px(self) -> tuple[int, int]:
        """Height and width of what the image tower takes."""
        size = self.vision.get("image_size", 224)
        height, width = (size, size) if isinstance(size, int) else size
        return int(height), int(width)

    @property
    def context_length(self) -> int:
        """Most tokens that the text tower takes."""
        return int(self.text.get("context_length", CONTEXT_LENGTH))

    @property
    def preprocess_config(self) -> Mapping[str, Any]:
        """How images are resized, cropped and normalised, in open_clip's words."""
        given = {key: value for key, value in self.preprocess.items() if value is not None}
        return {**CLIP_PREPROCESS, **given, "size": self.image_size_px}

    @property
    def cleans_as_transformers(self) -> bool:
        """Whether texts are cleaned as the transformers library does, not as open_clip."""
        return self.preprocess.get("text") == "transformers"

    @property
    def has_clip_text(self) -> bool:
        """Whether the text tower is CLIP's own: causal, pre-norm, read at its end-of-text token."""
        text = self.text
        is_linear = text.get("pool_type", "argmax") == "argmax" and text.get("proj_type", "linear") == "linear"
        return is_linear and not any(text.get(key) for key in _OTHER_TEXT)

    @property
    def has_clip_image(self) -> bool:
        """Whether the image tower is CLIP's own vision transformer, read at its class token."""
        vision = self.vision
        is_plain = vision.get("pool_type", "tok") == "tok" and vision.get("pos_embed_type", "learnable") == "learnable"
        return is_plain and isinstance(vision.get("layers", 12), int) and not any(vision.get(k) for k in _OTHER_VISION)

    @property
    def canonical(self) -> str:
        """Everything that changes what the towers compute, as text that is the same for the same architecture."""
        return json.dumps({"config": self.config, "preprocess": self.preprocess_config}, sort_keys=True, default=list)


def find_arch(name: str) -> Arch:
    """Look an architecture up among those of the installed open_clip.

    Args:
        name: For example `ViT-B-32-quickgelu`; `/` is read as `-`, as open_clip does.

    Raises:
        UnknownArchError: open_clip has none of this name; the sentence names the closest ones.
    """
    wanted = name.replace("/", "-")
    files = _arch_files()
    if wanted not in files:
        raise unknown_arch(name)
    sizes = _sizes(_read_object(files[wanted]), files[wanted])
    return Arch(name=wanted, config=sizes, preprocess=_usual_preprocess(sizes))


def read_arch(file: Path) -> Arch:
    """Read an architecture from a file as `open_clip_config.json`: `model_cfg`, and `preprocess_cfg` if there is one.

    Beside open_clip's own keys it may have `plumbline: {"fclipscore_epsilon": …}`. The `config.json` of a `CLIPModel`
    or a `SiglipModel`, of the transformers library, is read too, with the `preprocessor_config.json` beside it.

    Raises:
        CheckpointError: The file is not such a file.
    """
    values = _read_object(file)
    if is_transformers_clip(values):
        values = {"model_cfg": model_config(values), "preprocess_cfg": _preprocessor(file.with_name(PREPROCESSOR))}
    elif is_transformers_siglip(values):
        stated = _preprocessor(file.with_name(PREPROCESSOR))
        values = {"model_cfg": siglip_config(values), "preprocess_cfg": {**SIGLIP_PREPROCESS, **stated}}
    preprocess = values.get("preprocess_cfg") or {}
    if not isinstance(preprocess, dict):
        raise CheckpointError(f"The preprocess_cfg of {file.name} is not an object.", path=str(file))
    stated = {key: preprocess[key] for key in CLIP_PREPROCESS if key in preprocess}
    sizes = _sizes(values.get("model_cfg"), file)
    return Arch(
        file.parent.name,
        sizes,
        {**_usual_preprocess(sizes), **stated},
        home=file.parent,
        epsilon=_epsilon(values, file),
    )


def _usual_preprocess(sizes: Mapping[str, Any]) -> Mapping[str, Any]:
    """How images are preprocessed where neither a tag nor a folder says so: all of SigLIP's kind as SigLIP does.

    open_clip itself takes CLIP's mean and crop for them, which none of its tags does.
    """
    return SIGLIP_PREPROCESS if _SIGMOID in sizes else {}


def arch_names() -> tuple[str, ...]:
    """Every architecture of the installed open_clip, sorted."""
    return tuple(sorted(_arch_files()))


def is_known(name: str) -> bool:
    """Whether the installed open_clip has an architecture of this name."""
    return name.replace("/", "-") in _arch_files()


def unknown_arch(name: str) -> UnknownArchError:
    """The error for a name that open_clip does not have, with those that may have been meant."""
    return UnknownArchError(f"open_clip has no architecture {name}.{_hint(name)}", arch=name)


def _hint(name: str) -> str:
    """Which names may have been meant: the same letters and digits, a hub name, or what is spelt alike."""
    known = {_plain(file): file for file in sorted(_arch_files(), reverse=True)}
    if _plain(name) in known:
        close = [known[_plain(name)]]
    elif _HUB_NAME.fullmatch(name):
        close = [f"hf-hub:{name}"]
    else:
        close = [known[found] for found in difflib.get_close_matches(_plain(name), known, n=3, cutoff=0.5)]
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _preprocessor(file: Path) -> Mapping[str, Any]:
    return preprocess_config(_read_object(file)) if file.is_file() else {}


@cache
def _arch_files() -> Mapping[str, Path]:
    spec = importlib.util.find_spec("open_clip")
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        raise UnknownArchError("open_clip is not installed, and with it its architectures.")
    return {file.stem: file for file in (Path(folders[0]) / "model_configs").glob("*.json")}


def _read_object(file: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The configuration {file.name} cannot be read.", path=str(file)) from error
    if not isinstance(values, dict):
        raise CheckpointError(f"The configuration {file.name} holds no object.", path=str(file))
    return values


def _epsilon(values: Mapping[str, Any], file: Path) -> float | None:
    ours = values.get("plumbline", {})
    epsilon = ours.get("fclipscore_epsilon") if isinstance(ours, dict) else ours
    if epsilon is None or (isinstance(epsilon, int | float) and -math.inf < epsilon <= 0):
        return epsilon
    raise CheckpointError(f"The fclipscore_epsilon of {file.name} is not a number of at most 0.", path=str(file))


def _sizes(config: Any, file: Path) -> Mapping[str, Any]:
    """Check what everything else relies on; towers check the rest when they are built."""
    if not isinstance(config, dict):
        raise CheckpointError(f"The configuration {file.name} has no model_cfg.", path=str(file))
    towers = config.get("vision_cfg"), config.get("text_cfg")
    if not isinstance(config.get("embed_dim"), int) or not all(isinstance(tower, dict) for tower in towers):
        raise CheckpointError(f"The configuration {file.name} lacks embed_dim, vision_cfg or text_cfg.", path=str(file))
    return config
