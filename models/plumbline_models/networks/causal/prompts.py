"""The prompts of causal families as token ids: one head per image, one tail per caption."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from plumbline_models.core.arrays import TokenIds
from plumbline_models.core.errors import InvalidFieldError
from plumbline_models.networks.causal.families import CausalFamily, Wording
from plumbline_models.text.plain_text import PlainTokenizer
from plumbline_models.text.questions import SLOT, QuestionTemplate

_PROBES: Final = ("", "a", "Z", "0", "é", "漢", "(", '"', "-", " ", "\n")
"""Captions that begin in different ways: what their prompts have in common nearly all captions share."""


@dataclass(frozen=True, slots=True)
class PromptTail:
    """What the network reads behind the image for one caption, and what of it is scored."""

    ids: TokenIds
    """`[L]`: the prompt behind the image, then the answer up to its last token, which is scored but not read."""
    answer_ids: TokenIds
    """`[K]`: scored one by one, the first of them behind token `num_prompt - 1`; none where no answer is scored."""
    num_prompt: int
    """Tokens before the answer, at least 1."""


class ImagePrompt(ABC):
    """A prompt around an image and a text.

    Args:
        wording: All but the text.
        tokenizer: Of the checkpoint.
        placeholder_id: What stands for each of the image's tokens; None: the wording's own control token.
    """

    def __init__(self, wording: Wording, tokenizer: PlainTokenizer, placeholder_id: int | None = None) -> None:
        self._wording = wording
        self._tokenizer = tokenizer
        self.placeholder_id = tokenizer.control_id(wording.placeholder) if placeholder_id is None else placeholder_id

    @cached_property
    def stock_ids(self) -> TokenIds:
        """What nearly all tails begin with."""
        return _shared([self.tail(probe).ids for probe in _PROBES])

    def head_ids(self, grid: tuple[int, int], num_tokens: int) -> TokenIds:
        """All up to and including the image.

        Args:
            grid: Of tiles, for families that have them; (0, 0): one alone.
            num_tokens: Of the image, or of each tile: so many placeholders stand for it.

        Raises:
            CheckpointError: The vocabulary has no mark for a tile.
        """
        image = write_tiles(grid) if self._wording.has_tiles else self._wording.placeholder
        names = [*self._wording.controls, *re.findall(r"<[^<>]+>", image)]
        ids: list[int] = []
        for id_ in self._encode(self._wording.head + image, "", names):
            ids.extend([id_] * num_tokens if id_ == self.placeholder_id else [id_])
        return np.array(ids, dtype=np.int64)

    @abstractmethod
    def tail(self, caption: str) -> PromptTail:
        """All behind the image.

        Raises:
            InvalidFieldError: The caption is not valid Unicode.
        """

    def _encode(self, template: str, question: str, names: Sequence[str] | None = None, behind: str = "") -> list[int]:
        """Control tokens are looked for in the template, before question and answer are put into it."""
        controls = self._wording.controls if names is None else names
        runs = re.split("(" + "|".join(re.escape(name) for name in controls) + ")", template)
        runs = [run if run in controls else run.replace(SLOT, question) for run in runs[:-1]] + [
            runs[-1].replace(SLOT, question) + behind
        ]
        ids: list[int] = []
        for index, run in enumerate(runs):
            if index % 2:
                ids.append(self.placeholder_id if run == self._wording.placeholder else self._tokenizer.control_id(run))
            elif run:
                ids.extend(self._tokenizer.encode(run))
        return ids


class CausalPrompt(ImagePrompt):
    """A family's prompt around one question and answer.

    Args:
        family: Whose wording.
        template: Question and answer; its conversation is not used.
        tokenizer: Of the checkpoint.
    """

    def __init__(self, family: CausalFamily, template: QuestionTemplate, tokenizer: PlainTokenizer) -> None:
        super().__init__(family, tokenizer, -1 if family.name == "llava-1.5" else None)
        self._family = family
        self._template = template
        self._end_ids = [tokenizer.control_id(family.end)] if family.end else []

    def tail(self, caption: str) -> PromptTail:
        """All behind the image, and the answer.

        Raises:
            InvalidFieldError: The answer has no token, or the caption is not valid Unicode.
        """
        question = self._template.question.replace(SLOT, caption)
        answer = self._template.answer_for(caption)
        template = self._family.tail
        if self._family.conventions == "first_token":
            ids, first = self._encode(template, question), self._tokenizer.encode(answer)[:1]
            if not first:
                raise InvalidFieldError("The answer has no token.", answer=answer)
            return PromptTail(np.array(ids, np.int64), np.array(first, np.int64), len(ids))
        # The answer's first word takes the template's last space into its first token.
        num_prompt = len(self._encode(template.rstrip(" "), question))
        ids = [*self._encode(template, question, behind=answer), *self._end_ids]
        return PromptTail(np.array(ids[:-1], np.int64), np.array(ids[num_prompt:], np.int64), num_prompt)

    def rival_id(self) -> int:
        """The first token of the other answer."""
        family = self._family
        if family.conventions == "first_token":
            return self._tokenizer.encode(family.rival)[0]
        num_prompt = len(self._encode(family.tail.rstrip(" "), ""))
        return self._encode(family.tail, "", behind=family.rival)[num_prompt]


class RewardPrompt(ImagePrompt):
    """A prompt that ends where a reward is read."""

    def tail(self, caption: str) -> PromptTail:
        """All behind the image, up to the reward token.

        Raises:
            InvalidFieldError: The caption is not valid Unicode.
        """
        ids = np.array(self._encode(self._wording.tail, caption), np.int64)
        return PromptTail(ids, np.empty(0, np.int64), len(ids))


def write_tiles(grid: tuple[int, int]) -> str:
    """How Idefics3 and SmolVLM write an image: marks around every tile, and a small copy of the whole as the last."""
    rows, columns = grid
    lines = (
        "".join(f"<fake_token_around_image><row_{row + 1}_col_{column + 1}><image>" for column in range(columns)) + "\n"
        for row in range(rows)
    )
    whole = "<fake_token_around_image><global-img><image><fake_token_around_image>"
    return "".join(lines) + ("\n" if rows else "") + whole


def num_shared(first: TokenIds, second: TokenIds) -> int:
    """How many tokens two prompts have in common from their beginning.

    Args:
        first: Token ids `[L]`.
        second: Token ids, of any other length.
    """
    length = min(len(first), len(second))
    differing = np.flatnonzero(first[:length] != second[:length])
    return int(differing[0]) if len(differing) else length


def _shared(prompts: Sequence[TokenIds]) -> TokenIds:
    return prompts[0][: min(num_shared(prompts[0], other) for other in prompts)]
