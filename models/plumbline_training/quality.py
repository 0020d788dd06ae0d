"""Trains the embedded QualiCLIP: an image tower that ranks how far a picture has been spoiled.

Agnolucci et al., "Quality-Aware Image-Text Alignment for Opinion-Unaware Image Quality Assessment",
arXiv:2403.11176: two crops of a picture at growing levels of one distortion; crops of one level must agree with
the prompts alike, and each level must agree less with the positive and more with the negative prompts than the
level before. Two things differ, as this tower starts from nothing: the prompts' features are fixed random unit
vectors instead of a text tower's, and a weak anchor keeps the logits within the sigmoid's useful range.

    python -m plumbline_training.quality --out FOLDER --seed 1 --steps 3300
"""

import argparse
import json
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from open_clip.modified_resnet import ModifiedResNet
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor, nn

from plumbline_models.core.arrays import Pixels
from plumbline_training.distortions import DISTORTIONS, NUM_LEVELS
from plumbline_training.options import read_options
from plumbline_training.pristine import pristine
from plumbline_training.spoiling import draw_way
from plumbline_training.towers import CONFIG as CLIP_CONFIG
from plumbline_training.towers import normalised
from plumbline_training.training_state import write_state

CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 128,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 224, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64, "patch_size": None},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    },
    "preprocess_cfg": {key: CLIP_CONFIG["preprocess_cfg"][key] for key in ("mode", "mean", "std")},
}
SCALE = 100.0
NUM_PAIRS = 7
LEVEL = 3.5e-3  # what one level moves each cosine by: clean pictures come near 0.85, the worst near 0.15
CONSISTENCY_MARGIN = 0.3  # of a level
ANCHOR_WEIGHT = 0.25
PEAK_RATE, WEIGHT_DECAY, WARM_UP_STEPS = 2e-3, 1e-2, 50
STEADY_FROM = 0.5  # from this share of the steps on, batch norms work as they will when scoring
SHARES = (0.12, 0.1, 0.48, 0.12, 0.18)  # of the distortions: what JPEG leaves behind is the hardest to see
BATCHES = ((96, 4), (112, 3), (128, 3), (160, 2), (224, 1))
"""Side of the crops in px, and pictures in one step."""
BATCH_SHARES = (0.3, 0.2, 0.2, 0.2, 0.1)
FIRST_SEVERITY, LAST_SEVERITY = (0.4, 1.2), (3.8, 6.0)


class Quality(nn.Module):
    """CLIP's ResNet without positional embedding in its pool, and fourteen prompt features."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        vision = CONFIG["model_cfg"]["vision_cfg"]
        dim, width = CONFIG["model_cfg"]["embed_dim"], vision["width"]
        heads = width * 32 // vision["head_width"]
        self.visual = ModifiedResNet(vision["layers"], dim, heads, vision["image_size"], width)
        drawn = torch.randn(2 * NUM_PAIRS, dim, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("prompts_features", nn.functional.normalize(drawn, dim=-1))

    def forward(self, pixels: Tensor) -> Tensor:
        """`[N, 14]` cosines with the prompts, positive and negative ones alternating."""
        features = nn.functional.normalize(self._pooled(self._trunk(pixels)), dim=-1)
        return torch.matmul(features, self.get_buffer("prompts_features").T)

    def _trunk(self, pixels: Tensor) -> Tensor:
        tower = self.visual
        states: Tensor = tower.stem(pixels)
        for layer in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
            states = layer(states)
        return states

    def _pooled(self, states: Tensor) -> Tensor:
        pool = self.visual.attnpool
        tokens = states.flatten(2).permute(0, 2, 1)
        mean = tokens.mean(dim=1, keepdim=True)
        tokens = torch.cat([mean, tokens], dim=1)
        heads = pool.num_heads

        def split(values: Tensor) -> Tensor:
            return values.view(*values.shape[:2], heads, -1).transpose(1, 2)

        attended = nn.functional.scaled_dot_product_attention(
            split(pool.q_proj(mean)), split(pool.k_proj(tokens)), split(pool.v_proj(tokens))
        )
        return torch.as_tensor(pool.c_proj(attended.transpose(1, 2).flatten(2)).squeeze(1))


def score(cosines: Tensor) -> Tensor:
    """`[N]` in (0, 1): the mean over the pairs of the positive prompt's share."""
    return torch.sigmoid(SCALE * (cosines[:, 0::2] - cosines[:, 1::2])).mean(dim=1)


