"""What CLIP's towers cost, beside open_clip itself: `python -m loadtests.engine.towers`.

ViT-B/32 with random weights, one thread, programs in one process and in turn, medians of CPU seconds. The image tower
gets 16 images of 224 by 224 pixels that are normalised already in open_clip's case, raw in ours, which normalises
inside the graph. The text tower gets 16 prompts of 8 to 16 words: open_clip computes all 77 positions of each, ours
those that a batch has. Tokenising is left out on both programs. int8 is fitted to other images of the same kind, and
has no text tower of its own.
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image

from loadtests.scorers.interleaved import Program, add_out, interleave, ratios, report
from loadtests.scorers.product import encode, write_clip
from plumbline_models.backends import PrecisionChoice, Tuning, open_backend
from plumbline_models.core.protocols import BuildContext, Encoder
from plumbline_models.networks.encoder_registry import EncoderRegistry
from plumbline_models.scorers.clipscore import ClipScore

ARCH = "ViT-B-32"
NUM_INPUTS = 16
SIDE_PX = 224
PRECISIONS: tuple[PrecisionChoice, ...] = ("fp32", "bf16", "int8")
WORDS = ("red", "cup", "table", "dog", "and", "house", "under", "tree", "small", "light", "on", "street", "with", "cat")
SHORTEST, LONGEST = 8, 16


def prompts() -> list[str]:
    """Prompts of 8 to 16 words."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=int(rng.integers(SHORTEST, LONGEST + 1)))) for _ in range(NUM_INPUTS)]


def open_eager(checkpoint: Path) -> Any:
    """open_clip's own network."""
    return open_clip.create_model(ARCH, pretrained=str(checkpoint)).eval()


def draw_noise(seed: int) -> NDArray[np.uint8]:
    """Images without any meaning, which weights without any do not mind."""
    return np.random.default_rng(seed).integers(0, 256, (NUM_INPUTS, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)


def write_noise(folder: Path) -> Path:
    """Images to fit int8 to."""
    folder.mkdir()
    for number, pixels in enumerate(draw_noise(1)):
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


def open_ours(section: Mapping[str, Any], precision: PrecisionChoice, tuning: Tuning) -> tuple[Encoder, Encoder]:
    """Image and text encoder on OpenVINO, compiled."""
    scorer = ClipScore.build(
        section, BuildContext(open_backend("openvino", precision=precision, tuning=tuning), EncoderRegistry())
    )
    scorer.image.load()
    scorer.text.load()
    return scorer.image, scorer.text


@torch.inference_mode()
def measure(folder: Path, num_rounds: int) -> dict[str, Any]:
    """Both towers, each precision against eager float32, and how far the embeddings are from it."""
    checkpoint = write_clip(ARCH, folder)
    eager = open_eager(checkpoint)
    pixels = draw_noise(0)
    tuning = Tuning(folder, num_threads=1, calibration_dir=write_noise(folder / "images"))
    section = {"arch": ARCH, "checkpoint": checkpoint}
    mean, std = (torch.tensor(part) for part in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD))
    planes = ((torch.from_numpy(pixels) / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
    ids = open_clip.get_tokenizer(ARCH)(prompts())
    images: dict[str, Program] = {"open_clip": lambda _: eager.encode_image(planes, normalize=True).numpy()}
    texts: dict[str, Program] = {"open_clip": lambda _: eager.encode_text(ids, normalize=True).numpy()}
    for precision in PRECISIONS:
        image, text = open_ours(section, precision, tuning)
        resized, tokenised = [image.preprocess(each) for each in pixels], [text.preprocess(each) for each in prompts()]
        images[precision] = lambda _, image=image, resized=resized: np.stack(encode(image, resized))  # type: ignore[misc]
        if precision != text.info().precision:
            continue
        texts[precision] = lambda _, text=text, tokenised=tokenised: np.stack(encode(text, tokenised))  # type: ignore[misc]
    return {"image_16": _compare(images, num_rounds), "text_16": _compare(texts, num_rounds)}


def _compare(programs: dict[str, Program], num_rounds: int) -> dict[str, Any]:
    measured = interleave(programs, num_rounds=num_rounds)
    exact = np.asarray(programs["open_clip"](0))
    least = {name: float((np.asarray(program(0)) * exact).sum(axis=1).min()) for name, program in programs.items()}
    over_bf16 = {"ratio_over_bf16": ratios(measured, "bf16")["int8"]} if "int8" in measured else {}
    return {"ratio": ratios(measured, "open_clip"), **over_bf16, "least_cosine": least, **measured}


def main() -> None:
    """Measure, print, and write where told."""
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
