"""The embedded CLIP as it is trained: open_clip's own modules, a small token table, and a reading of patches."""

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP
from torch import Tensor, nn

from plumbline_models.training.claims import NUM_CLAIMS
from plumbline_models.training.vocabulary import NUM_CLIP_TOKENS, Vocabulary

IMAGE_PX, PATCH_PX = 112, 14
GRID = IMAGE_PX // PATCH_PX
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 128,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": IMAGE_PX,
            "layers": 4,
            "width": 128,
            "head_width": 32,
            "patch_size": PATCH_PX,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": NUM_CLIP_TOKENS,
            "width": 96,
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
    return CLIP(config["embed_dim"], config["vision_cfg"], text, quick_gelu=config["quick_gelu"])


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
    """A CLIP and two scaffolds that shorten its training a lot, and that are thrown away afterwards.

    A linear layer reads from the last but one image layer's patches what is drawn where. And both towers are
    drawn towards one fixed place for each set of claims, so that neither has to wait for the other to make sense.
    """

    def __init__(self, clip: CLIP, num_labels: int) -> None:
        super().__init__()
        self.clip = clip
        width = CONFIG["model_cfg"]["vision_cfg"]["width"]
        self.reading = nn.Linear(width, num_labels)
        places = torch.randn(NUM_CLAIMS, CONFIG["model_cfg"]["embed_dim"], generator=torch.Generator().manual_seed(0))
        self.register_buffer("places", nn.functional.normalize(places, dim=-1))
        self._patches: list[Tensor] = []
        blocks = cast("nn.ModuleList", cast("Any", clip.visual).transformer.resblocks)
        blocks[-2].register_forward_hook(lambda _module, _inputs, output: self._patches.append(output))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Unit-norm `[N, D]` embeddings and `[N, patches, labels]` logits."""
        self._patches.clear()
        embeddings = self.clip.encode_image(pixels, normalize=True)
        return embeddings, self.reading(self._patches.pop()[:, 1:])

    def astray(self, embeddings: Tensor, claims: Tensor) -> Tensor:
        """How far unit-norm `[N, D]` embeddings are from where their claims belong: 1 - cosine, averaged."""
        homes = nn.functional.normalize(claims @ self.get_buffer("places"), dim=-1)
        return 1 - (embeddings * homes).sum(dim=-1).mean()


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
