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
from typing import Any, ClassVar, Self

from plumbline_models.core.errors import MissingTextError, PlumblineError
from plumbline_models.core.protocols import BuildContext, Embedded, Encoder, Score, ScorerInfo
from plumbline_models.core.sections import parse_section
from plumbline_models.networks.likelihood import AnswerLikelihood
from plumbline_models.networks.vqa import VqaEncoders
from plumbline_models.networks.vqa_section import VQA_PATHS, VqaNetwork, VqaSection
from plumbline_models.weights.paths import Paths


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
    paths: ClassVar[Paths] = VQA_PATHS
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
        network = VqaNetwork(parse_section(VqaSection, options, scorer=cls.info.name), cls.info.name)
        return cls(network.open(context), network.conventions(network.answer_value, network.template))

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
