"""Trains the embedded CLIP: a contrastive loss in which every caption competes with its own foils.

Radford et al., arXiv:2103.00020, for the loss over a batch; Yuksekgonul et al., "When and Why Vision-Language
Models Behave like Bags-of-Words", ICLR 2023, arXiv:2210.01936, for changed captions as further negatives.

    python -m plumbline_models.training.pool --out POOL
    python -m plumbline_models.training.clip --pool POOL --out FOLDER --seed 1 --steps 3000
"""

import argparse
import json
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor, nn

from plumbline_models.training.captions import sample_manner, word
from plumbline_models.training.claims import claims_of, truths_of
from plumbline_models.training.descriptions import Description, describe
from plumbline_models.training.foils import foils
from plumbline_models.training.labels import NOTHING, SECTIONS, grid_labels
from plumbline_models.training.pool import Pool, read_pool
from plumbline_models.training.scenes import Scene
from plumbline_models.training.towers import CONFIG, GRID, Watched, build_clip, encode_ragged, export, normalised
from plumbline_models.training.vocabulary import Vocabulary

PEAK_RATE, WARM_UP_STEPS, DECAYED_SHARE = 1e-3, 60, 0.25
WEIGHT_DECAY = 0.02
MAX_LOG_SCALE = float(np.log(100.0))
WEIGHTS = {"batch": 1.0, "foils": 1.0, "patches": 0.5, "astray_images": 1.0, "astray_texts": 2.0}
NUM_FOILS = 4
EMPTY_WEIGHT = 0.15  # of cells without an object, which are most of them
STRANGER_SHARE = 0.06  # of captions that get one word which scenes never use


@dataclass(frozen=True, slots=True)
class Batch:
    """Images, the true caption first among each image's candidates, and what is drawn where."""

    pixels: Tensor
    rows: Tensor
    owners: Tensor
    """`[T]`: the image that each text was written for."""
    truths: Tensor
    """`[N]`: the place of each image's true caption among the texts."""
    labels: Tensor
    truths_of_images: Tensor
    claims_of_texts: Tensor


def candidates(scene: Scene, rng: Generator) -> tuple[list[Description], list[str]]:
    """A true caption and up to four foils of different kinds, all in one manner."""
    truth, manner = describe(scene, rng), sample_manner(rng)
    found = [truth, *(foil.description for foil in islice(foils(truth, scene, rng), NUM_FOILS))]
    texts = [word(description, manner).text for description in found]
    if rng.random() < STRANGER_SHARE:
        texts = [text.replace(" ", " quux ", 1) for text in texts]
    return found, texts


def draw_batch(pool: Pool, size: int, vocabulary: Vocabulary, rng: Generator) -> Batch:
    """Draw images from the pool and write captions and foils for them."""
    chosen = rng.integers(len(pool.scenes), size=size)
    written = [candidates(pool.scenes[int(k)], rng) for k in chosen]
    lengths = [len(texts) for _, texts in written]
    labels = np.stack([grid_labels(pool.scenes[int(k)], GRID).reshape(-1, 3) for k in chosen])
    return Batch(
        pixels=normalised(pool.images[chosen]),
        rows=torch.from_numpy(vocabulary.batch([text for _, texts in written for text in texts])),
        owners=torch.from_numpy(np.repeat(np.arange(size), lengths)),
        truths=torch.from_numpy(np.cumsum([0, *lengths[:-1]])),
        labels=torch.from_numpy(labels).long(),
        truths_of_images=torch.from_numpy(np.stack([truths_of(pool.scenes[int(k)]) for k in chosen])),
        claims_of_texts=torch.from_numpy(np.stack([claims_of(one) for found, _ in written for one in found])),
    )


def loss_of(watched: Watched, batch: Batch) -> dict[str, Tensor]:
    """The parts of the loss, by name, and `right`: the share of captions above all their own foils."""
    images, readings = watched(batch.pixels)
    texts = encode_ragged(watched.clip, batch.rows)
    logits = watched.clip.logit_scale.exp() * images @ texts.T
    own = torch.arange(len(images))[:, None] == batch.owners[None, :]
    among_own = logits.masked_fill(~own, -torch.inf)
    to_images = logits[:, batch.truths].T
    cross_entropy = nn.functional.cross_entropy
    return {
        "batch": (
            cross_entropy(logits, batch.truths) + cross_entropy(to_images, torch.arange(len(images)))
        ) / 2,
        "foils": cross_entropy(among_own, batch.truths),
        "patches": _reading_loss(readings, batch.labels),
        "astray_images": watched.astray(images, batch.truths_of_images),
        "astray_texts": watched.astray(texts, batch.claims_of_texts),
        "right": (among_own.argmax(dim=1) == batch.truths).float().mean(),
    }  # fmt: skip


