"""Trains the embedded CLIP: a contrastive loss in which every caption competes with its own foils.

Radford et al., arXiv:2103.00020, for the loss over a batch; Yuksekgonul et al., "When and Why Vision-Language
Models Behave like Bags-of-Words", ICLR 2023, arXiv:2210.01936, for changed captions as further negatives.

The towers first learn apart, each what it can learn alone: the text tower to tell claims, the image tower to read its
patches, with a teacher. Then they learn together.

    python -m plumbline_training.pool --out POOL
    python -m plumbline_training.clip --pool POOL --out FOLDER --seed 1
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from rich.progress import track
from safetensors.torch import save_file
from torch import nn

from plumbline_training.clip_parts import (
    Learner,
    Material,
    Parts,
    joint_parts,
    last_parts,
    teacher_parts,
    text_parts,
    window_parts,
)
from plumbline_training.labels import NAMES, NOTHING
from plumbline_training.options import read_options
from plumbline_training.pool import read_pool
from plumbline_training.reading import label_pool
from plumbline_training.schedule import new_optimizers, rate_at, take_step
from plumbline_training.towers import CONFIG, export
from plumbline_training.training_state import write_state
from plumbline_training.vocabulary import Vocabulary

MAX_LOG_SCALE = float(np.log(100.0))
RELATED = 2.0
NUM_RESTING_LAYERS = 2  # while the towers meet
NUM_ALL_BUT_LAST = 5
CHECKPOINT_STEPS, SHOWN_STEPS = 100, 50


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the training: what learns, its loss by parts, which of them count how much, and how fast."""

    name: str
    learns: Callable[[Learner], nn.Module]
    parts: Callable[[Learner, Material, Generator], Parts]
    weights: dict[str, float]
    peak_rate: float


def _watched(learner: Learner) -> nn.Module:
    return learner.watched


def _teacher(learner: Learner) -> nn.Module:
    return learner.teacher


JOINT_WEIGHTS = {"batch": 0.5, "foils": 1.0, "reading": 0.5, "astray_images": 2.0, "astray_texts": 1.0}
LAST_WEIGHTS = {
    "batch": 0.25, "foils": 1.0, "home_foils": 0.5, "astray_images": 2.0, "astray_texts": 1.0,
    "blame": 1.0, "lowest": 0.3,
}  # fmt: skip
STAGES = (
    Stage("teacher", _teacher, teacher_parts, {"reading": 1.0}, 3e-3),
    Stage("windows", _watched, window_parts, {"reading": 1.0, "hints": 2.0}, 2e-3),
    Stage("texts", _watched, text_parts, {"astray_texts": 1.0, "foils": 0.5}, 1.5e-3),
    Stage("joint", _watched, partial(joint_parts, num_frozen=NUM_RESTING_LAYERS), JOINT_WEIGHTS, 1.5e-3),
    Stage("whole", _watched, partial(joint_parts, num_frozen=0), JOINT_WEIGHTS, 1e-3),
    Stage("retell", _watched, text_parts, {"astray_texts": 2.0, "foils": 0.5}, 1e-3),
    Stage("last", _watched, partial(last_parts, num_frozen=NUM_ALL_BUT_LAST), LAST_WEIGHTS, 1.5e-3),
)


def run_stage(learner: Learner, material: Material, stage: Stage, options: argparse.Namespace) -> None:
    """Run the steps of a stage that are still missing, with a checkpoint every hundred."""
    num_steps: int = getattr(options, f"{stage.name}_steps")
    learning = stage.learns(learner)
    optimizers = new_optimizers(learning, stage.peak_rate)
    checkpoint: Path = options.out / f"{stage.name}.pt"
    first = _resume(checkpoint, learner, optimizers) if checkpoint.exists() else 0
    started = time.monotonic()
    for step in track(range(first, num_steps), description=stage.name, disable=options.quiet):
        rng = np.random.default_rng((options.seed, STAGES.index(stage), step))
        parts = stage.parts(learner, material, rng)
        loss = torch.stack([weight * parts[name] for name, weight in stage.weights.items()]).sum()
        take_step(learning, optimizers, loss, rate_at(step, num_steps, stage.peak_rate))
        with torch.no_grad():
            learner.watched.clip.logit_scale.clamp_(max=MAX_LOG_SCALE)
        if (step + 1) % SHOWN_STEPS == 0:
            shown = "  ".join(f"{name} {float(value.detach()):.3f}" for name, value in parts.items())
            print(f"{stage.name} {step + 1}  {shown}  {time.monotonic() - started:.0f} s", flush=True)  # noqa: T201
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == num_steps:
            _save(checkpoint, learner, optimizers, step + 1)


def _save(checkpoint: Path, learner: Learner, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    state: dict[str, Any] = {
        "learner": learner.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "step": step,
    }
    write_state(checkpoint, state)


def _resume(checkpoint: Path, learner: Learner, optimizers: list[torch.optim.Optimizer]) -> int:
    state = torch.load(checkpoint, weights_only=True)
    learner.load_state_dict(state["learner"])
    for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    return int(state["step"])


def train(options: argparse.Namespace) -> None:
    """Run all stages and write `config.json` and `weights.safetensors`."""
    torch.manual_seed(options.seed)
    pool, vocabulary = read_pool(options.pool), Vocabulary()
    labels = label_pool(pool.scenes)
    has_side = (labels[..., NAMES.index("side")] != NOTHING[NAMES.index("side")]).any(axis=(1, 2))
    shares = np.where(has_side, RELATED, 1.0)
    material = Material(pool, labels, vocabulary, shares / shares.sum())
    learner = Learner(vocabulary.num_rows)
    for stage in STAGES:
        run_stage(learner, material, stage, options)
    save_file(export(learner.watched.clip, vocabulary), options.out / "weights.safetensors")
    (options.out / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


def main() -> None:
    """Train, resume where checkpoints are found, and write `config.json` and `weights.safetensors`."""
    train(
        read_options(
            main.__doc__,
            steps={
                "--texts-steps": 600,
                "--teacher-steps": 1800,
                "--windows-steps": 2500,
                "--joint-steps": 1400,
                "--whole-steps": 900,
                "--retell-steps": 150,
                "--last-steps": 1500,
            },
            folders={"--pool": "a folder filled by plumbline_training.pool"},
        )
    )


if __name__ == "__main__":
    main()
