"""The embedded CLIP-FlanT5 as it is trained: the very graphs that answer, with a start of their own and a scaffold.

Raffel et al., arXiv:1910.10683, for how the weights of a T5 start; Liu et al., arXiv:2310.03744, section 3.2, for
the projector between a frozen CLIP tower and the language side.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from plumbline_models.networks.flant5.arch import T5Arch, TowerArch
from plumbline_models.networks.flant5.layers import RmsNorm, SelfAttention
from plumbline_models.networks.flant5.score_module import FlanT5Score, FoldedCrossAttention
from plumbline_models.networks.flant5.states import bucket_of_distances
from plumbline_models.networks.flant5.tower_module import FlanT5Image
from plumbline_training.questions import QuestionBatch

END_ID: Final = 1
FOIL_ODDS: Final = 3.0
"""Foils count three times: then p(Yes) of an even case is 1/4, and the score, its square root, is 1/2."""
EVEN_SPREAD: Final = 0.02  # of the head's weights, so that all answers start alike
WRONG_WEIGHT: Final = 2.0
"""Of pieces of changed words against others, which are many more."""


class SpreadBias(nn.Module):
    """A bias table over distances, learnt as the bucket table that is stored."""

    def __init__(self, arch: T5Arch, *, is_causal: bool) -> None:
        super().__init__()
        buckets = bucket_of_distances(arch.num_buckets, arch.max_distance, is_causal=is_causal)
        self.register_buffer("bucket_of", torch.tensor(buckets))
        self.num_buckets = arch.num_buckets

    def forward(self, buckets: Tensor) -> Tensor:
        """`[buckets, heads]` to `[heads, distances]`."""
        return buckets[self.get_buffer("bucket_of")].T

    def right_inverse(self, table: Tensor) -> Tensor:
        """Any bucket table of the right shape: training starts at zero."""
        return table.new_zeros(self.num_buckets, len(table))


class Answering(nn.Module):
    """The image graph, of which only the projector learns, the score graph, and a scaffold.

    The scaffold reads from the encoder's rows which pieces of a caption are wrong. It shortens training a lot, and is
    thrown away afterwards.

    Args:
        tower: Sizes of the image tower.
        arch: Sizes of encoder and decoder.
        yes_id: The answer's first token, where it is yes.
        no_id: The same, where it is no.
    """

    def __init__(self, tower: TowerArch, arch: T5Arch, *, yes_id: int, no_id: int) -> None:
        super().__init__()
        self.image, self.answers = FlanT5Image(tower), FlanT5Score(arch, no_id)
        self.faults = nn.Linear(arch.width, 1)
        self.yes_id, self.no_id, self.start_id = yes_id, no_id, arch.start_id
        start_t5(self.answers, arch)

    def use_tower(self, state: Mapping[str, Tensor]) -> None:
        """Take a tower's weights."""
        self.image.load_state_dict(dict(state), strict=False)

    def learning(self) -> list[tuple[str, nn.Parameter]]:
        """All that learns, by name: everything but the tower."""
        return [
            (name, parameter)
            for name, parameter in self.named_parameters()
            if not name.startswith("image.") or name.startswith("image.project_")
        ]

    def forward(self, pixels: Tensor, questions: QuestionBatch, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Answer questions about `[N, H, W, 3]` uint8 pixels.

        Args:
            pixels: The scenes.
            questions: The questions.
            kept: `[P]` numbers of the patches that are read, in order; the others are passed over.

        Returns:
            `[T, 2, tokens]` logits of the true answer and its end, `[T]` of the first being yes, and `[T, L]` of
            pieces being wrong.
        """
        with torch.no_grad():
            seen = self.image.embed(pixels)
        rows = self.image.project(seen[:, kept])[questions.owners]
        num_texts, num_patches = len(questions.owners), seen.shape[1]
        head_ids = torch.full((num_texts, 1), END_ID)
        joined = self.answers.join(rows, head_ids, questions.tails)
        behind = torch.arange(questions.tails.shape[1]) + 1 + num_patches
        mask = self.answers.mask_padding(questions.tails, 1 + len(kept))
        memory = self._encode(joined, mask, torch.cat([torch.zeros(1, dtype=torch.long), 1 + kept, behind]))
        read = torch.stack([torch.full((num_texts,), self.start_id), self.answer_ids(questions)], dim=1)
        logits: Tensor = self.answers.vocabulary(self.answers.decode(read, memory, mask))
        log_yes = torch.log_softmax(logits[:, 0], dim=-1)[:, self.yes_id]
        return logits, log_yes, self.faults(memory[:, -questions.tails.shape[1] :])[..., 0]

    def _encode(self, rows: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """What `FlanT5Score.encode` does, for rows some of which are passed over."""
        bias = self.answers.encoder_bias(positions) + mask[:, None]
        for block in self.answers.encoder_blocks:
            rows = block(rows, bias)
        normed: Tensor = self.answers.encoder_norm(rows)
        return normed

    def answer_ids(self, questions: QuestionBatch) -> Tensor:
        """`[T]`: yes or no."""
        return torch.where(questions.is_true, self.yes_id, self.no_id)


def start_t5(answers: FlanT5Score, arch: T5Arch) -> None:
    """Draw weights as T5 does, with the bias tables at zero and an even answer."""
    for bias, is_causal in ((answers.encoder_bias, False), (answers.decoder_bias, True)):
        nn.init.zeros_(bias.table)
        register_parametrization(bias, "table", SpreadBias(arch, is_causal=is_causal))
    inward, outward = arch.width**-0.5, (2 * arch.num_encoder_blocks) ** -0.5
    spreads = dict.fromkeys(("query_key_value", "gate_and_value", "query", "key", "value"), inward)
    spreads |= {"out": outward * arch.inner_width**-0.5, "down": outward * arch.ffn_width**-0.5}
    spreads |= {"vocabulary": EVEN_SPREAD, "tokens": 1.0}
    for name, weight in answers.named_parameters():
        kind = name.removesuffix(".weight").split(".")[-1]
        if kind in spreads:
            nn.init.normal_(weight, std=spreads[kind])
    for module in answers.modules():
        if isinstance(module, RmsNorm):
            nn.init.ones_(module.weight)
    with torch.no_grad():  # scores are not scaled, so queries start small
        for module in answers.modules():
            if isinstance(module, SelfAttention):
                module.query_key_value.weight[: arch.inner_width] *= arch.head_width**-0.5
            if isinstance(module, FoldedCrossAttention):
                module.query.weight *= arch.head_width**-0.5


def parts_of(answering: Answering, pixels: Tensor, questions: QuestionBatch, kept: Tensor) -> dict[str, Tensor]:
    """The loss by parts, and shares of what is right."""
    logits, log_yes, faults = answering(pixels, questions, kept)
    targets = torch.stack([answering.answer_ids(questions), torch.full_like(questions.owners, END_ID)], dim=1)
    losses = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(-1, 2)
    num_true, num_false = questions.is_true.sum(), (~questions.is_true).sum().clamp(min=1)
    weights = torch.where(questions.is_true, 1 / num_true, FOIL_ODDS / num_false) / (1 + FOIL_ODDS)
    fault = nn.functional.binary_cross_entropy_with_logits(faults, questions.wrong.float(), reduction="none")
    counted = questions.counted * (1 + (WRONG_WEIGHT - 1) * questions.wrong)
    says_yes = log_yes > torch.tensor(0.25).log()
    right = (says_yes == questions.is_true).float()
    return {
        "answer": (losses[:, 0] * weights).sum(),
        "end": losses[:, 1].mean(),
        "faults": (fault * counted).sum() / counted.sum(),
        "right": (right[questions.is_true].mean() + right[~questions.is_true].mean()).detach() / 2,
        "above": _share_above(log_yes.detach(), questions),
    }


def _share_above(log_yes: Tensor, questions: QuestionBatch) -> Tensor:
    """How often a true caption is above a foil of its own."""
    of_truth = torch.zeros(int(questions.owners.max()) + 1)
    of_truth[questions.owners[questions.is_true]] = log_yes[questions.is_true]
    is_foil = ~questions.is_true
    return (of_truth[questions.owners[is_foil]] > log_yes[is_foil]).float().mean()
