"""What CLIP's towers cost, beside open_clip itself: `python loadtests/engine/towers.py`.

ViT-B/32 with random weights, one thread, sides in one process and in turn, medians of CPU seconds. The image tower
gets 16 pictures of 224 by 224 pixels that are normalised already in open_clip's case, raw in ours, which normalises
inside the graph. The text tower gets 16 prompts of 8 to 16 words: open_clip computes all 77 positions of each, ours
those that a batch has. Tokenising is left out on both sides.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch

sys.path.append(str(Path(__file__).parents[1] / "heads"))
from interleaved import Side, add_out, interleave, ratios, report
from product import encode, open_workshop, write_clip

from plumbline_models.core.protocols import Encoder
from plumbline_models.scorers.clipscore import ClipScore

ARCH = "ViT-B-32"
NUM_INPUTS = 16
SIDE_PX = 224
PRECISIONS = ("fp32", "bf16")
WORDS = ("red", "cup", "table", "dog", "and", "house", "under", "tree", "small", "light", "on", "street", "with", "cat")
SHORTEST, LONGEST = 8, 16


def prompts() -> list[str]:
    """Prompts of 8 to 16 words."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=int(rng.integers(SHORTEST, LONGEST + 1)))) for _ in range(NUM_INPUTS)]


def open_eager(checkpoint: Path) -> Any:
    """open_clip's own network."""
    return open_clip.create_model(ARCH, pretrained=str(checkpoint)).eval()


def open_ours(checkpoint: Path, precision: str, cache_dir: Path) -> tuple[Encoder, Encoder]:
    """Image and text encoder, compiled."""
    section = {"arch": ARCH, "checkpoint": checkpoint}
    scorer = ClipScore.build(section, open_workshop("openvino", precision=precision, cache_dir=cache_dir))
    if scorer.image is None or scorer.text is None:
        raise SystemExit("The scorer lacks an encoder.")
    scorer.image.load()
    scorer.text.load()
    return scorer.image, scorer.text


@torch.inference_mode()
def measure(folder: Path, num_rounds: int) -> dict[str, Any]:
    """Both towers, each precision against eager float32, and how far the embeddings are from it."""
    checkpoint = write_clip(ARCH, folder)
    eager = open_eager(checkpoint)
    pixels = np.random.default_rng(0).integers(0, 256, (NUM_INPUTS, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    mean, std = (torch.tensor(part) for part in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    planes = ((torch.from_numpy(pixels) / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
    ids = open_clip.get_tokenizer(ARCH)(prompts())
    images: dict[str, Side] = {"open_clip": lambda _: eager.encode_image(planes, normalize=True).numpy()}
    texts: dict[str, Side] = {"open_clip": lambda _: eager.encode_text(ids, normalize=True).numpy()}
    for precision in PRECISIONS:
        image, text = open_ours(checkpoint, precision, folder)
        fitted, tokenised = [image.prepare(each) for each in pixels], [text.prepare(each) for each in prompts()]
        images[precision] = lambda _, image=image, fitted=fitted: np.stack(encode(image, fitted))  # type: ignore[misc]
        texts[precision] = lambda _, text=text, tokenised=tokenised: np.stack(encode(text, tokenised))  # type: ignore[misc]
    return {"image_16": _compare(images, num_rounds), "text_16": _compare(texts, num_rounds)}


def _compare(sides: dict[str, Side], num_rounds: int) -> dict[str, Any]:
    measured = interleave(sides, num_rounds=num_rounds)
    exact = np.asarray(sides["open_clip"](0))
    least = {name: float((np.asarray(side(0)) * exact).sum(axis=1).min()) for name, side in sides.items()}
    return {"ratio": ratios(measured, "open_clip"), "least_cosine": least, **measured}


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    add_out(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        cases = measure(Path(folder), options.rounds)
    report("towers", cases, out=options.out)


if __name__ == "__main__":
    main()
