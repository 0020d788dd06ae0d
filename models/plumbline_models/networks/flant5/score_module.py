"""The language part of CLIP-FlanT5: how likely is an answer, given an image and a question.

Lin et al., "Evaluating Text-to-Visual Generation with Image-to-Text Generation", ECCV 2024, arXiv:2404.01291,
section 3. The encoder reads question head, image tokens and question tail in one go; the decoder is forced along
the answer.

The decoder's cross-attention is folded. T5 neither scales nor biases it, so with the key and value matrices K and
V of a head, (K e) . q = e . (K' q), and the sum of a V e is V times the sum of a e. Instead of projecting all
encoder tokens to keys and values in every block, the few queries are mapped to the space of the tokens. It is exact,
and cheaper while the answer has fewer tokens than a head has channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from plumbline_models.networks.flant5.arch import T5Arch
from plumbline_models.networks.flant5.layers import GatedFeedForward, RelativeBias, RmsNorm, SelfAttention

PAD_ID = 0
_FORBIDDEN = -3e4  # finite even in fp16, so that no backend makes a NaN of it; exp underflows to exactly 0


class EncoderBlock(nn.Module):
    """Self-attention, then feed-forward."""

    def __init__(self, arch: T5Arch) -> None:
        super().__init__()
        self.attention = SelfAttention(arch)
        self.ffn = GatedFeedForward(arch)

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """`[N, S, D]` to the same.

        Args:
            tokens: `[N, S, D]`.
            bias: As the attention takes it.
        """
        return self.ffn(self.attention(tokens, bias))


class FoldedCrossAttention(nn.Module):
    """Cross-attention of a few queries over many tokens that are never projected."""

    def __init__(self, arch: T5Arch) -> None:
        super().__init__()
        self.num_heads, self.head_width = arch.num_heads, arch.head_width
        self.norm = RmsNorm(arch.width, arch.norm_epsilon)
        self.query = nn.Linear(arch.width, arch.inner_width, bias=False)
        self.key = nn.Parameter(torch.empty(arch.num_heads, arch.head_width, arch.width))
        self.value = nn.Parameter(torch.empty(arch.num_heads, arch.width, arch.head_width))
        self.out = nn.Linear(arch.inner_width, arch.width, bias=False)

    def forward(self, tokens: Tensor, memory: Tensor, memory_bias: Tensor) -> Tensor:
        """`[N, K, D]` to the same.

        Args:
            tokens: `[N, K, D]`, which read.
            memory: `[N, S, D]`, which is read.
            memory_bias: `[N, 1, S]`, added to the scores.
        """
        num_steps = tokens.shape[1]
        query = self.query(self.norm(tokens)).unflatten(-1, (self.num_heads, self.head_width)).transpose(1, 2)
        reach = torch.matmul(query, self.key).flatten(1, 2)
        weights = torch.softmax(torch.matmul(reach, memory.transpose(1, 2)) + memory_bias, dim=-1)
        seen = torch.matmul(weights, memory).reshape(-1, self.num_heads, num_steps, memory.shape[2])
        return tokens + self.out(torch.matmul(seen, self.value).transpose(1, 2).flatten(2))


class DecoderBlock(nn.Module):
    """Causal self-attention, cross-attention, feed-forward."""

    def __init__(self, arch: T5Arch) -> None:
        super().__init__()
        self.attention = SelfAttention(arch)
        self.cross = FoldedCrossAttention(arch)
        self.ffn = GatedFeedForward(arch)

    def forward(self, tokens: Tensor, bias: Tensor, memory: Tensor, memory_bias: Tensor) -> Tensor:
        """`[N, K, D]` to the same.

        Args:
            tokens: `[N, K, D]`, which read.
            bias: Of the attention among them.
            memory: `[N, S, D]`, which they read.
            memory_bias: `[N, 1, S]`, added to the scores.
        """
        return self.ffn(self.cross(self.attention(tokens, bias), memory, memory_bias))


class FlanT5Score(nn.Module):
    """The graph `flant5_score`: log-probabilities of answers.

    Args:
        arch: Sizes.
        rival_id: First token of the answer to compare with, `No`.
    """

    def __init__(self, arch: T5Arch, rival_id: int) -> None:
        super().__init__()
        self.rival_id = rival_id
        self.tokens = nn.Parameter(torch.empty(arch.num_tokens, arch.width))
        self.encoder_bias = RelativeBias(arch)
        self.encoder_blocks = nn.ModuleList(EncoderBlock(arch) for _ in range(arch.num_encoder_blocks))
        self.encoder_norm = RmsNorm(arch.width, arch.norm_epsilon)
        self.decoder_bias = RelativeBias(arch)
        self.decoder_blocks = nn.ModuleList(DecoderBlock(arch) for _ in range(arch.num_decoder_blocks))
        self.decoder_norm = RmsNorm(arch.width, arch.norm_epsilon)
        self.vocabulary = nn.Linear(arch.width, arch.num_tokens, bias=False)

    def forward(
        self, image_encodings: Tensor, head_ids: Tensor, tail_ids: Tensor, read_ids: Tensor, answer_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Score a batch.

        Args:
            image_encodings: `[N, P, D]`, from `flant5_image`.
            head_ids: `[N, H]`, the question before the image, without padding.
            tail_ids: `[N, L]`, the question after the image, padded on the right with 0.
            read_ids: `[N, K]`, what the decoder reads: its start, then the answer without its last token.
            answer_ids: `[N, K]`, the answer with its end-of-sequence. Both are padded on the right with anything;
                what comes out for padding means nothing.

        Returns:
            `[N, K]` natural log-probability of each answer token given those before it, and `[N, 1]` that of the
            rival as first token.
        """
        tokens = self.join(image_encodings, head_ids, tail_ids)
        memory_bias = self.mask_padding(tail_ids, tokens.shape[1] - tail_ids.shape[1])
        memory = self.encode(tokens, memory_bias)
        logits = self.vocabulary(self.decode(read_ids, memory, memory_bias))
        total = _log_sum_exp(logits)
        answer = torch.gather(logits, 2, answer_ids[:, :, None])[:, :, 0] - total
        return answer, logits[:, 0, self.rival_id : self.rival_id + 1] - total[:, :1]

    def join(self, image_encodings: Tensor, head_ids: Tensor, tail_ids: Tensor) -> Tensor:
        """The encoder's input, `[N, S, D]`: head, image, tail.

        Args:
            image_encodings: `[N, P, D]`.
            head_ids: `[N, H]`.
            tail_ids: `[N, L]`.
        """
        return torch.cat([self.tokens[head_ids], image_encodings, self.tokens[tail_ids]], dim=1)

    def mask_padding(self, tail_ids: Tensor, num_before: int) -> Tensor:
        """`[N, 1, S]`: 0, and very negative at padding; the tail has `num_before` tokens before it.

        Args:
            tail_ids: `[N, L]`.
            num_before: Tokens before the tail.
        """
        padding = (tail_ids == PAD_ID).to(self.tokens.dtype) * _FORBIDDEN
        return functional.pad(padding, (num_before, 0))[:, None, :]

    def encode(self, tokens: Tensor, memory_bias: Tensor) -> Tensor:
        """`[N, S, D]` to the same, normed.

        Args:
            tokens: `[N, S, D]`, as `join` gives them.
            memory_bias: As `mask_padding` gives it.
        """
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        bias = self.encoder_bias(positions) + memory_bias[:, None]
        for block in self.encoder_blocks:
            tokens = block(tokens, bias)
        return self.encoder_norm(tokens)

    def decode(self, read_ids: Tensor, memory: Tensor, memory_bias: Tensor) -> Tensor:
        """Hidden vectors `[N, K, D]` from which each answer token is predicted.

        Args:
            read_ids: `[N, K]`, what the decoder reads.
            memory: `[N, S, D]`, what the encoder gives.
            memory_bias: As `mask_padding` gives it.
        """
        tokens = self.tokens[read_ids]
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        later = (steps[None, :] > steps[:, None]).to(tokens.dtype) * _FORBIDDEN
        bias = self.decoder_bias(steps) + later
        for block in self.decoder_blocks:
            tokens = block(tokens, bias, memory, memory_bias)
        return self.decoder_norm(tokens)


def _log_sum_exp(logits: Tensor) -> Tensor:
    """Over the last axis; spelt out, as some compilers leave out the maximum that keeps it from overflowing."""
    highest = logits.amax(dim=-1)
    return highest + (logits - highest[..., None]).exp().sum(dim=-1).log()
