"""What the configuration says of a question-answering network: the section of every scorer that is built on one."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from plumbline_models.core.errors import CheckpointNotFoundError, ConfigError
from plumbline_models.core.protocols import BuildContext
from plumbline_models.networks.causal.checkpoint import PixelOverrides
from plumbline_models.networks.vqa import FAMILIES, VqaEncoders, VqaSpec
from plumbline_models.networks.vqa_family import Family, settle_family
from plumbline_models.text.questions import DEFAULT_CONVERSATION, QuestionTemplate
from plumbline_models.weights.embedded import embedded_folder
from plumbline_models.weights.folders import trained_conversation
from plumbline_models.weights.paths import Paths

EMBEDDED: Final = "mini-flant5"
VQA_PATHS: Final[Paths] = dict.fromkeys(("model", "tokenizer", "vision_tower"), "folder or hub name")
"""Options that name folders or hub names."""


class VqaSection(BaseModel):
    """A network, and how it is asked about a caption.

    Scorers whose sections say the same share one network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = Field(None, min_length=1)
    """A hub name, or a folder of the published layout; none: the embedded one."""
    family: Family | None = None
    """How the network is built; none: as the checkpoint says. The causal ones need the extra `vlm`."""
    question: str | None = None
    """The question; `{}` stands for the text. None: the family's own."""
    answer: str | None = None
    """Whose likelihood is the score; may hold `{}`. None: the family's own."""
    conversation: str | None = None
    """What stands around image and question, by name; none: the checkpoint's own, else t5_chat. Of CLIP-FlanT5 only."""
    image_aspect_ratio: Literal["pad", "square", "squash"] | None = None
    """Whether images are padded to a square, cropped or squashed; none: as the checkpoint says. Of CLIP-FlanT5 only."""
    max_pixels: int | None = Field(None, ge=1, le=1 << 26)
    """The most pixels an image is given, of the Qwen families; none: as the checkpoint says. Changes the score."""
    tiles: bool | None = None
    """Whether images are cut into tiles, of smolvlm; none: as the checkpoint says. Changes the score."""
    repetition_penalty: float = Field(1.0, ge=1.0, le=2.0)
    """Of causal families: 1.05 gives what the public program reads off Qwen2.5-VL; 1: raw."""
    tokenizer: str | None = None
    """A hub name or folder, where the checkpoint has no tokenizer of its own."""
    vision_tower: str | None = None
    """A hub name or folder, where it is not the one that the checkpoint names."""


class VqaNetwork:
    """The network that a section names; loads no weights.

    Args:
        section: As configured.
        scorer: Whose section it is.

    Raises:
        ConfigError: It says another family than the checkpoint, or a template is not valid.
        CheckpointError: There is no such checkpoint, or it is of no family here.
    """

    def __init__(self, section: VqaSection, scorer: str) -> None:
        self.is_embedded = section.model is None
        name, self.family = _checkpoint(section, scorer)
        self._entry = FAMILIES[self.family]
        question = self._entry.question if section.question is None else section.question
        answer = self._entry.answer if section.answer is None else section.answer
        conversation = section.conversation or trained_conversation(name) or DEFAULT_CONVERSATION
        self._spec = VqaSpec(
            name=name,
            template=QuestionTemplate(question, answer, conversation),
            aspect=section.image_aspect_ratio,
            tokenizer=section.tokenizer,
            vision_tower=section.vision_tower,
            pixels=PixelOverrides(section.max_pixels, section.tiles),
            repetition_penalty=section.repetition_penalty,
        )

    @property
    def template(self) -> QuestionTemplate:
        """How it is asked about a caption."""
        return self._spec.template

    def open(self, context: BuildContext) -> VqaEncoders:
        """Its encoders, shared through the context.

        Raises:
            ConfigError: The family does not take all that the section says.
        """
        return self._entry.open(self._spec, context)

    def worded(self, prompt: str | None) -> QuestionTemplate:
        """How it is asked a question of the caller's own, with the family's own answers.

        Args:
            prompt: What it reads; `{}` stands for the question. None: the question and then what ends the family's
                own; of the embedded network, which knows only one question, that one.

        Raises:
            ConfigError: It has no place for the question.
        """
        if prompt is None:
            prompt = self._entry.question if self.is_embedded else self._entry.prompt
        return QuestionTemplate(prompt, self._entry.answer, self._spec.template.conversation)

    def conventions(self, value: str, template: QuestionTemplate) -> dict[str, str]:
        """How a value is made.

        Args:
            value: What it is, in words.
            template: What the network is asked.
        """
        facts: dict[str, str] = {"value": value, "family": self.family}
        facts |= {"question": template.question, "answer": template.answer}
        if self.family == "clip-flant5":
            facts["conversation"] = template.conversation
        if self._spec.repetition_penalty != 1.0:
            facts["repetition_penalty"] = f"{self._spec.repetition_penalty:g}"
        return facts

    @property
    def answer_value(self) -> str:
        """What an answer's likelihood is, in words."""
        return self._entry.value


def _checkpoint(section: VqaSection, scorer: str) -> tuple[str, Family]:
    if section.model is not None:
        return section.model, settle_family(section.model, section.family)
    if section.family not in {None, "clip-flant5"}:
        raise ConfigError(f"The section {scorer} needs a model for the family {section.family}.")
    folder = embedded_folder(EMBEDDED)
    if folder is None:
        raise CheckpointNotFoundError(f"The package holds no {EMBEDDED}; name a model for {scorer}.", name=EMBEDDED)
    return str(folder), "clip-flant5"
