"""Measures the embedded CLIP on fresh scenes by the second renderer and prints the tables.

python -m plumbline_training.measure [--folder FOLDER] [--seed 77] [--pairs 2000] [--store]
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from rich.progress import track

from plumbline_models.networks.attribution.encoder import TEMPLATE
from plumbline_training.attributions import attributions, word_values
from plumbline_training.captions import Span
from plumbline_training.embedded_clip import load_clip, tokenizer
from plumbline_training.evaluation.pairs import Pair, draw_pairs
from plumbline_training.foils import KINDS, WORD_KINDS, FoilKind
from plumbline_training.pool import squash
from plumbline_training.towers import normalised

EMBEDDED = Path(__file__).parents[1] / "embedded"
CALIBRATION_SEED_SHIFT = 1_000_003
CHUNK = 64


@dataclass(frozen=True, slots=True)
class WordsOfPair:
    """Values of the words of one text, and which of them are the changed ones."""

    kind: FoilKind
    values: NDArray[np.float64]
    changed: NDArray[np.bool_]


def text_encodings(texts: Sequence[str]) -> torch.Tensor:
    """`[N, L]` token ids, zero-padded to the longest."""
    bpe = tokenizer()
    listed = [[bpe.sot_token_id, *bpe.encode(text)[:75], bpe.eot_token_id] for text in texts]
    rows = torch.zeros(len(listed), max(map(len, listed)), dtype=torch.long)
    for place, ids in enumerate(listed):
        rows[place, : len(ids)] = torch.tensor(ids)
    return rows


@torch.no_grad()
def embed_images(clip: CLIP, pairs: Sequence[Pair]) -> torch.Tensor:
    """`[N, D]` unit-norm embeddings of the pairs' pictures."""
    size_px = int(cast("Any", clip.visual).image_size[0])
    chunks = [pairs[k : k + CHUNK] for k in range(0, len(pairs), CHUNK)]
    resized = [np.stack([squash(pair.image, size_px) for pair in chunk]) for chunk in chunks]
    return torch.cat([clip.encode_image(normalised(images), normalize=True) for images in resized])


