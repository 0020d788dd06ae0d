"""What the order of Pillow's two passes moves: `python -m loadtests.engine.resize_order`.

Pillow 13 makes tall images low first, earlier versions made them narrow first. Both are computed here, the earlier way
by two resizes of one axis each, and scored in fp32: photographs of the golden set, cut to 9:16 and 1:3 around their
centre.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loadtests.goldens.clips import build_golden, golden_image
from loadtests.scorers.product import encode, open_context
from plumbline_models.core.protocols import Embedded, PairInput, Score
from plumbline_models.images.preprocess_pixels import preprocess_pixels
from plumbline_models.images.preprocess_spec import PreprocessSpec
from plumbline_models.scorers.clipscore import ClipScore
from plumbline_models.scorers.vqascore import VqaScore

Pixels = NDArray[np.uint8]
SHAPES = {"288 x 512 (9:16)": (288, 512), "426 x 1280 (1:3)": (426, 1280)}


def cut(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The middle of an image that was brought to the height of `size`, which is width and height."""
    width, height = size
    scaled = Image.fromarray(pixels).resize((round(pixels.shape[1] * height / pixels.shape[0]), height))
    left = (scaled.width - width) // 2
    return np.asarray(scaled)[:, left : left + width].copy()


def narrow_first(pixels: Pixels, spec: PreprocessSpec) -> Pixels:
    """As earlier versions resized: `fit` then has nothing left but to crop."""
    height, width = pixels.shape[:2]
    side = spec.size[0]
    low = side if spec.mode == "squash" else int(side * height / width)
    narrow = Image.fromarray(pixels).resize((side, height), Image.Resampling.BICUBIC)
    return preprocess_pixels(np.asarray(narrow.resize((side, low), Image.Resampling.BICUBIC)), spec)


def compare_pixels(pairs: Sequence[tuple[Pixels, Pixels]]) -> dict[str, Any]:
    """Of both ways."""
    differences = [np.abs(new.astype(int) - old) for new, old in pairs]
    share = np.mean([np.count_nonzero(each) / each.size for each in differences])
    return {"samples_that_differ": round(float(share), 3), "levels": int(max(each.max() for each in differences))}


def loaded(encoder: Any) -> Any:
    """Any, for what an encoder has beside its protocol is read too."""
    encoder.load()
    return encoder


def measure_clip(
    options: Mapping[str, Any], images: Sequence[Pixels], captions: Sequence[str], folder: Path
) -> dict[str, Any]:
    """Embeddings and cosines."""
    scorer = ClipScore.build(options, open_context("openvino", precision="fp32", cache_dir=folder))
    image, text = loaded(scorer.image), loaded(scorer.text)
    spec = PreprocessSpec.from_config(image.checkpoint.arch.preprocess_config)
    resized = [(preprocess_pixels(each, spec), narrow_first(each, spec)) for each in images]
    new, old = (np.stack(encode(image, [pair[way] for pair in resized])) for way in (0, 1))
    words = np.stack(encode(text, [text.preprocess(caption) for caption in captions]))
    moves = np.abs((new - old) @ words.T)
    return {
        "preprocessing": f"{spec.mode}, {spec.size[0]} px",
        **compare_pixels(resized),
        "least_cosine": round(float((new * old).sum(axis=1).min()), 6),
        "a_cosine_moves_by": float(f"{moves.max():.1e}"),
    }


def measure_vqa(images: Sequence[Pixels], captions: Sequence[str], folder: Path) -> dict[str, Any]:
    """Probabilities by the embedded network, which squashes."""
    scorer = VqaScore.build({}, open_context("openvino", precision="fp32", cache_dir=folder))
    image, pair = loaded(scorer.image), loaded(scorer.pair)
    side = image.preprocess(images[0]).shape[0]
    spec = PreprocessSpec((side, side), "squash")
    resized = [(preprocess_pixels(each, spec), narrow_first(each, spec)) for each in images]
    values = []
    for way in (0, 1):
        encodings = encode(image, [each[way] for each in resized])
        pairs = encode(
            pair, [pair.preprocess(PairInput(caption, encoding)) for encoding in encodings for caption in captions]
        )
        values.append([score.value for score in scorer.score(Embedded(pairs=pairs)) if isinstance(score, Score)])
    moved = np.abs(np.subtract(values[0], values[1])).max()
    return {"preprocessing": f"squash, {side} px", **compare_pixels(resized), "a_score_moves_by": float(f"{moved:.1e}")}


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        golden = build_golden("b32_quickgelu", folder)
        captions = sorted({case["caption"] for case in golden.cases if "_of_text>" not in case["caption"]})
        for shape, size in SHAPES.items():
            images = [cut(golden_image(each), size) for each in golden.image_embeddings]
            print(json.dumps({"shape": shape, "network": "mini-clip", **measure_clip({}, images, captions, folder)}))
            print(
                json.dumps(
                    {"shape": shape, "network": "B/32", **measure_clip(golden.options, images, captions, folder)}
                )
            )
            print(json.dumps({"shape": shape, "network": "mini-flant5", **measure_vqa(images, captions[:8], folder)}))


if __name__ == "__main__":
    main()
