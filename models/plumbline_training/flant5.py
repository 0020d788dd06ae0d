"""Trains the embedded CLIP-FlanT5: a small T5 that answers questions about what mini-clip's image tower sees.

Lin et al., "Evaluating Text-to-Visual Generation with Image-to-Text Generation", ECCV 2024, arXiv:2404.01291: the
question is VQAScore's own, the answer is Yes for captions that are true of a scene and No for their foils. The tower
stays as it is; short captions come first.

    python -m plumbline_training.flant5 --pool POOL --clip embedded/mini-clip --out FOLDER --seed 1
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from rich.progress import track
from torch import Tensor, nn

from plumbline_models.networks.flant5.tokenizer import UnigramTokenizer
from plumbline_models.text.questions import DEFAULT_ANSWER, RIVAL_ANSWER
from plumbline_training.answering import Answering, parts_of
from plumbline_training.embedded_clip import load_clip
from plumbline_training.flant5_layout import t5_arch, tower_arch, tower_state, write_checkpoint
from plumbline_training.options import read_options
from plumbline_training.pool import Pool, read_pool
from plumbline_training.questions import QuestionBatch, QuestionDrawer
from plumbline_training.reading_start import start_reading
from plumbline_training.schedule import rate_at
from plumbline_training.training_state import write_state
from plumbline_training.wordings import write_pieces

BATCH_SCENES, PAIR = 14, 2  # half of the scenes hold two objects, which alone lie left of, or above, each other
PEAK_RATE, WEIGHT_DECAY = 1e-3, 0.02
WEIGHTS = {"answer": 1.0, "end": 0.2, "faults": 1.0}
SHORT_AT_FIRST, SHORT_AT_LAST, SHORT_STEPS = 1.0, 0.1, 300
CHECKPOINT_STEPS, SHOWN_STEPS = 100, 25
EVERY_PATCH_FROM = 0.92  # share of the steps that see half of the patches only


def new_optimizers(answering: Answering) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of transformer blocks, AdamW for everything else."""
    hidden, others = list[nn.Parameter](), list[nn.Parameter]()
    for name, parameter in answering.learning():
        (hidden if "_blocks." in name and parameter.ndim == 2 else others).append(parameter)  # noqa: PLR2004
    return [
        torch.optim.AdamW(others, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.0),
        torch.optim.Muon(hidden, lr=PEAK_RATE, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
    ]


def draw_batch(pool: Pool, drawer: QuestionDrawer, rng: Generator, step: int) -> tuple[Tensor, QuestionBatch]:
    """Pictures and questions of one step."""
    chosen = rng.integers(len(pool.scenes), size=2 * BATCH_SCENES)
    is_pair = np.array([len(pool.scenes[int(k)].things) == PAIR for k in chosen])
    chosen = np.concatenate([chosen[is_pair][: BATCH_SCENES // 2], chosen[~is_pair]])[:BATCH_SCENES]
    short = float(np.interp(step, (0, SHORT_STEPS), (SHORT_AT_FIRST, SHORT_AT_LAST)))
    questions = drawer.draw([pool.scenes[int(k)] for k in chosen], rng, short=short)
    return torch.from_numpy(pool.images[chosen]), questions


def draw_patches(num_patches: int, rng: Generator, *, every: bool) -> Tensor:
    """Numbers of the patches that are read: all, or one at random of each two neighbours, at half the cost."""
    if every:
        return torch.arange(num_patches)
    return torch.from_numpy(np.arange(0, num_patches, 2) + rng.integers(2, size=num_patches // 2))


def train(options: argparse.Namespace) -> None:
    """Run the steps that are still missing, then write the checkpoint in the published layout."""
    torch.manual_seed(options.seed)
    write_pieces(options.out, options.seed)
    pieces = UnigramTokenizer(options.out / "spiece.model", num_extra_ids=0)
    yes_id, no_id = (int(pieces.encode(answer)[0]) for answer in (DEFAULT_ANSWER, RIVAL_ANSWER))
    answering = Answering(tower_arch(), t5_arch(pieces.num_tokens), yes_id=yes_id, no_id=no_id)
    pool, drawer, clip = read_pool(options.pool), QuestionDrawer(options.out / "spiece.model"), load_clip(options.clip)
    answering.use_tower(tower_state(clip))
    start_reading(answering.image, answering.answers, pool, drawer.pieces)
    learning = [parameter for _, parameter in answering.learning()]
    optimizers = new_optimizers(answering)
    checkpoint: Path = options.out / "training.pt"
    first = _resume(checkpoint, answering, optimizers) if checkpoint.exists() else 0
    num_patches = tower_arch().num_patches
    started, shown = time.monotonic(), list[dict[str, float]]()
    for step in track(range(first, options.steps), description="training", disable=options.quiet):
        rng = np.random.default_rng((options.seed, step))
        kept = draw_patches(num_patches, rng, every=step >= options.steps * EVERY_PATCH_FROM)
        parts = parts_of(answering, *draw_batch(pool, drawer, rng, step), kept)
        loss = torch.stack([weight * parts[name] for name, weight in WEIGHTS.items()]).sum()
        _take_step(learning, optimizers, loss, rate=rate_at(step, options.steps, PEAK_RATE))
        shown.append({name: value.item() for name, value in parts.items()})
        if (step + 1) % SHOWN_STEPS == 0:
            means = {name: float(np.mean([one[name] for one in shown])) for name in shown[0]}
            text = "  ".join(f"{name} {value:.3f}" for name, value in means.items())
            print(f"step {step + 1}  {text}  {time.monotonic() - started:.0f} s", flush=True)  # noqa: T201
            shown.clear()
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == options.steps:
            _save(checkpoint, answering, optimizers, step + 1)
            write_checkpoint(options.out, answering)


def _take_step(
    learning: list[nn.Parameter], optimizers: list[torch.optim.Optimizer], loss: Tensor, rate: float
) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(learning, 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()


def _save(checkpoint: Path, answering: Answering, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    """Everything but the tower, so that training may go on with a tower that was itself trained on."""
    learnt = {name: parameter.detach() for name, parameter in answering.learning()}
    state = {"learnt": learnt, "optimizers": [optimizer.state_dict() for optimizer in optimizers], "step": step}
    write_state(checkpoint, state)


@torch.no_grad()
def _resume(checkpoint: Path, answering: Answering, optimizers: list[torch.optim.Optimizer]) -> int:
    state = torch.load(checkpoint, weights_only=True)
    for name, parameter in answering.learning():
        parameter.copy_(state["learnt"][name])
    for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    return int(state["step"])


def main() -> None:
    """Train, resume where a checkpoint is found, and write a folder of the published layout."""
    train(
        read_options(
            main.__doc__,
            steps={"--steps": 2300},
            folders={
                "--pool": "a folder filled by plumbline_training.pool",
                "--clip": "the folder of mini-clip, whose tower is used",
            },
        )
    )


if __name__ == "__main__":
    main()