def scored_texts(
    clip: CLIP, images: torch.Tensor, texts: Sequence[str]
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Cosines of texts with their images, and the attributions of their tokens."""
    cosines, values = [], []
    for start in range(0, len(texts), CHUNK):
        rows = text_encodings(texts[start : start + CHUNK])
        cosine, relevance = attributions(clip, rows, images[start : start + CHUNK])
        cosines.append(cosine.double().numpy())
        for row, ids in zip(relevance.double().numpy(), rows, strict=True):
            values.append(row[1 : int(ids.argmax())])
    return np.concatenate(cosines), values


def clipscore_table(pairs: Sequence[Pair], true: NDArray[np.float64], false: NDArray[np.float64]) -> list[str]:
    """Lines of a Markdown table: how often the true caption scores above its foil."""
    right: dict[str, list[bool]] = defaultdict(list)
    for pair, above in zip(pairs, true > false, strict=True):
        right[pair.kind].append(bool(above))
    lines = ["| foil | pairs | true above foil |", "| --- | --- | --- |"]
    lines += [f"| {kind} | {len(right[kind])} | {np.mean(right[kind]):.3f} |" for kind in KINDS if kind in right]
    return [*lines, f"| all | {len(pairs)} | {np.mean(true > false):.3f} |"]


def words_of(clip: CLIP, pairs: Sequence[Pair], images: torch.Tensor, *, foiled: bool) -> list[WordsOfPair]:
    """Word values of the foils (or the true captions) of pairs, behind the F-CLIPScore template."""
    bpe = tokenizer()
    texts = [TEMPLATE + (pair.foil if foiled else pair.truth) for pair in pairs]
    _, listed = scored_texts(clip, images, texts)
    found = []
    for pair, text, values in zip(pairs, texts, listed, strict=True):
        spans = pair.words if foiled else pair.truth_words
        shift = len(TEMPLATE)
        kept = [(a + shift, b + shift) for a, b in spans]
        wrong = {(a + shift, b + shift) for a, b in pair.changed} if foiled else set[Span]()
        tokens = [bpe.decoder[token].removesuffix("</w>") for token in bpe.encode(text)]
        numbers = word_values(tokens, list(values), text, kept)
        found.append(WordsOfPair(pair.kind, np.array(numbers), np.array([span in wrong for span in kept])))
    return found


def f1_at(words: Iterable[WordsOfPair], epsilon: float) -> float:
    """F1 over words of `value < epsilon` against the changed ones."""
    hits = flagged = real = 0
    for one in words:
        low = one.values < epsilon
        hits += int((low & one.changed).sum())
        flagged += int(low.sum())
        real += int(one.changed.sum())
    return 2 * hits / max(1, flagged + real)


def best_epsilon(words: Sequence[WordsOfPair]) -> float:
    """The threshold with the highest F1 on pairs kept apart for that."""
    every = np.concatenate([one.values for one in words])
    tried = np.unique(np.quantile(every, np.linspace(0.01, 0.6, 120)))
    return float(tried[int(np.argmax([f1_at(words, float(epsilon)) for epsilon in tried]))])


def words_table(words: Sequence[WordsOfPair], true_words: Sequence[WordsOfPair], epsilon: float) -> list[str]:
    """Lines of a Markdown table on the words of colour, shape and fill foils."""
    lines = ["| foil | foils | changed word is the lowest | F1 in foils |", "| --- | --- | --- | --- |"]
    for kinds in (*((kind,) for kind in WORD_KINDS), WORD_KINDS):
        chosen = [one for one in words if one.kind in kinds]
        lowest = np.mean([one.changed[int(one.values.argmin())] for one in chosen])
        name = kinds[0] if len(kinds) == 1 else "all three"
        lines.append(f"| {name} | {len(chosen)} | {lowest:.3f} | {f1_at(chosen, epsilon):.3f} |")
    both = f1_at([*words, *true_words], epsilon)
    return [*lines, "", f"epsilon {epsilon:.3g}; F1 over foils and as many true captions {both:.3f}"]


def measure(folder: Path, seed: int, num_pairs: int) -> tuple[list[str], float]:
    """All lines that the program prints, and the epsilon among them."""
    clip = load_clip(folder)
    pairs = list(track(draw_pairs(num_pairs, seed), total=num_pairs, description="drawing"))
    images = embed_images(clip, pairs)
    true, _ = scored_texts(clip, images, [pair.truth for pair in pairs])
    false, _ = scored_texts(clip, images, [pair.foil for pair in pairs])
    kept = [pair for pair in draw_pairs(num_pairs // 2, seed + CALIBRATION_SEED_SHIFT) if pair.kind in WORD_KINDS]
    epsilon = best_epsilon(words_of(clip, kept, embed_images(clip, kept), foiled=True))
    chosen = [k for k, pair in enumerate(pairs) if pair.kind in WORD_KINDS]
    some = [pairs[k] for k in chosen]
    foiled = words_of(clip, some, images[chosen], foiled=True)
    spared = words_of(clip, some, images[chosen], foiled=False)
    return [*clipscore_table(pairs, true, false), "", *words_table(foiled, spared, epsilon)], epsilon


def store_epsilon(folder: Path, epsilon: float) -> None:
    """Write the epsilon where `fclipscore` looks for it: beside the sizes of these weights."""
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["plumbline"] = {"fclipscore_epsilon": float(f"{epsilon:.3g}")}
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, default=EMBEDDED / "mini-clip")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--store", action="store_true", help="write the epsilon into the folder's config.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines, epsilon = measure(options.folder, options.seed, options.pairs)
    print("\n".join(lines))  # noqa: T201
    if options.store:
        store_epsilon(options.folder, epsilon)


if __name__ == "__main__":
    main()