def _reading_loss(readings: Tensor, labels: Tensor) -> Tensor:
    total = readings.new_zeros(())
    sections = torch.split(readings, list(SECTIONS), dim=-1)
    for part, (section, nothing) in enumerate(zip(sections, NOTHING, strict=True)):
        weights = torch.ones(section.shape[-1])
        weights[nothing] = EMPTY_WEIGHT
        total = total + nn.functional.cross_entropy(section.flatten(0, 1), labels[..., part].flatten(), weights)
    return total


def rate_at(step: int, num_steps: int) -> float:
    """Learning rate: a warm-up, a plateau, and a linear fall over the last quarter."""
    fall_from = num_steps * (1 - DECAYED_SHARE)
    falling = (num_steps - step) / max(1.0, num_steps - fall_from)
    return PEAK_RATE * min(1.0, (step + 1) / WARM_UP_STEPS, max(0.01, falling))


def new_optimizer(module: nn.Module) -> torch.optim.Optimizer:
    """AdamW without decay on vectors, scales and tables."""
    matrices = [p for name, p in module.named_parameters() if p.ndim >= 2 and "embedding" not in name]  # noqa: PLR2004
    others = [p for name, p in module.named_parameters() if p.ndim < 2 or "embedding" in name]  # noqa: PLR2004
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98))


def train(options: argparse.Namespace) -> None:
    """Run the steps that are still missing, with a checkpoint every hundred."""
    torch.manual_seed(options.seed)
    vocabulary = Vocabulary()
    watched = Watched(build_clip(vocabulary.num_rows), sum(SECTIONS))
    optimizer = new_optimizer(watched)
    checkpoint: Path = options.out / "checkpoint.pt"
    first = _resume(checkpoint, watched, optimizer) if checkpoint.exists() else 0
    pool, started = read_pool(options.pool), time.monotonic()
    for step in track(range(first, options.steps), description="training", disable=options.quiet):
        rng = np.random.default_rng((options.seed, step))
        parts = _one_step(watched, optimizer, draw_batch(pool, options.batch, vocabulary, rng), step, options.steps)
        if (step + 1) % 50 == 0:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in parts.items())
            print(f"step {step + 1}  {shown}  {time.monotonic() - started:.0f} s", flush=True)  # noqa: T201
        if (step + 1) % 100 == 0 or step + 1 == options.steps:
            state = {"watched": watched.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(state, checkpoint)
            pool = read_pool(options.pool) if len(pool.scenes) < options.full_pool else pool
    save_file(export(watched.clip, vocabulary), options.out / "weights.safetensors")
    (options.out / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


def _one_step(
    watched: Watched, optimizer: torch.optim.Optimizer, batch: Batch, step: int, num_steps: int
) -> dict[str, float]:
    for group in optimizer.param_groups:
        group["lr"] = rate_at(step, num_steps)
    parts = loss_of(watched, batch)
    optimizer.zero_grad(set_to_none=True)
    total = torch.stack([weight * parts[name] for name, weight in WEIGHTS.items()]).sum()
    torch.autograd.backward(total)
    nn.utils.clip_grad_norm_(watched.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        watched.clip.logit_scale.clamp_(max=MAX_LOG_SCALE)
    return {name: float(value.detach()) for name, value in parts.items()}


def _resume(checkpoint: Path, watched: Watched, optimizer: torch.optim.Optimizer) -> int:
    state = torch.load(checkpoint, weights_only=True)
    watched.load_state_dict(state["watched"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def main() -> None:
    """Train, resume where a checkpoint is found, and write `config.json` and `weights.safetensors`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pool", type=Path, required=True, help="a folder filled by training.pool")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--full-pool", type=int, default=0, help="read the pool again until it is so large")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    train(options)


if __name__ == "__main__":
    main()
