"""The prompt of a question-answering scorer: the question, the answer, and the conversation around them.

Lin et al., "Evaluating Text-to-Visual Generation with Image-to-Text Generation", ECCV 2024, arXiv:2404.01291,
section 3 and appendix; the wordings are part of what the checkpoints were trained on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from plumbline_models.core.errors import ConfigError

SLOT: Final = "{}"
DEFAULT_QUESTION: Final = 'Does this figure show "{}"? Please answer yes or no.'
DEFAULT_ANSWER: Final = "Yes"
RIVAL_ANSWER: Final = "No"
DEFAULT_CONVERSATION: Final = "t5_chat"

_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """What stands around the image and the question."""

    head: str
    """Before the image."""
    lead: str
    """Between the image and the question."""
    close: str
    """Between the question and the answer."""


CONVERSATIONS: Final[Mapping[str, Conversation]] = MappingProxyType(
    {
        "t5_chat": Conversation(head=f"{_SYSTEM} USER: ", lead="\n", close=" ASSISTANT: "),
        "t5_chat_no_system": Conversation(head="USER: ", lead="\n", close=" ASSISTANT: "),
        "t5_chat_no_system_no_user": Conversation(head="", lead="\n", close=" : "),
        "t5_plain": Conversation(head="", lead="", close=""),
    }
)


@dataclass(frozen=True, slots=True)
class QuestionTemplate:
    """A question and its answer, as templates in which `{}` stands for the caption.

    Args:
        question: About the image; holds one `{}`, or none if the answer has it.
        answer: Whose likelihood is the score; may hold `{}`.
        conversation: A key of `CONVERSATIONS`.

    Raises:
        ConfigError: There is no such conversation, no place for the caption, or a brace too many.
    """

    question: str = DEFAULT_QUESTION
    answer: str = DEFAULT_ANSWER
    conversation: str = DEFAULT_CONVERSATION

    def __post_init__(self) -> None:
        if self.conversation not in CONVERSATIONS:
            raise ConfigError(
                f"There is no conversation {self.conversation!r}; there are {', '.join(CONVERSATIONS)}.",
                conversation=self.conversation,
            )
        num_slots = _count_slots("question", self.question), _count_slots("answer", self.answer)
        if not any(num_slots):
            raise ConfigError("The question needs a {} where the caption goes.", question=self.question)
        if not self.answer.strip():
            raise ConfigError("The answer must not be empty.", answer=self.answer)

    @property
    def head(self) -> str:
        """All that stands before the image."""
        return CONVERSATIONS[self.conversation].head

    def tail(self, caption: str) -> str:
        """All that stands between the image and the answer."""
        conversation = CONVERSATIONS[self.conversation]
        return conversation.lead + self.question.replace(SLOT, caption) + conversation.close

    def answer_for(self, caption: str) -> str:
        """The answer whose likelihood is the score."""
        return self.answer.replace(SLOT, caption)


def _count_slots(name: str, template: str) -> int:
    num_slots = template.count(SLOT)
    rest = template.replace(SLOT, "")
    if num_slots > 1 or "{" in rest or "}" in rest:
        raise ConfigError(f"The {name} may hold one {{}} and no other braces.", template=template)
    return num_slots
