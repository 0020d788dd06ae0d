"""Where the embedded CLIP-FlanT5 starts from: patches that already speak the words of captions, attended to by alike.

The tower's patches tell colours, shapes and the like by linear functions, which are found by least squares. The
projector starts as these functions, each turned into the embedding of the word for what it tells; and attention starts
by looking for what is similar. So a word finds the patches that it may be about from the first step on, which
training from random weights takes hours to discover.
"""

from typing import Final

import torch
from sentencepiece import SentencePieceProcessor
from torch import Tensor, nn

from plumbline_models.networks.flant5.layers import SelfAttention
from plumbline_models.networks.flant5.score_module import FlanT5Score
from plumbline_models.networks.flant5.tower_module import FlanT5Image
from plumbline_training.captions import COUNT_WORDS
from plumbline_training.claims import COUNTS, SIDES, SIZES
from plumbline_training.labels import NOTHING, PARTS_A_SIDE, grid_labels
from plumbline_training.pool import Pool
from plumbline_training.scenes import COLOURS, FILLS, SHAPES, Scene
from plumbline_training.wordings import SPACE

NUM_RESIZED: Final = 384  # scenes
RIDGE: Final = 10.0
EMPTY_WEIGHT: Final = 0.1  # of patches that show no object, which are most of them
MIDDLE, STEEPNESS, GAIN = 0.4, 4.0, 0.4
"""A true reading comes out of the projector as about a word's embedding, a false one as nearly nothing."""
OTHER_SPREAD: Final = 0.5  # of what patches say that is no word
ALIKE: Final = 14.0  # attention score of a row with itself
NOT_ITSELF: Final = -14.0  # bias against a row's attention to itself, which would take it all
NEIGHBOURS: Final = (3.0, 2.0, 1.0)  # bias of the first head towards the words just before
INFLECTED: Final = 0.4  # how far a plural's embedding is from its singular's

_SPOKEN: Final[tuple[tuple[str | None, ...], ...]] = (
    COLOURS, SHAPES, FILLS, (None,) * PARTS_A_SIDE**2, tuple(COUNT_WORDS[count] for count in COUNTS), SIZES, SIDES,
    COLOURS,
)  # fmt: skip
"""Words for the classes of each label, and for the colour of what lies behind."""


@torch.no_grad()
def start_reading(image: FlanT5Image, answers: FlanT5Score, pool: Pool, pieces: SentencePieceProcessor) -> None:
    """Set the projector, the embeddings of words, and the attention, as the module says."""
    seen, labels = _seen(image, pool)
    weight, bias = _fit(seen, labels)
    words = [word for section in _SPOKEN for word in section]
    _tie_embeddings(answers.tokens, [word for word in words if word is not None], pieces)
    mean, spread = seen.mean(dim=0), seen.std(dim=0) + 1e-3
    num_read, width = len(weight), len(mean)
    other = torch.randn(image.project_in.out_features - num_read, width) / width**0.5 / spread
    image.project_in.weight.copy_(torch.cat([weight, other]))
    image.project_in.bias.copy_(torch.cat([bias, -other @ mean]))
    spoken = torch.randn(image.project_out.in_features, image.project_out.out_features)
    for place, word in enumerate(words):
        if word is not None:
            spoken[place] = answers.tokens[pieces.piece_to_id(SPACE + word.split()[0])]
    spoken[:num_read] *= GAIN
    spoken[num_read:] *= OTHER_SPREAD * (2 / len(other)) ** 0.5
    image.project_out.weight.copy_(spoken.T)
    nn.init.zeros_(image.project_out.bias)
    for module in answers.encoder_blocks.modules():
        if isinstance(module, SelfAttention):
            _attend_to_alike(module.query_key_value.weight, module.out.weight, module.num_heads)
    buckets = answers.get_parameter("encoder_bias.parametrizations.table.original")
    buckets[0, 1:] = NOT_ITSELF  # T5 counts distances to what comes before from bucket 0 on
    buckets[1 : 1 + len(NEIGHBOURS), 0] = torch.tensor(NEIGHBOURS)


