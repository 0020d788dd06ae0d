"""Images that are made for the score of the embedded mini-clip: what guards are tested on.

    python -m loadtests.accuracy.attacks --out tests/golden/guards/attacks

Projected gradient on pixels, with torch, in minutes. `many` fit four texts at once, from noise. `alike` are made in the
same way for four texts of one colour. `raised` are scenes changed by at most 8 of 255 levels so that a wrong caption
fits. `aware` fit one text and stay below a guard's lines. Files are PNGs of the network's own size, so that nothing is
lost between them and it. Texts stand in `texts.json`.
"""

import argparse
import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from plumbline_models.decisions.guards import Guard
from plumbline_models.networks.clip.graph import clip_image_graph
from plumbline_serve.assembly import assembled
from plumbline_serve.configured_scorers import make_scorers
from plumbline_serve.messages import EmbedRequest, RawImage
from plumbline_serve.settings import Settings
from plumbline_training.evaluation.fields import render
from plumbline_training.sampling import sample_scene
from plumbline_training.scenes import COLOURS, SHAPES

SIDE_PX: Final = 96
NUM: Final = 12
NUM_TEXTS: Final = 4
"""That an image is made for, where it is for several."""
LEVELS: Final = 8
"""Of 255, that a scene may be changed by."""
COUNTS: Final = {"a": "", "two": "s", "three": "s"}
TEXTS: Final = [
    f"{count} {colour} {shape}{end}" for count, end in COUNTS.items() for colour in COLOURS for shape in SHAPES
]


def parted() -> tuple[list[str], list[str]]:
    """Texts that a guard knows, and those that are attacked: none is among both."""
    order = np.random.default_rng(0).permutation(len(TEXTS))
    return [TEXTS[i] for i in order[:120]], [TEXTS[i] for i in order[120:]]


def of_one_colour(attacked: Sequence[str], rng: np.random.Generator) -> list[np.ndarray]:
    """For each image four texts, by index, that have their colour in common."""
    kinds: dict[str, list[int]] = {}
    for index, text in enumerate(attacked):
        kinds.setdefault(text.split()[1], []).append(index)
    able = [indices for indices in kinds.values() if len(indices) >= NUM_TEXTS]
    return [rng.choice(able[image % len(able)], NUM_TEXTS, replace=False) for image in range(NUM)]


def scenes(seed: int, num: int) -> list[np.ndarray]:
    """Fresh scenes, `[96, 96, 3]` each.

    Args:
        seed: Of the draw.
        num: How many.
    """
    rng, side = np.random.default_rng(seed), (SIDE_PX, SIDE_PX)
    drawn = [Image.fromarray(render(sample_scene(rng))).resize(side, Image.Resampling.BICUBIC) for _ in range(num)]
    return [np.asarray(each) for each in drawn]


async def embedded(service: Any, inputs: Sequence[Any]) -> np.ndarray:
    """Unit encodings, float64, of pixels or of texts."""
    found = []
    for first in range(0, len(inputs), 64):
        part = inputs[first : first + 64]
        if isinstance(part[0], str):
            request = EmbedRequest(texts=part)
        else:
            request = EmbedRequest(images=[RawImage(each.tobytes(), *each.shape[:2]) for each in part])
        found += list((await service.embed(request)).vectors)
    rows = np.stack(found).astype(np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def ascend(tower: Callable[[Tensor], Tensor], start: np.ndarray, gain: Callable[[Tensor], Tensor], *, radius: float,
           steps: int, rate: float) -> np.ndarray:  # fmt: skip
    """Images with as much gain as can be had, whole levels.

    Args:
        tower: Pixels `[N, H, W, 3]` to unit encodings.
        start: Pixels.
        gain: Of encodings, `[N]`.
        radius: Levels that each sample may change by.
        steps: Of Adam.
        rate: In levels.
    """
    first = torch.tensor(start, dtype=torch.float32)
    pixels = torch.nn.Parameter(first.clone())
    optimiser = torch.optim.Adam([pixels], lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        pixels.grad = torch.autograd.grad(-gain(tower(pixels)).sum(), pixels)[0]
        optimiser.step()
        with torch.no_grad():
            pixels.copy_(torch.clamp(torch.min(torch.max(pixels, first - radius), first + radius), 0, 255))
    whole = torch.min(torch.max(pixels.detach().round(), first - radius), first + radius)
    return np.asarray(whole.clamp(0, 255).numpy().astype(np.uint8))


def fit_all(tower: Callable[[Tensor], Tensor], texts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images from noise whose least cosine with their texts is as large as can be.

    Args:
        tower: Pixels `[N, H, W, 3]` to unit encodings.
        texts: `[N, K, D]`, unit norm: K for each image.
        rng: Makes the noise.
    """
    chosen = torch.tensor(texts, dtype=torch.float32)
    noise = rng.integers(0, 256, (len(texts), SIDE_PX, SIDE_PX, 3), np.uint8)
    return ascend(tower, noise, lambda z: (chosen @ z[..., None]).amin(dim=(1, 2)), radius=255, steps=150, rate=8)


async def make() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All of them by name, and their texts."""
    known = make_scorers(Settings(scorers={"clipscore": {}}))
    image: Any = known["clipscore"].image
    tower = clip_image_graph(image.checkpoint).build()
    tower.eval()
    rng, (known_texts, attacked) = np.random.default_rng(1), parted()
    async with assembled(Settings(scorers={"clipscore": {}}), known) as assembly:
        real = scenes(11, 600)
        guard = Guard.of(await embedded(assembly.service, real), await embedded(assembly.service, known_texts))
        texts = await embedded(assembly.service, attacked)
    fours = [rng.choice(len(attacked), NUM_TEXTS, replace=False) for _ in range(NUM)]
    ones = rng.integers(len(attacked), size=NUM)
    single = torch.tensor(texts[ones], dtype=torch.float32)
    many = fit_all(tower, np.stack([texts[four] for four in fours]), rng)
    kin = of_one_colour(attacked, np.random.default_rng(2))
    alike = fit_all(tower, np.stack([texts[four] for four in kin]), np.random.default_rng(3))
    start = np.stack(scenes(12, NUM))
    raised = ascend(tower, start, lambda z: (z * single).sum(1), radius=LEVELS, steps=60, rate=1)
    mean, precision, centroid = (
        torch.tensor(each, dtype=torch.float32) for each in (guard.mean, guard.precision, guard.centroid)
    )

    def unseen(z: Tensor) -> Tensor:
        off = z - mean
        over = torch.relu(z @ centroid - 0.95 * guard.anchor_line) * 20
        far = torch.relu(((off @ precision) * off).sum(1) / guard.distance_line - 0.9) * 2
        return (z * single).sum(1) - over - far

    aware = ascend(tower, np.stack(scenes(13, NUM)), unseen, radius=255, steps=120, rate=6)
    several = {name: [[attacked[i] for i in four] for four in each] for name, each in (("many", fours), ("alike", kin))}
    named = {**several, "one": [attacked[i] for i in ones]}
    return {"many": many, "alike": alike, "raised": raised, "aware": aware}, {"anchors": known_texts, **named}


def write(out: Path) -> None:
    """Make all of them, and write them.

    Args:
        out: Folder.
    """
    images, texts = asyncio.run(make())
    out.mkdir(parents=True, exist_ok=True)
    for name, pixels in images.items():
        for index, each in enumerate(pixels):
            Image.fromarray(each).save(out / f"{name}_{index:02}.png", optimize=True)
    (out / "texts.json").write_text(json.dumps(texts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    write(parser.parse_args().out)
