"""What HPSv3 reads around an image and a prompt, as data.

Ma et al., "HPSv3: Towards Wide-Spectrum Human Preference Score", ICCV 2025, arXiv:2508.03789. The instruction in
`hpsv3_prompt.txt` is the authors' own (hpsv3 1.0.0, MIT licence), to the byte: blanks at the ends of its lines are
tokens. Nothing behind the reward token is read, since a causal network cannot see it from there.
"""

from functools import cache
from pathlib import Path
from typing import Final

from plumbline_models.networks.causal.families import Wording
from plumbline_models.text.questions import SLOT

REWARD: Final = "<|Reward|>"
"""The control token at which the reward is read."""
IMAGE_AREA: Final = 256 * 28 * 28
"""Pixels: images are made as large or as small as that, in sides of whole patches."""
NAME: Final = "hpsv3"
_PLACEHOLDER: Final = "<|image_pad|>"


@cache
def hpsv3_wording() -> Wording:
    """The prompt, up to the reward token.

    Positions are counted plainly, image or not, though Qwen2-VL's own have three axes: so the weights were trained.
    """
    written = Path(__file__).with_name("hpsv3_prompt.txt").read_text(encoding="utf-8")
    head, tail = written.replace("{TEXT}", SLOT).split(_PLACEHOLDER)
    return Wording(
        name=NAME,
        head=head,
        tail=tail.partition(REWARD)[0] + REWARD,
        placeholder=_PLACEHOLDER,
        controls=("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", REWARD),
    )
