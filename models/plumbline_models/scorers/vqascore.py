"""VQAScore: how likely a question-answering network says that the image shows the text.

Lin et al., "Evaluating Text-to-Visual Generation with Image-to-Text Generation", ECCV 2024, arXiv:2404.01291,
section 3. The question is `Does this figure show "{}"? Please answer yes or no.`, and the score is how likely it
answers `Yes`. As in the authors' program there are two conventions, which are not on one scale: CLIP-FlanT5 and
LLaVA-1.5 answer with an end of sequence, and the score is the geometric mean sqrt(p(Yes) p(end | Yes)); of the other
families it is p(Yes) as first token.

We differ where a caption holds control tokens: they are read as plain text. Beside the score stand its logarithms, and
`p_no`, the probability that the answer begins with `No`, which the authors recommend for further use.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from plumbline_models.core.errors import CheckpointNotFoundError, ConfigError, MissingTextError, PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.causal.checkpoint import PixelOverrides
from plumbline_models.networks.likelihood import AnswerLikelihood
from plumbline_models.networks.vqa import FAMILIES, VqaEncoders, VqaSpec
from plumbline_models.networks.vqa_family import Family, settle_family
from plumbline_models.text.questions import DEFAULT_CONVERSATION, QuestionTemplate
from plumbline_models.weights.embedded import embedded_folder
from plumbline_models.weights.folders import trained_conversation
from plumbline_models.weights.paths import Paths

EMBEDDED: Final = "mini-flant5"


class VqaOptions(BaseModel):
    """The section `vqascore` of the configuration."""

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


class VqaScore:
    """The likelihood that the answer to the question is yes."""

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="vqascore",
        summary="Probability that a question-answering network answers Yes to whether the image shows the text.",
        needs=frozenset({"image", "text"}),
        low=0.0,
        high=1.0,
        higher_is_better=True,
        source="arXiv:2404.01291",
        has_embedded_weights=True,
    )
    paths: ClassVar[Paths] = dict.fromkeys(("model", "tokenizer", "vision_tower"), "folder or hub name")
    relative_cost: float = 2000.0  # of the XL checkpoint: 373 GFLOP an image and 1579 a pair

    def __init__(self, encoders: VqaEncoders, conventions: Mapping[str, str]) -> None:
        self.image: Encoder = encoders.image
        self.text: Encoder | None = None
        self.pair: Encoder = encoders.pair
        self.conventions: Mapping[str, str] = conventions

    @classmethod
    def build(cls, options: Mapping[str, Any], context: BuildContext) -> Self:
        """Make the scorer from its section of the configuration; loads no weights.

        Args:
            options: The section, not validated yet.
            context: What scorers are built with; encoders are shared through it.

        Raises:
            ConfigError: The section is not valid, or says another family than the checkpoint.
            CheckpointError: There is no such checkpoint, or it is of no family here.
        """
        section = parse_section(VqaOptions, options, scorer=cls.info.name)
        name, family = _checkpoint(section)
        spec = _spec(section, name, family)
        return cls(FAMILIES[family].open(spec, context), _conventions(family, spec))

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each pair.

        Args:
            batch: `pairs` holds an `AnswerLikelihood` for each item.

        Returns:
            Values in [0, 1], higher is better. `log_p_yes` and `log_p_eos` are the logarithms of the configured
            answer's words and of its end; `p_no` is the probability of `No` as first token.

        Raises:
            MissingTextError: The batch has no pairs.
        """
        if batch.pairs is None:
            raise MissingTextError("vqascore needs an image and a text.", scorer=self.info.name)
        return [_score(likelihood) for likelihood in batch.pairs]


def _score(likelihood: AnswerLikelihood) -> Score:
    details = {"p_no": math.exp(likelihood.rival_log_prob), "log_p_yes": likelihood.words_log_prob}
    if likelihood.end_log_prob is not None:
        details["log_p_eos"] = likelihood.end_log_prob
    return Score(value=likelihood.mean_prob, details=details)


def _checkpoint(section: VqaOptions) -> tuple[str, Family]:
    if section.model is not None:
        return section.model, settle_family(section.model, section.family)
    if section.family not in {None, "clip-flant5"}:
        raise ConfigError(f"The section vqascore needs a model for the family {section.family}.")
    return _embedded(), "clip-flant5"


def _spec(section: VqaOptions, name: str, family: Family) -> VqaSpec:
    entry = FAMILIES[family]
    question = entry.question if section.question is None else section.question
    answer = entry.answer if section.answer is None else section.answer
    conversation = section.conversation or trained_conversation(name) or DEFAULT_CONVERSATION
    return VqaSpec(
        name=name,
        template=QuestionTemplate(question, answer, conversation),
        aspect=section.image_aspect_ratio,
        tokenizer=section.tokenizer,
        vision_tower=section.vision_tower,
        pixels=PixelOverrides(section.max_pixels, section.tiles),
        repetition_penalty=section.repetition_penalty,
    )


def _conventions(family: Family, spec: VqaSpec) -> dict[str, str]:
    facts: dict[str, str] = {"value": FAMILIES[family].value, "family": family}
    facts |= {"question": spec.template.question, "answer": spec.template.answer}
    if family == "clip-flant5":
        facts["conversation"] = spec.template.conversation
    if spec.repetition_penalty != 1.0:
        facts["repetition_penalty"] = f"{spec.repetition_penalty:g}"
    return facts


def _embedded() -> str:
    folder = embedded_folder(EMBEDDED)
    if folder is None:
        raise CheckpointNotFoundError(f"The package holds no {EMBEDDED}; name a model for vqascore.", name=EMBEDDED)
    return str(folder)
