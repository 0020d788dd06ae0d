"""The bodies of requests about decisions, as `requests` has those about scores."""

from pydantic import Field

from plumbline_models.decisions.conformal import Direction
from plumbline_serve.edge.parsing import (
    ArtefactName,
    Combinations,
    Correlation,
    CorrelationInterval,
    Finite,
    PerLabel,
    Seed,
    Share,
    TagText,
    Temperature,
)
from plumbline_serve.edge.schemas.base import Request
from plumbline_serve.edge.schemas.requests import Combination, ImageSource


class CalibrationRequest(Request):
    """Find a threshold from labelled scores, and keep it."""

    name: ArtefactName = Field(description="By which a filter's condition uses it. One of the same name is replaced.")
    scorer: str = Field(description="Whose scores they are, as this service gives them now.")
    alpha: Share = Field(description="Share of good ones that may be lost, or of bad ones that may pass.")
    direction: Direction = Field(
        description="`keep_good`: at most alpha of the good ones are lost. `reject_bad`: at most alpha of the bad ones "
        "pass."
    )
    scores: PerLabel[Finite] = Field(description="Of items that nobody chose by their score.")
    labels: PerLabel[bool] = Field(description="Whether each is of a good one; as many as scores.")
    groups: PerLabel[TagText] | None = Field(
        None,
        description="The group of each, such as the class of its prompt, as many as scores: every group gets a "
        "threshold of its own beside that of all.",
    )
    confidence: Share | None = Field(
        None,
        description="The promise holds for such a share of calibrations, which takes more labels. By default it holds "
        "on average over calibrations.",
    )


class SelectRequest(Request):
    """Choose one of N images for a text."""

    text: str
    images: list[ImageSource] = Field(description="What to choose from.")
    scorer: str | None = Field(
        None,
        description="Or a combination. By default the request's only combination, else the first loaded scorer that "
        "takes an image and a text.",
    )
    combine: Combinations[Combination] = Field(default_factory=dict, description="By the name that `scorer` may give.")
    correlation: Correlation | None = Field(
        None,
        description="Of the score with what people want, over images that nobody chose, within prompts "
        "(`plumbline calibrate --human`). Without it nothing is certified.",
    )
    correlation_interval: CorrelationInterval | None = Field(
        None, description="Its lower and upper end, with the correlation between them. The lower one is used."
    )
    temperature: Temperature | None = Field(
        None,
        description="An image is drawn by the softmax of score over temperature. By default the best is chosen.",
    )
    seed: Seed | None = Field(None, description="Of the draw: the same one, the same image. By default any.")
