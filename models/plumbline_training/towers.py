"""The embedded CLIP as it is trained: open_clip's own modules, a small token table, and a reading of patches."""

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP
from torch import Tensor, nn

from plumbline_training.claims import NUM_CLAIMS, PLACES
from plumbline_training.labels import NUM_LOCAL, SECTIONS
from plumbline_training.local_start import start_local
from plumbline_training.teacher import HINT_WIDTHS
from plumbline_training.vocabulary import NUM_CLIP_TOKENS, Vocabulary

IMAGE_PX, PATCH_PX = 96, 8
GRID = IMAGE_PX // PATCH_PX
SIDE_WEIGHT = 2.0  # of how objects lie to each other among claims: the hardest to see, and drowned otherwise
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 128,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": IMAGE_PX,
            "layers": 6,
            "width": 128,
            "head_width": 16,
            "patch_size": PATCH_PX,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": NUM_CLIP_TOKENS,
            "width": 128,
            "heads": 4,
            "layers": 3,
        },
    },
    "preprocess_cfg": {
        "size": [IMAGE_PX, IMAGE_PX],
        "mode": "RGB",
        "mean": list(OPENAI_DATASET_MEAN),
        "std": list(OPENAI_DATASET_STD),
        "interpolation": "bicubic",
        "resize_mode": "squash",
        "fill_color": 0,
    },
}


def build_clip(num_rows: int) -> CLIP:
    """A fresh CLIP of the embedded architecture with a token table of that many rows."""
    config = CONFIG["model_cfg"]
    text = {**config["text_cfg"], "vocab_size": num_rows}
    clip = CLIP(config["embed_dim"], config["vision_cfg"], text, quick_gelu=config["quick_gelu"])
    start_local(clip.visual, GRID)
    return clip


def normalised(images: NDArray[np.uint8]) -> Tensor:
    """`[N, H, W, 3]` uint8 pixels to `[N, 3, H, W]` float32 as CLIP takes them."""
    mean = torch.tensor(OPENAI_DATASET_MEAN).view(3, 1, 1)
    std = torch.tensor(OPENAI_DATASET_STD).view(3, 1, 1)
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    return (pixels - mean) / std


def encode_texts(clip: CLIP, rows: Tensor) -> Tensor:
    """Unit-norm `[N, D]` of `[N, L]` rows; exact for any L that holds the texts, as attention is causal."""
    length = rows.shape[1]
    states = clip.token_embedding(rows) + clip.positional_embedding[:length]
    mask = cast("Tensor", clip.attn_mask)[:length, :length]
    states = clip.ln_final(clip.transformer(states, attn_mask=mask))
    ends = states[torch.arange(len(rows)), rows.argmax(dim=1)]
    return nn.functional.normalize(ends @ cast("Tensor", clip.text_projection), dim=-1)


def encode_ragged(clip: CLIP, rows: Tensor, num_buckets: int = 4) -> Tensor:
    """The same as `encode_texts`, in buckets of like length so that little padding is computed."""
    order = rows.argmax(dim=1).argsort()
    parts = []
    for chosen in order.chunk(num_buckets):
        length = int(rows[chosen].argmax(dim=1).max()) + 1
        parts.append(encode_texts(clip, rows[chosen, :length]))
    return torch.cat(parts)[order.argsort()]