@dataclass(frozen=True, slots=True)
class Crops:
    """Pictures untouched and at five growing severities of one distortion each, two crops of every one."""

    pixels: Pixels
    """`[P, 6, 2, S, S, 3]`."""
    severities: Tensor
    """`[P, 6]`, from 0 on."""


def draw_crops(rng: Generator) -> Crops:
    """Draw the pictures of one step."""
    side_px, num_pictures = BATCHES[int(rng.choice(len(BATCHES), p=BATCH_SHARES))]
    reach = side_px // 4
    pictures, severities = [], []
    for _ in range(num_pictures):
        source = pristine(side_px + reach, rng)
        spoil = draw_way(DISTORTIONS[int(rng.choice(len(DISTORTIONS), p=SHARES))], rng)
        corners = rng.integers(0, reach + 1, size=(2, 2))
        ladder = np.linspace(rng.uniform(*FIRST_SEVERITY), rng.uniform(*LAST_SEVERITY), NUM_LEVELS)
        spoiled = [source, *(spoil(source, float(severity)) for severity in ladder)]
        pictures.append([[one[y : y + side_px, x : x + side_px] for y, x in corners] for one in spoiled])
        severities.append([0.0, *ladder])
    return Crops(np.asarray(pictures), torch.tensor(severities))


def loss_of(quality: Quality, crops: Crops) -> Tensor:
    """Consistency between crops, ranking between severities on either side, and the anchor; in levels."""
    shape, severities = crops.pixels.shape, crops.severities
    pixels = normalised(crops.pixels.reshape(-1, *shape[3:])).contiguous(memory_format=torch.channels_last)
    cosines: Tensor = quality(pixels)
    levels = cosines.view(*shape[:3], -1) / LEVEL
    consistency = torch.relu((levels[:, :, 0] - levels[:, :, 1]).abs() - CONSISTENCY_MARGIN).mean()
    ranking = levels.new_zeros(())
    orders = list(combinations(range(shape[1]), 2))
    for low, high in orders:
        margin = (severities[:, high] - severities[:, low]).view(-1, 1, 1, 1)
        drop = levels[:, low, :, None] - levels[:, high, None, :]
        signed = torch.cat([drop[..., 0::2], -drop[..., 1::2]], dim=-1)
        ranking = ranking + torch.relu(margin - signed).mean()
    gaps = (levels[..., 0::2] - levels[..., 1::2]) / 2
    target = (NUM_LEVELS / 2 - severities)[:, :, None, None].expand_as(gaps)
    anchor = nn.functional.smooth_l1_loss(gaps, target)
    return torch.add(consistency + ranking / len(orders), anchor, alpha=ANCHOR_WEIGHT)


def export(quality: Quality) -> dict[str, Tensor]:
    """The authors' names: `clip_model.` before CLIP's own, and `prompts_features`; float16."""
    state = {f"clip_model.visual.{name}": value for name, value in quality.visual.state_dict().items()}
    state["prompts_features"] = quality.get_buffer("prompts_features")
    return {name: (value.half() if value.is_floating_point() else value).contiguous() for name, value in state.items()}


def train(options: argparse.Namespace) -> None:
    """Run the steps that are still missing, with a checkpoint every hundred."""
    torch.manual_seed(options.seed)
    quality = Quality(options.seed).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(quality.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    checkpoint: Path = options.out / "checkpoint.pt"
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        quality.load_state_dict(state["quality"])
        optimizer.load_state_dict(state["optimizer"])
        first = int(state["step"])
    started = time.monotonic()
    for step in track(range(first, options.steps), description="training", disable=options.quiet):
        rng = np.random.default_rng((options.seed, step))
        share = (1 + np.cos(np.pi * step / options.steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min((step + 1) / WARM_UP_STEPS, max(0.01, float(share)))
        if step >= options.steps * STEADY_FROM:
            quality.eval()
        loss = loss_of(quality, draw_crops(rng))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(quality.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}  loss {loss.item():.4f}  {time.monotonic() - started:.0f} s", flush=True)  # noqa: T201
        if (step + 1) % 100 == 0 or step + 1 == options.steps:
            state = {"quality": quality.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            write_state(checkpoint, state)
    save_file(export(quality), options.out / "weights.safetensors")
    (options.out / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


def main() -> None:
    """Train, resume where a checkpoint is found, and write `config.json` and `weights.safetensors`."""
    train(read_options(main.__doc__, steps={"--steps": 3300}, folders={}))


if __name__ == "__main__":
    main()
