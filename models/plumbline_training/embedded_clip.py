"""Loads an embedded CLIP folder with nothing but open_clip and safetensors."""

import json
from pathlib import Path

import open_clip
from open_clip.model import CLIP
from safetensors.torch import load_file

from plumbline_models.core.errors import StateDictError


def load_clip(folder: Path) -> CLIP:
    """The CLIP of `config.json` with the weights beside it, float32, in eval mode.

    Raises:
        StateDictError: The tensors do not fit the configuration.
    """
    config = json.loads((folder / "config.json").read_text())["model_cfg"]
    clip = CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"], quick_gelu=config["quick_gelu"])
    state = {name: value.float() for name, value in load_file(folder / "weights.safetensors").items()}
    try:
        clip.load_state_dict(state)
    except RuntimeError as error:
        raise StateDictError("The embedded CLIP does not fit its configuration.", folder=str(folder)) from error
    return clip.eval()


def tokenizer() -> open_clip.SimpleTokenizer:
    """CLIP's own byte-pair tokenizer."""
    return open_clip.SimpleTokenizer()