class Watched(nn.Module):
    """A CLIP and some scaffolds that shorten its training a lot, and that are thrown away afterwards.

    Linear layers read from an image layer's patches what is drawn where: after the local layers what can be told from
    an object alone, after the last but one layer everything. Others turn each local layer's patches into what a
    teacher sees there. And both towers are drawn towards one fixed place for each set of claims, so that neither has
    to wait for the other to make sense.
    """

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.clip = clip
        width = CONFIG["model_cfg"]["vision_cfg"]["width"]
        self.local_reading = nn.Linear(width, sum(SECTIONS[:NUM_LOCAL]))
        self.whole_reading = nn.Linear(width, sum(SECTIONS))
        self.seeing = nn.ModuleList(nn.Linear(width, hint) for hint in HINT_WIDTHS)
        weights = torch.tensor([SIDE_WEIGHT if name == "side" else 1.0 for name, _, _ in PLACES])
        self.register_buffer("weights_of_claims", weights, persistent=False)
        self.register_buffer("places", spread_directions(NUM_CLAIMS, CONFIG["model_cfg"]["embed_dim"]))

    def forward(self, pixels: Tensor, *, num_frozen: int = 0) -> tuple[Tensor, Tensor]:
        """Embed and read whole pictures.

        Args:
            pixels: `[N, 3, S, S]`, normalised.
            num_frozen: The first so many layers, and what is before them, do not learn.

        Returns:
            Unit-norm `[N, D]` embeddings and `[N, patches, classes]` logits of all labels.
        """
        visual = cast("Any", self.clip.visual)
        *blocks, last = visual.transformer.resblocks
        with torch.set_grad_enabled(num_frozen == 0 and torch.is_grad_enabled()):
            patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
            start = visual.class_embedding.expand(len(pixels), 1, -1)
            states = visual.ln_pre(torch.cat([start, patches], dim=1) + visual.positional_embedding)
            for block in blocks[:num_frozen]:
                states = block(states)
        for block in blocks[num_frozen:]:
            states = block(states)
        embeddings = visual.ln_post(last(states)[:, 0]) @ visual.proj
        return nn.functional.normalize(embeddings, dim=-1), self.whole_reading(states[:, 1:])

    def read_windows(self, pixels: Tensor, corners: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Read small windows of images as they would be read in their place.

        Args:
            pixels: `[N, 3, S, S]` windows, cut along the grid of patches.
            corners: `[N, 2]` row and column of each window's first patch.

        Returns:
            `[N, patches, classes]` logits of the local labels, and what each local layer sees.
        """
        visual = cast("Any", self.clip.visual)
        patches = visual.conv1(pixels)
        steps = torch.arange(patches.shape[-1])
        rows, columns = corners[:, :1] + steps, corners[:, 1:] + steps
        places = 1 + rows[:, :, None] * GRID + columns[:, None, :]
        states = patches.flatten(2).transpose(1, 2) + visual.positional_embedding[places.flatten(1)]
        states, seen = visual.ln_pre(states), []
        for block, seeing in zip(visual.transformer.resblocks, self.seeing, strict=False):
            states = block(states)
            seen.append(seeing(states))
        return self.local_reading(states), seen

    def homes(self, claims: Tensor) -> Tensor:
        """`[N, D]` unit vectors: where `[N, claims]` belong."""
        weighted = claims * self.get_buffer("weights_of_claims")
        return nn.functional.normalize(weighted @ self.get_buffer("places"), dim=-1)

    def astray(self, embeddings: Tensor, claims: Tensor) -> Tensor:
        """How far unit-norm `[N, D]` embeddings are from where their claims belong: 1 - cosine, averaged."""
        return 1 - (embeddings * self.homes(claims)).sum(dim=-1).mean()


def spread_directions(num: int, dim: int, num_rounds: int = 200) -> Tensor:
    """`[num, dim]` unit vectors that are as far from parallel to each other as a few rounds of pushing make them."""
    drawn = torch.randn(num, dim, generator=torch.Generator().manual_seed(0))
    directions = nn.functional.normalize(drawn, dim=-1)
    for _ in range(num_rounds):
        overlap = directions @ directions.T
        overlap.fill_diagonal_(0)
        directions = nn.functional.normalize(directions - 0.05 * (overlap**3 * 40) @ directions, dim=-1)
    return directions


def export(clip: CLIP, vocabulary: Vocabulary) -> dict[str, Tensor]:
    """The state dict that `open_clip` loads, small enough to be kept in the package.

    The token table is stored as float8 (e4m3), everything else as float16. All tokens that scenes never use
    share the values of one row.
    """
    state = {name: value.detach().half().contiguous() for name, value in clip.state_dict().items()}
    table = clip.token_embedding.weight.detach()[torch.from_numpy(vocabulary.row_of_id)]
    state["token_embedding.weight"] = table.to(torch.float8_e4m3fn).contiguous()
    state.pop("attn_mask", None)
    return state
