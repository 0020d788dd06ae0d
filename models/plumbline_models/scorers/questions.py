"""Questions: how probable the right answer is to each of an item's yes-or-no questions about its image.

Hu et al., "TIFA", ICCV 2023, arXiv:2303.11897, asks what a caption states, question by question; Cho et al.,
"Davidsonian Scene Graph", ICLR 2024, arXiv:2310.18235, section 3, counts a question as 0 where one that it depends on
fails; Kamath et al., "GenEval 2", arXiv:2512.16853, takes probabilities in place of answers, and their mean of an item
(Soft-TIFA AM) or their geometric mean (GM).

Differences to those programs: a question's value is the probability of one word, `Yes` or `No`, and what a question
fails by is a threshold on it; DSG's program looks at the parents' own answers, so that a grandchild may count where
its parent does not: here a question that counts as 0 has failed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias

from pydantic import Field

from plumbline_models.core.errors import MissingQuestionsError, PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Score, ScorerInfo
from plumbline_models.core.questions import Question, parents_first
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.likelihood import AnswerLikelihood
from plumbline_models.networks.vqa import VqaEncoders
from plumbline_models.networks.vqa_section import VQA_PATHS, VqaNetwork, VqaSection
from plumbline_models.text.questions import QuestionTemplate
from plumbline_models.weights.paths import Paths

THRESHOLD: Final = 0.5
"""The network says the right answer rather than everything else together."""
Pooling: TypeAlias = Literal["mean", "min", "geometric_mean"]


class QuestionsSection(VqaSection):
    """The section `questions` of the configuration; what it shares with `vqascore` says which network."""

    prompt: str | None = None
    """What the network reads; `{}` stands for a question. None: the question and what ends the family's own."""
    threshold: float = Field(THRESHOLD, gt=0.0, le=1.0)
    """A question whose right answer is less probable has failed."""
    value: Pooling = "mean"
    """What an item's value is of its questions' values."""


class Questions:
    """How an image answers an item's questions.

    Args:
        encoders: The network's.
        template: What it is asked.
        section: As configured.
        conventions: How the value is made.
    """

    info: ClassVar[ScorerInfo] = ScorerInfo(
        name="questions",
        summary="Probability of the right answer to each of the item's yes-or-no questions; the value is their mean.",
        needs=frozenset({"image", "questions"}),
        low=0.0,
        high=1.0,
        higher_is_better=True,
        source="arXiv:2310.18235",
    )
    paths: ClassVar[Paths] = VQA_PATHS
    relative_cost: float = 16000.0  # of ten questions to the XL checkpoint of CLIP-FlanT5

    def __init__(
        self,
        encoders: VqaEncoders,
        template: QuestionTemplate,
        section: QuestionsSection,
        conventions: Mapping[str, str],
    ) -> None:
        self.image: Encoder = encoders.image
        self.text: Encoder | None = None
        self.pair: Encoder = encoders.pair
        self.template = template
        self._threshold = section.threshold
        self._pooling = section.value
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
        section = parse_section(QuestionsSection, options, scorer=cls.info.name)
        network = VqaNetwork(section, cls.info.name)
        template = network.worded(section.prompt)
        value = f"{section.value} of the probabilities of the right answers"
        conventions = {**network.conventions(value, template), "threshold": f"{section.threshold:g}"}
        return cls(network.open(context), template, section, conventions)

    def score(self, batch: Embedded) -> Sequence[Score | PlumblineError]:
        """Score each item's questions.

        Args:
            batch: `questions` holds at least one question for each item, `pairs` as many likelihoods in their order.

        Returns:
            Values in [0, 1], higher is better. `answers` says of each question the probabilities of yes and no
            (`p_yes`, `p_no`) and its `score`: that of the right answer, 0 where it depends on a question that failed.
            `mean` and `min` are of those scores, `failed` lists the questions below the threshold by index, and
            `rates` is the share of questions that passed, by tag.

        Raises:
            MissingQuestionsError: The batch has no questions.
        """
        if batch.pairs is None or batch.questions is None:
            raise MissingQuestionsError("questions needs an image and questions.", scorer=self.info.name)
        return [self._score(*each) for each in zip(batch.questions, batch.pairs, strict=True)]

    def _score(self, questions: Sequence[Question], likelihoods: Sequence[AnswerLikelihood]) -> Score:
        answers = [
            {"p_yes": math.exp(each.words_log_prob), "p_no": math.exp(each.rival_log_prob)} for each in likelihoods
        ]
        asked = [answer[f"p_{question.expect}"] for question, answer in zip(questions, answers, strict=True)]
        scores = self._without_orphans(questions, asked)
        mean, least = math.fsum(scores) / len(scores), min(scores)
        pooled = {"mean": mean, "min": least, "geometric_mean": _geometric_mean(scores)}
        details = {
            "mean": mean,
            "min": least,
            "failed": [index for index, score in enumerate(scores) if score < self._threshold],
            "rates": self._rates(questions, scores),
            "answers": [{**answer, "score": score} for answer, score in zip(answers, scores, strict=True)],
        }
        return Score(value=pooled[self._pooling], details=details)

    def _without_orphans(self, questions: Sequence[Question], scores: Sequence[float]) -> list[float]:
        """The scores, 0 where a parent failed."""
        found = list(scores)
        for index in parents_first(questions):
            if any(found[parent] < self._threshold for parent in questions[index].depends_on):
                found[index] = 0.0
        return found

    def _rates(self, questions: Sequence[Question], scores: Sequence[float]) -> dict[str, float]:
        passed: dict[str, list[bool]] = {}
        for question, score in zip(questions, scores, strict=True):
            if question.tag is not None:
                passed.setdefault(question.tag, []).append(score >= self._threshold)
        return {tag: sum(each) / len(each) for tag, each in passed.items()}


def _geometric_mean(scores: Sequence[float]) -> float:
    return math.exp(math.fsum(map(math.log, scores)) / len(scores)) if min(scores) > 0.0 else 0.0
