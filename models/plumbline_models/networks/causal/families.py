"""The causal question-answering networks by family, as data: the question, its wording, and what is scored.

Lin et al., arXiv:2404.01291, and the two lines of the authors' program: `all_tokens` is how its releases up to 3.0
score LLaVA-1.5 (all tokens of the answer with its end, as a geometric mean), `first_token` how it scores every other
family here (the probability that the first new token is the answer's first). The two are not on one scale.
SmolVLM is not among the authors' families: it is scored by the same rule, and not validated as a VQAScore.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

Conventions: TypeAlias = Literal["all_tokens", "first_token"]
CausalName: TypeAlias = Literal["llava-1.5", "qwen2.5-vl", "qwen3-vl", "smolvlm"]

ANSWER_CONVENTIONS: Final[Mapping[Conventions, str]] = MappingProxyType(
    {
        "all_tokens": "geometric mean of the probabilities of the answer's tokens, its end included",
        "first_token": "probability of the answer's first token",  # nosec B105  # no password
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """A prompt around an image."""

    name: str
    head: str
    """All that stands before the image; `controls` in it are control tokens."""
    tail: str
    """All that stands behind the image, up to where something is scored; `{}` stands for the caller's text."""
    placeholder: str
    """The control token that stands where one of the image's tokens does."""
    controls: tuple[str, ...]
    has_tiles: bool = False
    """Whether images are written tile by tile, with marks around them."""
    num_axes: int = 1
    """Of a token's position: 1, or 3 where the image's tokens have time, height and width (M-RoPE)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalFamily(Wording):
    """One family; in its prompt `{}` stands for the question."""

    name: CausalName
    question: str
    answer: str
    rival: str
    """What the other answer begins with."""
    conventions: Conventions
    end: str | None = None
    """The control token that closes a scored answer."""
    is_vocabulary_cut: bool = False
    """Whether the softmax runs over the tokenizer's own vocabulary alone, where the checkpoint stores a larger one."""


_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_UPPER_CASE = 'Does this figure show "{}"? Please answer Yes or No.'
_QWEN_USER = "<|im_start|>user\n<|vision_start|>"
_QWEN_TAIL = "<|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"
_QWEN_CONTROLS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")

_LLAVA = CausalFamily(
    name="llava-1.5",
    head=f"<s>{_SYSTEM} USER: ",
    tail="\n{} ASSISTANT: ",
    question='Does this figure show "{}"? Please answer yes or no.',
    answer="Yes",
    rival="No",
    conventions="all_tokens",
    placeholder="<image>",
    controls=("<s>",),
    end="</s>",
    is_vocabulary_cut=True,
)
_QWEN25 = CausalFamily(
    name="qwen2.5-vl",
    head=f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{_QWEN_USER}",
    tail=_QWEN_TAIL,
    question=_UPPER_CASE,
    answer="Yes",
    rival="No",
    conventions="first_token",
    placeholder="<|image_pad|>",
    controls=_QWEN_CONTROLS,
    num_axes=3,
)
_QWEN3 = CausalFamily(
    name="qwen3-vl",
    head=_QWEN_USER,
    tail=_QWEN_TAIL,
    question=_UPPER_CASE,
    answer="Yes",
    rival="No",
    conventions="first_token",
    placeholder="<|image_pad|>",
    controls=_QWEN_CONTROLS,
    num_axes=3,
)
_SMOLVLM = CausalFamily(
    name="smolvlm",
    head="<|im_start|>User:",
    tail="{}<end_of_utterance>\nAssistant:",
    question=_UPPER_CASE,
    answer=" Yes",  # with the space: the prompt ends in a colon
    rival=" No",
    conventions="first_token",
    placeholder="<image>",
    controls=("<|im_start|>", "<end_of_utterance>"),
    has_tiles=True,
)

CAUSAL_FAMILIES: Final[Mapping[CausalName, CausalFamily]] = MappingProxyType(
    {family.name: family for family in (_LLAVA, _QWEN25, _QWEN3, _SMOLVLM)}
)