def _seen(image: FlanT5Image, pool: Pool) -> tuple[Tensor, Tensor]:
    """`[M, W]` patch rows of some scenes, and `[M, words]` of what they should tell, 1, 0, or NaN for either."""
    rows = torch.cat([image.embed(torch.from_numpy(pool.images[k : k + 32])) for k in range(0, NUM_RESIZED, 32)])
    side = int(rows.shape[1] ** 0.5)
    told = [_told(scene, side) for scene in pool.scenes[: len(rows)]]
    return rows.flatten(0, 1), torch.cat(told)


def _told(scene: Scene, side: int) -> Tensor:
    labels = torch.from_numpy(grid_labels(scene, side)).long().flatten(0, 1)
    one_hot = nn.functional.one_hot
    told = [one_hot(labels[:, k], none + 1)[:, :-1] for k, none in enumerate(NOTHING)]
    is_empty = (labels[:, :1] == NOTHING[0]).long()
    behind = torch.zeros(1, len(COLOURS), dtype=torch.long)
    if scene.backdrop.colour is not None:
        behind[0, COLOURS.index(scene.backdrop.colour)] = 1
    return torch.cat([*told, is_empty * behind], dim=1).float()


def _fit(seen: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and biases of what is read off a patch: each word, and where it is, from either side."""
    side = int((len(told) // NUM_RESIZED) ** 0.5)
    steps = torch.linspace(-1, 1, side)
    places = torch.stack([steps.repeat(side), steps.repeat_interleave(side)], dim=1).repeat(NUM_RESIZED, 1)
    rows = torch.cat([seen, torch.ones(len(seen), 1)], dim=1)
    is_object = told[:, : len(COLOURS)].any(dim=1, keepdim=True)
    importance = torch.where(is_object, 1.0, EMPTY_WEIGHT)
    gram = (rows * importance).T @ rows + RIDGE * torch.eye(rows.shape[1])
    found = torch.linalg.solve(gram, (rows * importance).T @ torch.cat([told, places], dim=1)).T
    read = rows @ found[: told.shape[1]].T
    high = (read * told).sum(dim=0) / told.sum(dim=0).clamp(min=1)
    low = (read * (1 - told)).sum(dim=0) / (1 - told).sum(dim=0)
    scale = STEEPNESS / (high - low).clamp(min=0.1)
    words = found[: told.shape[1]] * scale[:, None]
    words[:, -1] -= scale * low + STEEPNESS * MIDDLE
    both = torch.cat([words, 2 * found[-2:], -2 * found[-2:]])
    return both[:, :-1], both[:, -1]


def _tie_embeddings(tokens: Tensor, words: list[str], pieces: SentencePieceProcessor) -> None:
    """Let a word mean the same behind a space, behind a quote, and nearly the same as a plural."""
    for word in (text.split()[0] for text in words):
        home = tokens[pieces.piece_to_id(SPACE + word)].clone()
        for ending in ("", "s", "es"):
            near = home if ending == "" else home + INFLECTED * torch.randn_like(home)
            for start in (SPACE, ""):
                piece = pieces.piece_to_id(start + word + ending)
                if piece != pieces.unk_id():
                    tokens[piece] = near


def _attend_to_alike(weight: Tensor, out: Tensor, num_heads: int) -> None:
    """Make queries and keys alike, so that a row scores `ALIKE` with itself; the first head copies what it attends to.

    Args:
        weight: `[3 * inner, D]` of queries, keys and values.
        out: `[D, inner]`.
        num_heads: Of which the first looks by distance alone.
    """
    inner, width = weight.shape[0] // 3, weight.shape[1]
    head_width = inner // num_heads
    drawn = torch.randn(inner, width) * (ALIKE / (head_width * width)) ** 0.5
    drawn[:head_width] *= 0.1
    weight[:inner], weight[inner : 2 * inner] = drawn, drawn
    copied = nn.init.orthogonal_(torch.empty(head_width, width))
    weight[2 * inner : 2 * inner + head_width] = copied
    out[:, :head_width] = 2.0 * copied.T
